"""What a value may be, stated once beside the field that holds it, and how YAML is read by such statements.

A dataclass field carries a rule in its metadata (`ruled`). `check_fields` applies the rules where an object
is made in code; `read_fields` applies the same rules to a YAML section, and knows the line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Protocol

import yaml

from messctl.errors import ConfigError, UsageError, did_you_mean

RULE = "rule"
TOP, KEYS, LIST = "the file", "keys and values", "a list"
# YAML 1.1 takes 1e10 and 1.0e10 for text; whoever writes them means a number.
EXPONENTIAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
LONGEST_QUOTE = 60  # characters of a wrong value that a message repeats


@dataclass(frozen=True, slots=True)
class Place:
    """A spot in a YAML file: its node, and how a message calls it, as in `sla.alpha`."""

    path: Path
    node: yaml.Node
    name: str

    @property
    def line(self) -> int:
        """Its line, from 1."""
        return int(self.node.start_mark.line) + 1

    def error(self, text: str) -> ConfigError:
        """Return the error that says `text` about this place."""
        return ConfigError(f"{self.path}, line {self.line}: {text}")

    def value(self) -> Any:
        """Return the number, text, truth value or None that stands here. Raises ConfigError for anything else."""
        node = self.node
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(f"{self.name} is {self.kind}; it must be one value")
        if node.style is None and EXPONENTIAL.fullmatch(node.value):
            return float(node.value)
        try:
            return yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError, ArithmeticError):
            raise self.error(f"{self.name} is {quoted(node.value)}, which cannot be understood") from None

    @property
    def kind(self) -> str:
        """What stands here: one value, a list, or keys and values."""
        if isinstance(self.node, yaml.MappingNode):
            return KEYS
        return LIST if isinstance(self.node, yaml.SequenceNode) else "one value"

    @property
    def empty(self) -> bool:
        """Whether nothing stands here, as in `sla:` without anything below it."""
        return bool(self.node.tag == "tag:yaml.org,2002:null")

    def entries(self, known: Iterable[str]) -> dict[str, Place]:
        """Return the places below this one by key. Raises ConfigError for a key unknown, or given twice."""
        if self.empty:
            return {}
        if self.kind != KEYS:
            raise self.error(f"{self.name} must be {KEYS}")
        known = tuple(known)
        found: dict[str, Place] = {}
        for key_node, node in self.node.value:
            at = Place(self.path, key_node, "a key")
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else at.kind
            if key not in known:
                near = did_you_mean(key, known)
                raise at.error(f"unknown key {quoted(key)} in {self.name}{near}; known: {', '.join(known)}")
            if key in found:
                raise at.error(f"key {key!r} stands twice in {self.name}")
            found[key] = Place(self.path, node, key if self.name == TOP else f"{self.name}.{key}")
        return found

    def elements(self) -> list[Place]:
        """Return the places of the list that stands here, numbered from 1. Raises ConfigError for no list."""
        if self.empty:
            return []
        if self.kind != LIST:
            raise self.error(f"{self.name} must be a list, each item beginning with '- '")
        return [Place(self.path, node, f"{self.name}[{i}]") for i, node in enumerate(self.node.value, 1)]


def read_file(path: Path) -> Place | None:
    """Return the top of a YAML file, None where the file is empty. Raises ConfigError for what is not YAML."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{place}: not YAML ({getattr(error, 'problem', None) or error})") from None
    return None if root is None else Place(path, root, TOP)


class Rule(Protocol):
    """What a value may be."""

    def read(self, place: Place) -> Any:
        """Return the value that YAML states. Raises ConfigError, with the line, for one that may not be."""

    def problem(self, value: Any) -> str | None:
        """Return what `value` must be, where it is not."""


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number, `low` ≤ number ≤ `high`, or `low` < number where `above`.

    `whole` asks for an integer; `absent` is the word that stands for None, and allows None.
    """

    low: float = 0.0
    high: float = math.inf
    above: bool = False
    whole: bool = False
    absent: str | None = None

    def read(self, place: Place) -> float | int | None:
        """See `Rule`."""
        value = place.value()
        if self.absent is not None and value == self.absent:
            return None
        wanted = self.problem(value)
        if wanted:
            raise place.error(f"{place.name} is {quoted(value)}; it must be {wanted}")
        return value if self.whole or value is None else float(value)

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        if value is None and self.absent is not None:
            return None
        if not isinstance(value, Integral if self.whole else Real) or isinstance(value, bool):
            return self._wanted()
        try:
            number = float(value)
        except OverflowError:
            return self._wanted()
        within = self.low <= number <= self.high and math.isfinite(number) and not (self.above and number == self.low)
        return None if within else self._wanted()

    def _wanted(self) -> str:
        kind = "a whole number" if self.whole else "a finite number"
        low = f"above {self.low:g}" if self.above else f"of at least {self.low:g}"
        high = f" and at most {self.high:.12g}" if self.high < math.inf else ""
        word = f"{self.absent!r} or " if self.absent else ""
        return f"{word}{kind} {low}{high}"


@dataclass(frozen=True, slots=True)
class Text:
    """Text that is not blank; `one_line` excludes line breaks and control characters, `optional` allows None."""

    one_line: bool = True
    optional: bool = False

    def read(self, place: Place) -> str | None:
        """See `Rule`."""
        value: str | None = place.value()
        wanted = self.problem(value)
        if wanted:
            raise place.error(f"{place.name} is {quoted(value)}; it must be {wanted}")
        return value

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        if value is None and self.optional:
            return None
        if not isinstance(value, str):
            return "text (put quotes around it)"
        if not value.strip():
            return "text that is not blank"
        return "text on one line, without control characters" if self.one_line and not value.isprintable() else None


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words, as they are written: `on`, `off` and `none` are words here."""

    words: tuple[str, ...]

    def read(self, place: Place) -> str:
        """See `Rule`."""
        value = place.node.value if isinstance(place.node, yaml.ScalarNode) else place.value()
        if value not in self.words:
            raise place.error(f"{place.name} is {quoted(value)}{did_you_mean(value, self.words)}; it must be {self}")
        return str(value)

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        return None if value in self.words else str(self)

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"


