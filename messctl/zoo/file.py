"""zoo.yaml: what is promised, how the router keeps it, and the models. The file at the top level explains it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from messctl.errors import ConfigError, UnknownNameError, did_you_mean
from messctl.zoo.models import BOX, ENDPOINT_KEYS, FILE_KEYS, ModelSpec, TemplateFile
from messctl.zoo.schema import Choice, Number, NumberOr, Place, Text, check_fields, read_fields, read_file, ruled, rules
from messctl.zoo.settings import Settings

DEFAULT_FILE = Path("zoo.yaml")
PACKAGED_FILE = BOX / "zoo.yaml"

SLA_KEYS = ("alpha",)
ROUTER_KEYS = tuple(name for name in rules(Settings) if name not in SLA_KEYS)
DEFAULTS_KEYS = tuple(name for name in rules(ModelSpec) if name not in ("name", "path", "url", "model"))
ENERGY_KEYS = ("meter", "idle", "flop_per_j", "load_watts")
METERS = ("auto", "flops", "seconds", "nvml", "rapl", "nvml+rapl")
SUBTRACTED = "subtract"
SECTIONS = ("sla", "router", "energy", "memory", "grader", "defaults", "models")


INCLUDED = "include"


@dataclass(frozen=True, slots=True)
class _Idle(NumberOr):
    """A rule: watts, or one of two words, of which one means 0 W."""

    def read(self, place: Place) -> float | str:
        value = NumberOr.read(self, place)
        return 0.0 if value == INCLUDED else value


IDLE = _Idle((INCLUDED, SUBTRACTED), Number(0))


@dataclass(frozen=True, slots=True)
class ZooFile:
    """A zoo.yaml as it was read: `models` in the file's order, at least one, each name once.

    `grader` is a regular expression that every good answer matches, None where no rule judges unasked.
    `meter` says how costs are known (see `messctl.meters`), and `idle` how many watts of idle draw are taken off
    what is measured: SUBTRACTED measures them beforehand.
    `flop_per_j` > 0 is the stated efficiency, in floating-point operations per joule, by which FLOPs become energy
    where no model has a stated cost, and `load_watts` ≥ 0 the power while a model is loaded (None: loads are not
    counted). `budget_gb` > 0, in 10⁹ bytes, is what the models may take that are loaded at once (None: no bound).
    Either all models have a stated cost, in one unit, or none has.
    """

    path: Path
    settings: Settings
    models: tuple[ModelSpec, ...]
    grader: str | None = field(default=None, metadata=ruled(Text(optional=True)))
    meter: str = field(default="auto", metadata=ruled(Choice(METERS)))
    idle: float | str = field(default=0.0, metadata=ruled(IDLE))
    flop_per_j: float = field(default=1.0e10, metadata=ruled(Number(0, above=True)))
    load_watts: float | None = field(default=None, metadata=ruled(Number(0, absent="uncounted")))
    budget_gb: float | None = field(default=None, metadata=ruled(Number(0, above=True, absent="none")))

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def names(self) -> tuple[str, ...]:
        """The models' names, in the file's order."""
        return tuple(model.name for model in self.models)

    @property
    def budget_bytes(self) -> float | None:
        """The memory that the models loaded at once may take, None without a budget."""
        return None if self.budget_gb is None else self.budget_gb * 1e9

    def model(self, name: str) -> ModelSpec:
        """Return the model of this name. Raises UnknownNameError where there is none."""
        for model in self.models:
            if model.name == name:
                return model
        raise UnknownNameError("model", name, self.names)


def load_zoo(path: Path | None) -> ZooFile:
    """Return the zoo of a file: `path`, else ./zoo.yaml, else the zoo in the box. No model file is opened.

    Raises ConfigError, with the line, for a file that is not as documented in zoo.yaml, or without models.
    """
    if path is None:
        path = DEFAULT_FILE if DEFAULT_FILE.is_file() else PACKAGED_FILE
        if not path.is_file():
            missing = f"there is no ./{DEFAULT_FILE}, and the zoo in the box ({PACKAGED_FILE}) is not installed"
            raise ConfigError(f"{missing}; install messctl again, or name a zoo with --zoo")
    parts = _parts(path)
    settings, others = _settings(parts), _others(parts)
    models = _models(path, parts)
    _check_reference(parts, models)
    return ZooFile(path, settings, models, **others)


def load_settings(path: Path | None) -> tuple[Settings, Path | None]:
    """Return the settings of a zoo file, and that file: `path`, else ./zoo.yaml, else the defaults and None.

    The models need not be there, nor fit together. Raises ConfigError, with the line, for an unknown key or an
    impossible value anywhere in the file.
    """
    if path is None:
        if not DEFAULT_FILE.is_file():
            return Settings(), None
        path = DEFAULT_FILE
    parts = _parts(path)
    _others(parts)
    _stated_models(parts)
    return _settings(parts), path


def _parts(path: Path) -> dict[str, Place]:
    root = read_file(path)
    return {} if root is None else root.entries(SECTIONS)


def _settings(parts: Mapping[str, Place]) -> Settings:
    sla = read_fields(Settings, parts.get("sla"), SLA_KEYS)
    return Settings(**sla, **read_fields(Settings, parts.get("router"), ROUTER_KEYS))


def _others(parts: Mapping[str, Place]) -> dict[str, Any]:
    values = read_fields(ZooFile, parts.get("energy"), ENERGY_KEYS)
    values |= read_fields(ZooFile, parts.get("memory"), ("budget_gb",))
    if "grader" in parts:
        values["grader"] = rules(ZooFile)["grader"].read(parts["grader"])
        try:
            re.compile(values["grader"] or "")
        except re.error as error:
            raise parts["grader"].error(f"grader is not a regular expression ({error})") from None
    return values


def _stated_models(parts: Mapping[str, Place]) -> list[tuple[Place, dict[str, Any]]]:
    """Return each model's place, and its keys over the defaults."""
    defaults = read_fields(ModelSpec, parts.get("defaults"), DEFAULTS_KEYS)
    elements = parts["models"].elements() if "models" in parts else []
    return [(place, _with_defaults(place, defaults)) for place in elements]


