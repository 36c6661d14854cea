"""Rules for values, each written once beside the field that holds the value, and the reading of YAML by these rules.

A dataclass field has a rule in its metadata (`checked_by`). `check_fields` applies the rules to an object made in code.
`read_fields` applies the same rules to a YAML section; its errors name the line.
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
from messctl.inputs import read_text

RULE = "rule"
TOP, KEYS, LIST = "the file", "keys and values", "a list"
# In YAML 1.1, 1e10 and 1.0e10 are text; here they are numbers.
EXPONENTIAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
LONGEST_NUMBER = 100  # characters of a number with an exponent
LONGEST_QUOTE = 60  # characters of a wrong value in a message


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a YAML file: its node, and its name in messages, such as `sla.alpha`."""

    path: Path
    node: yaml.Node
    name: str

    @property
    def line(self) -> int:
        """Its line, counted from 1."""
        return int(self.node.start_mark.line) + 1

    def error(self, text: str) -> ConfigError:
        """Return an error with the file, the line and `text`."""
        return ConfigError(f"{self.path}, line {self.line}: {text}")

    def value(self) -> Any:
        """Return the number, text, truth value or None at this place. Raises ConfigError for anything else."""
        node = self.node
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(f"{self.name} is {self.kind}; it must be one value")
        if node.style is None and len(node.value) <= LONGEST_NUMBER and EXPONENTIAL.fullmatch(node.value):
            return float(node.value)
        try:
            return yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError, ArithmeticError, AttributeError, TypeError):  # of a wrong tag
            problem = (
                f"{self.name} is {quoted(node.value)}, which YAML cannot read; if it is text, put quotes around it"
            )
            raise self.error(problem) from None

    @property
    def kind(self) -> str:
        """The kind of node: one value, a list, or keys and values."""
        if isinstance(self.node, yaml.MappingNode):
            return KEYS
        return LIST if isinstance(self.node, yaml.SequenceNode) else "one value"

    @property
    def empty(self) -> bool:
        """Whether the value is left out, as in `sla:` with nothing below it."""
        return bool(self.node.tag == "tag:yaml.org,2002:null")

    def entries(self, known: Iterable[str]) -> dict[str, Place]:
        """Return the places below this one by key. Raises ConfigError for a key that is unknown or given twice."""
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
                raise at.error(f"key {key!r} is given twice in {self.name}; remove one")
            found[key] = Place(self.path, node, key if self.name == TOP else f"{self.name}.{key}")
        return found

    def elements(self) -> list[Place]:
        """Return the places of the items in a list; names count from 1. Raises ConfigError if it is not a list."""
        if self.empty:
            return []
        if self.kind != LIST:
            raise self.error(f"{self.name} must be a list; begin each item with '- '")
        return [Place(self.path, node, f"{self.name}[{i}]") for i, node in enumerate(self.node.value, 1)]


def read_file(path: Path) -> Place | None:
    """Return the top of a YAML file; None if it is empty. Raises ConfigError for invalid YAML or an unreadable file."""
    try:
        root = yaml.compose(read_text(path), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply; remove the brackets that do not belong there") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{path}{place}: invalid YAML ({getattr(error, 'problem', None) or error}); correct it"
        ) from None
    return None if root is None else Place(path, root, TOP)