@dataclass(frozen=True, slots=True)
class Numbers:
    """A list of finite numbers, each ≥ 0 and not all 0; empty where nothing is stated."""

    def read(self, place: Place) -> tuple[float, ...]:
        """See `Rule`."""
        values = tuple(float(Number(0).read(each) or 0) for each in place.elements())
        wanted = self.problem(values)
        if wanted and not place.empty:
            raise place.error(f"{place.name} must be {wanted}")
        return values

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        sound = isinstance(value, tuple) and not any(Number(0).problem(each) for each in value)
        return None if sound and (not value or any(value)) else "a list of numbers of at least 0, not all of them 0"


@dataclass(frozen=True, slots=True)
class NumberOr:
    """One of some words, or what `number` allows."""

    words: tuple[str, ...]
    number: Number

    def read(self, place: Place) -> float | str:
        """See `Rule`."""
        value = place.value()
        if value in self.words:
            return str(value)
        wanted = self.problem(value)
        if wanted:
            raise place.error(f"{place.name} is {quoted(value)}; it must be {wanted}")
        return float(value)

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        wanted = None if value in self.words else self.number.problem(value)
        return wanted and f"{', '.join(self.words)} or {wanted}"


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def read(self, place: Place) -> bool:
        """See `Rule`."""
        value = place.value()
        wanted = self.problem(value)
        if wanted:
            raise place.error(f"{place.name} is {quoted(value)}; it must be {wanted}")
        return bool(value)

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        return None if isinstance(value, bool) else "true or false"


@dataclass(frozen=True, slots=True)
class Nested:
    """A section of its own, all of whose keys are needed but the `optional` ones; None where there is none."""

    kind: type[Any]
    optional: tuple[str, ...] = ()

    def read(self, place: Place) -> Any:
        """See `Rule`."""
        if place.empty:
            return None
        values = read_fields(self.kind, place)
        needed = [name for name in rules(self.kind) if name not in self.optional]
        for name in needed:
            if name not in values:
                raise place.error(f"{place.name} has no {name}; it needs {', '.join(needed)}")
        return self.kind(**values)

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        return None if value is None or isinstance(value, self.kind) else f"a {self.kind.__name__}"


def ruled(rule: Rule) -> Mapping[str, Rule]:
    """Return the metadata by which a dataclass field states its rule."""
    return {RULE: rule}


def rules(kind: type[Any]) -> dict[str, Rule]:
    """Return the rules of a dataclass by field, in the order of its fields."""
    return {field.name: field.metadata[RULE] for field in fields(kind) if RULE in field.metadata}


def check_fields(instance: Any) -> None:
    """Raise UsageError for the first field that is not as its rule says."""
    for name, rule in rules(type(instance)).items():
        value = getattr(instance, name)
        wanted = rule.problem(value)
        if wanted:
            is_now = "" if getattr(rule, "secret", False) else f"is {quoted(value)}; it "
            raise UsageError(f"{name} {is_now}must be {wanted}")


def read_fields(kind: type[Any], place: Place | None, names: Iterable[str] | None = None) -> dict[str, Any]:
    """Return the values that a section states for the fields `names` of a dataclass; by default for all."""
    if place is None:
        return {}
    known = rules(kind)
    return {key: known[key].read(below) for key, below in place.entries(known if names is None else names).items()}


def quoted(value: Any) -> str:
    """Return `value` as a message shows it: numbers plainly, anything else as Python writes it, never at length."""
    if isinstance(value, float):
        return f"{value:g}"
    try:
        text = repr(value)
    except ValueError:  # Python does not write integers of more than some thousand digits
        return "a number of many digits"
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}…"
