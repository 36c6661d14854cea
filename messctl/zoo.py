"""The zoo: which models there are, in what order, and what is promised and how it is kept.

The zoo owns order and identity. Everything is keyed by a model's name; arrays over models exist only inside a
function, always in the order of `Zoo.models`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from messctl.errors import ConfigError, UnknownNameError, UsageError, did_you_mean

DEFAULT_FILE = Path("zoo.yaml")


@dataclass(frozen=True, slots=True)
class Zoo:
    """The models, sorted by name, and the `reference`: the most capable one, which exploration serves."""

    models: tuple[str, ...]
    reference: str

    @classmethod
    def of(cls, models: Iterable[str], reference: str) -> Zoo:
        """Return the zoo of these models. Raises UnknownNameError where the reference is not among them."""
        names = tuple(sorted(models))
        if reference not in names:
            raise UnknownNameError("reference model", reference, names)
        return cls(names, reference)

    def index(self, model: str) -> int:
        """Return the model's place in every array over models."""
        return self.models.index(model)


@dataclass(frozen=True, slots=True)
class Settings:
    """What is promised, and how the router keeps it: zoo.yaml's `sla` and `router` sections.

    `alpha` (0..1) is the promised share; `v` ≥ 0 weighs cost against debt; exploration has probability
    min(1, c / t^exponent), c ≥ 0; costs are divided by `cost_scale` (> 0), or, where it is None, by the
    running mean cost of the costliest model; `seed` ≥ 0. Raises UsageError for anything else.
    """

    alpha: float = 0.8
    policy: str = "messplus"
    v: float = 0.3
    c: float = 0.2
    exponent: float = 0.25
    cost_scale: float | None = None
    reference: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("alpha", self.alpha, 0.0, 1.0),
            ("v", self.v, 0.0, math.inf),
            ("c", self.c, 0.0, math.inf),
            ("exponent", self.exponent, 0.0, math.inf),
            ("seed", self.seed, 0, math.inf),
        ):
            if not (low <= value <= high and math.isfinite(value)):
                top = "" if high == math.inf else f" and at most {high:g}"
                raise UsageError(f"{name} is {value:g}; it must be a finite number of at least {low:g}{top}")
        if self.cost_scale is not None and not (0 < self.cost_scale < math.inf):
            raise UsageError(f"cost_scale is {self.cost_scale:g}; it must be 'auto' or a finite number above 0")


def load_settings(path: Path | None) -> tuple[Settings, Path | None]:
    """Return the settings of a zoo file, and that file: `path`, else ./zoo.yaml, else the defaults and None.

    Raises ConfigError, with the line, for a file that is not as documented in zoo.yaml.
    """
    if path is None:
        if not DEFAULT_FILE.is_file():
            return Settings(), None
        path = DEFAULT_FILE
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{place}: not YAML ({getattr(error, 'problem', error)})") from None
    return _settings(path, root), path


def _settings(path: Path, root: yaml.Node | None) -> Settings:
    settings = Settings()
    kinds = {field.name: str(field.type) for field in fields(Settings)}
    allowed = {"sla": ("alpha",), "router": tuple(name for name in kinds if name != "alpha")}
    for section, section_node, _ in _items(path, root, "the file", tuple(allowed)):
        for key, node, line in _items(path, section_node, section, allowed[section]):
            value = _value(f"{path}, line {line}: {section}.{key}", node, kinds[key])
            try:
                settings = replace(settings, **{key: value})
            except UsageError as error:
                raise ConfigError(f"{path}, line {line}: {error}") from None
    return settings


def _items(
    path: Path, node: yaml.Node | None, where: str, allowed: tuple[str, ...]
) -> Iterator[tuple[str, yaml.Node, int]]:
    if node is None or node.tag == "tag:yaml.org,2002:null":
        return
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}, line {node.start_mark.line + 1}: {where} must be keys and values")
    seen: set[str] = set()
    for key_node, value in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key not in allowed:
            known = f"; known: {', '.join(allowed)}"
            raise ConfigError(f"{path}, line {line}: unknown key {key!r} in {where}{did_you_mean(key, allowed)}{known}")
        if key in seen:
            raise ConfigError(f"{path}, line {line}: key {key!r} stands twice in {where}")
        seen.add(key)
        yield key, value, line


def _value(where: str, node: yaml.Node, kind: str) -> Any:
    value: Any = yaml.safe_load(yaml.serialize(node))
    if kind == "float | None" and value == "auto":
        return None
    wanted: tuple[type, ...] = (str,) if "str" in kind else (int,) if kind == "int" else (int, float)
    fits = isinstance(value, wanted) and not isinstance(value, bool)
    if not fits:
        raise ConfigError(f"{where} is {value!r}; it must be {'text' if str in wanted else 'a number'}")
    return float(value) if kind.startswith("float") else value