class Rule(Protocol):
    """A condition on a value. If it has an attribute `secret` that is true, no message shows the value."""

    def read(self, place: Place) -> Any:
        """Return the value at a place. Raises ConfigError, with the line, if it breaks the rule."""

    def problem(self, value: Any) -> str | None:
        """Return what `value` must be if it breaks the rule, None if it does not."""


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number, `low` ≤ number ≤ `high`; with `above`, `low` < number.

    `whole`: it must be an integer. `absent` is the word for None; without it None is refused. What is below `least`
    and not 0 is refused.
    """

    low: float = 0.0
    high: float = math.inf
    above: bool = False
    whole: bool = False
    absent: str | None = None
    least: float = 0.0

    def read(self, place: Place) -> float | int | None:
        """See `Rule`."""
        if self.absent is not None and place.value() == self.absent:
            return None
        value: float | int | None = accepted(self, place)
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
        within = self.low <= number <= self.high and math.isfinite(number) and not 0 < number < self.least
        return None if within and not (self.above and number == self.low) else self._wanted()

    def _wanted(self) -> str:
        kind = "a whole number" if self.whole else "a finite number"
        low = f"above {self.low:g}" if self.above else f"of at least {self.low:g}"
        high = f" and at most {self.high:.12g}" if self.high < math.inf else ""
        word = f"{self.absent!r} or " if self.absent else ""
        tiny = f", and 0 or at least {self.least:g}" if self.least else ""
        return f"{word}{kind} {low}{high}{tiny}"


@dataclass(frozen=True, slots=True)
class Text:
    """Text that is not blank. `one_line`: no line breaks or control characters. `optional`: None is allowed."""

    one_line: bool = True
    optional: bool = False

    def read(self, place: Place) -> str | None:
        """See `Rule`."""
        return accepted(self, place)

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
    """One of `words`, as written in the file: `on`, `off` and `none` are words here, not truth values or None."""

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
    """A list of finite numbers, each ≥ 0 and not all 0; empty if it is left out."""

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
    """One of `words`, or a number that `number` allows."""

    words: tuple[str, ...]
    number: Number

    def read(self, place: Place) -> float | str:
        """See `Rule`."""
        value = accepted(self, place)
        return str(value) if value in self.words else float(value)

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        wanted = None if value in self.words else self.number.problem(value)
        return wanted and f"{', '.join(self.words)} or {wanted}"


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    def read(self, place: Place) -> bool:
        """See `Rule`."""
        return bool(accepted(self, place))

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        return None if isinstance(value, bool) else "true or false"


@dataclass(frozen=True, slots=True)
class Nested:
    """A section for a dataclass `kind`, which needs all keys except the `optional` ones; None if it is left out."""

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


def checked_by(rule: Rule) -> Mapping[str, Rule]:
    """Return the metadata that gives a dataclass field its rule."""
    return {RULE: rule}


def rules(kind: type[Any]) -> dict[str, Rule]:
    """Return a dataclass's rules by field name, in the order of its fields."""
    return {field.name: field.metadata[RULE] for field in fields(kind) if RULE in field.metadata}


def check_fields(instance: Any) -> None:
    """Raise UsageError for the first field that breaks its rule."""
    for name, rule in rules(type(instance)).items():
        if refusal := _refusal(rule, getattr(instance, name)):
            raise UsageError(f"{name} {refusal}")


def accepted(rule: Rule, place: Place) -> Any:
    """Return the value at a place. Raises ConfigError, with the line, if it breaks the rule."""
    value = place.value()
    if refusal := _refusal(rule, value):
        raise place.error(f"{place.name} {refusal}")
    return value


def _refusal(rule: Rule, value: Any) -> str | None:
    """Return what a message says of a value that breaks a rule, after the value's name; None if it does not."""
    wanted = rule.problem(value)
    if wanted is None:
        return None
    return f"must be {wanted}" if getattr(rule, "secret", False) else f"is {quoted(value)}; it must be {wanted}"


def read_fields(kind: type[Any], place: Place | None, names: Iterable[str] | None = None) -> dict[str, Any]:
    """Return the values in a section for the fields `names` of a dataclass, by default all. Raises ConfigError."""
    if place is None:
        return {}
    known = rules(kind)
    return {key: known[key].read(below) for key, below in place.entries(known if names is None else names).items()}


def relative_path(place: Place, text: str) -> Path:
    """Return a path that is relative to the YAML file; `~` is the home folder. Raises ConfigError if there is none."""
    try:
        return place.path.parent.absolute() / Path(text).expanduser()
    except RuntimeError:
        raise place.error(f"{place.name} is {text!r}, but there is no such home folder; write the full path") from None


def quoted(value: Any) -> str:
    """Return `value` as a message shows it: numbers plainly, other values as Python writes them, cut if long."""
    if isinstance(value, float):
        return f"{value:g}"
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write integers of more than 4,300 digits
        return "a number of many digits"
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}…"