def _with_defaults(place: Place, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's keys over those defaults that mean something for its kind: a file, or a url."""
    own = read_fields(ModelSpec, place)
    if "path" in own and "url" in own:
        raise place.error(f"{place.name} has both a path and a url; it is a file here or at a server")
    foreign, other = (FILE_KEYS, "path") if "url" in own else (ENDPOINT_KEYS, "url")
    for key, below in place.entries(rules(ModelSpec)).items():
        if key in foreign:
            raise below.error(f"{below.name} means something only for a model with a {other}; leave it out")
    return {key: value for key, value in defaults.items() if key not in foreign} | own


def _models(path: Path, parts: Mapping[str, Place]) -> tuple[ModelSpec, ...]:
    models: list[ModelSpec] = []
    for place, values in _stated_models(parts):
        name = values.get("name")
        if name is None:
            raise place.error(f"{place.name} has no name")
        if "path" not in values and "url" not in values:
            raise place.error(
                f"model {name!r} has no path; give the GGUF file, relative to {path.name}, or the url of a server"
            )
        if any(name == model.name for model in models):
            raise place.error(f"model {name!r} stands twice; give each its own name")
        if isinstance(values.get("chat_template"), TemplateFile):
            values["chat_template"] = values["chat_template"].text()
        model = ModelSpec(**values)
        if models:
            _check_costs(place, models[0], model)
        if model.url and model.cost is None and model.parameters is None:
            raise place.error(
                f"model {name!r} is at a url, so no file tells what it costs; state its cost, "
                "or how many parameters are active per token, as in `parameters: 8.0e+9`"
            )
        models.append(model)
    if not models:
        raise ConfigError(f"{path}: names no models; list them under `models`, each with a name and a path")
    if all(model.cost and model.cost.prompt == model.cost.generated == 0 for model in models):
        raise parts["models"].error("all models cost 0, so there is nothing to save; state what they cost")
    return tuple(models)


def _check_costs(place: Place, first: ModelSpec, model: ModelSpec) -> None:
    if (first.cost is None) != (model.cost is None):
        stated, unstated = (first, model) if first.cost else (model, first)
        raise place.error(
            f"model {stated.name!r} has a stated cost and {unstated.name!r} has none; state all of them, or none"
        )
    if first.cost and model.cost and first.cost.unit != model.cost.unit:
        raise place.error(
            f"model {model.name!r} costs {model.cost.unit}, but {first.name!r} costs {first.cost.unit}; "
            "one router cannot compare them: state all in one unit"
        )


def _check_reference(parts: Mapping[str, Place], models: tuple[ModelSpec, ...]) -> None:
    place = parts["router"].entries(ROUTER_KEYS).get("reference") if "router" in parts else None
    if place is None or place.empty:
        return
    names, reference = [model.name for model in models], place.value()
    if reference not in names:
        near = did_you_mean(reference, names)
        raise place.error(f"router.reference is {reference!r}{near}; it must be one of {', '.join(names)}")
