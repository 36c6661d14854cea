"""The reading of zoo.yaml: the settings, the models, and what holds for all of them.

The zoo.yaml at the top of the repository explains each key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from messctl.errors import ConfigError, UnknownNameError, did_you_mean
from messctl.zoo.grading import Grading, GradingRule
from messctl.zoo.memory import CPU, GB, GPU, Bytes
from messctl.zoo.models import BOX, ENDPOINT_KEYS, FILE_KEYS, ModelSpec, TemplateFile
from messctl.zoo.schema import (
    Choice,
    Number,
    NumberOr,
    Place,
    check_fields,
    checked_by,
    read_fields,
    read_file,
    rules,
)
from messctl.zoo.server_keys import exposed_key
from messctl.zoo.settings import Settings
from messctl.zoo.state_place import StatePlace, StateRule
from messctl.zoo.tenants import Tenant, read_tenants

DEFAULT_FILE = Path("zoo.yaml")
PACKAGED_FILE = BOX / "zoo.yaml"

SLA_KEYS = ("alpha",)
ROUTER_KEYS = tuple(name for name in rules(Settings) if name not in SLA_KEYS)
DEFAULTS_KEYS = tuple(name for name in rules(ModelSpec) if name not in ("name", "path", "url", "model"))
ENERGY_KEYS = ("meter", "idle", "flop_per_j", "load_watts")
METERS = ("auto", "flops", "seconds", "nvml", "rapl", "nvml+rapl")
FLOP_PER_J = 1.0e10
MOST_WATTS = 1e9
SUBTRACTED, INCLUDED = "subtract", "include"
SECTIONS = ("sla", "router", "state", "energy", "memory", "grader", "defaults", "models", "tenants")


@dataclass(frozen=True, slots=True)
class _Idle(NumberOr):
    """The rule for the idle draw: watts, SUBTRACTED, or INCLUDED, which means 0 W."""

    def read(self, place: Place) -> float | str:
        value = NumberOr.read(self, place)
        return 0.0 if value == INCLUDED else value


IDLE = _Idle((INCLUDED, SUBTRACTED), Number(0, MOST_WATTS))


@dataclass(frozen=True, slots=True)
class ZooFile:
    """A zoo.yaml as it was read: `models` in the file's order, at least one, each name once.

    - `settings` are its sections `sla` and `router`.
    - `grader` is how answers are graded; None: they are not graded automatically.
    - `meter` is how costs are measured, one of METERS (see `messctl.costs`). `idle` ≥ 0 is the idle draw in watts to
      subtract from measurements; SUBTRACTED: it is measured first.
    - `flop_per_j` ≥ 1 is the efficiency in floating-point operations per joule. It turns FLOPs into energy if no model
      has a stated cost.
    - `load_watts` ≥ 0 is the power while a model is loaded; None: loads are not counted.
    - `cpu_gb` and `gpu_gb` > 0, in 10⁹ bytes, limit the memory of all loaded models, on the processor and on all GPUs
      together; None: no limit.
    - `state` says where the state is, and for how long it keeps requests.
    - `tenants` are those who may ask a server, see `messctl serve`; empty: whoever is on this machine.

    Either all models have a stated cost, in one unit, or none has. Raises UsageError for values out of range.
    """

    path: Path
    settings: Settings
    models: tuple[ModelSpec, ...]
    grader: Grading | None = field(default=None, metadata=checked_by(GradingRule()))
    meter: str = field(default="auto", metadata=checked_by(Choice(METERS)))
    idle: float | str = field(default=0.0, metadata=checked_by(IDLE))
    flop_per_j: float = field(default=FLOP_PER_J, metadata=checked_by(Number(1, 1e30)))
    load_watts: float | None = field(default=None, metadata=checked_by(Number(0, MOST_WATTS, absent="uncounted")))
    cpu_gb: float | None = field(default=None, metadata=checked_by(Number(0, above=True, absent="none")))
    gpu_gb: float | None = field(default=None, metadata=checked_by(Number(0, above=True, absent="none")))
    state: StatePlace = field(default=StatePlace(), metadata=checked_by(StateRule()))
    tenants: tuple[Tenant, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def names(self) -> tuple[str, ...]:
        """The models' names, in the file's order."""
        return tuple(model.name for model in self.models)

    @property
    def budget(self) -> Bytes:
        """The limits on the memory of all loaded models, in bytes; a device without a limit has no entry."""
        return {device: most * GB for device, most in ((CPU, self.cpu_gb), (GPU, self.gpu_gb)) if most is not None}

    def model(self, name: str) -> ModelSpec:
        """Return the model of this name. Raises UnknownNameError if there is none."""
        for model in self.models:
            if model.name == name:
                return model
        raise UnknownNameError("model", name, self.names)


def load_zoo(path: Path | None) -> ZooFile:
    """Return the zoo in a file: `path`, or else ./zoo.yaml, or else the zoo in the box. No model file is opened.

    Raises ConfigError, with the line, for an unknown key, an invalid value, or a zoo without models.
    """
    if path is None:
        path = DEFAULT_FILE if DEFAULT_FILE.is_file() else PACKAGED_FILE
        if not path.is_file():
            missing = f"there is no ./{DEFAULT_FILE}, and the zoo in the box ({PACKAGED_FILE}) is not installed"
            raise ConfigError(f"{missing}; install messctl again, or give a zoo with --zoo")
    sections = _sections(path)
    settings, others = _settings(sections), _other_values(sections)
    models = _models(path, sections)
    _check_reference(sections, models)
    tenants = read_tenants(sections.get("tenants"), tuple(model.name for model in models))
    return ZooFile(path, settings, models, **others, tenants=tenants)


def load_settings(path: Path | None) -> tuple[Settings, Path | None]:
    """Return the settings in a zoo file, and that file: `path`, or else ./zoo.yaml, or else the defaults and None.

    The models may be missing, and may not fit together. Raises ConfigError, with the line, for an unknown key or an
    invalid value anywhere in the file.
    """
    if path is None:
        if not DEFAULT_FILE.is_file():
            return Settings(), None
        path = DEFAULT_FILE
    sections = _sections(path)
    _other_values(sections)
    _model_values(sections)
    return _settings(sections), path


def load_state_place(path: Path | None) -> StatePlace:
    """Return what a zoo file says of the state: `path`, or else ./zoo.yaml; if there is none, nothing.

    What else the file says is not looked at. Raises ConfigError, with the line.
    """
    if path is None and not DEFAULT_FILE.is_file():
        return StatePlace()
    place = _sections(path or DEFAULT_FILE).get("state")
    return StatePlace() if place is None else StateRule().read(place)


def own_models(path: Path) -> dict[str, float | None] | None:
    """Return the models of a zoo file that somebody else runs, with their fixed costs: none has a path or a url.

    None for a zoo that messctl runs, also in part. Raises ConfigError, also for a name that is missing or given twice.
    """
    found: dict[str, float | None] = {}
    for place, values in _model_values(_sections(path)):
        if "path" in values or "url" in values:
            return None
        name = values.get("name")
        if name is None or name in found:
            what = f"model {name!r} is given twice" if name else f"{place.name} has no name"
            raise place.error(f"{what}; give each model its own name")
        found[name] = None if values.get("cost") is None else values["cost"].fixed
    return found or None


def _sections(path: Path) -> dict[str, Place]:
    root = read_file(path)
    return {} if root is None else root.entries(SECTIONS)


def _settings(sections: Mapping[str, Place]) -> Settings:
    sla = read_fields(Settings, sections.get("sla"), SLA_KEYS)
    return Settings(**sla, **read_fields(Settings, sections.get("router"), ROUTER_KEYS))


def _other_values(sections: Mapping[str, Place]) -> dict[str, Any]:
    values = read_fields(ZooFile, sections.get("energy"), ENERGY_KEYS)
    values |= read_fields(ZooFile, sections.get("memory"), ("cpu_gb", "gpu_gb"))
    for name in ("grader", "state"):
        if name in sections:
            values[name] = rules(ZooFile)[name].read(sections[name])
    return values


def _model_values(sections: Mapping[str, Place]) -> list[tuple[Place, dict[str, Any]]]:
    """Return each model's place and its values: its own ones and the defaults for the rest."""
    defaults = read_fields(ModelSpec, sections.get("defaults"), DEFAULTS_KEYS)
    elements = sections["models"].elements() if "models" in sections else []
    return [(place, _with_defaults(place, defaults)) for place in elements]


def _with_defaults(place: Place, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's own values, and for the rest the defaults that apply to its kind, with a path or with a url."""
    own = read_fields(ModelSpec, place)
    if "path" in own and "url" in own:
        raise place.error(f"{place.name} has both a path and a url; keep the path for a file, or the url for a server")
    foreign, other = (FILE_KEYS, "path") if "url" in own else (ENDPOINT_KEYS, "url")
    for key, below in place.entries(rules(ModelSpec)).items():
        if key in foreign:
            raise below.error(f"{below.name} applies only to a model with a {other}; remove it")
    return {key: value for key, value in defaults.items() if key not in foreign} | own


def _models(path: Path, sections: Mapping[str, Place]) -> tuple[ModelSpec, ...]:
    models: list[ModelSpec] = []
    for place, values in _model_values(sections):
        name = values.get("name")
        if name is None:
            raise place.error(f"{place.name} has no name; give it one")
        if "path" not in values and "url" not in values:
            raise place.error(
                f"model {name!r} has no path and no url; give its GGUF file, relative to {path.name}, or its server"
            )
        if any(name == model.name for model in models):
            raise place.error(f"model {name!r} is given twice; give each model its own name")
        if isinstance(values.get("chat_template"), TemplateFile):
            values["chat_template"] = values["chat_template"].text()
        exposed = exposed_key(values.get("url", ""), values.get("key_env"), allow_http=values.get("allow_http", False))
        if exposed:
            raise place.error(f"model {name!r} {exposed}")
        model = ModelSpec(**values)
        if models:
            _check_costs(place, models[0], model)
        if model.url and model.cost is None and model.parameters is None:
            raise place.error(
                f"model {name!r} has a url, so no file says what it costs; state its cost, "
                "or its active parameters per token, as in `parameters: 8.0e+9`"
            )
        models.append(model)
    if not models:
        raise ConfigError(f"{path}: lists no models; add them under `models`, each with a name, and a path or a url")
    if all(model.cost and model.cost.prompt == model.cost.generated == 0 for model in models):
        raise sections["models"].error("all models cost 0, so there is nothing to save; state their real costs")
    return tuple(models)


def _check_costs(place: Place, first: ModelSpec, model: ModelSpec) -> None:
    if (first.cost is None) != (model.cost is None):
        stated, unstated = (first, model) if first.cost else (model, first)
        raise place.error(
            f"model {stated.name!r} has a stated cost, but {unstated.name!r} has none; state all costs, or none"
        )
    if first.cost and model.cost and first.cost.unit != model.cost.unit:
        raise place.error(
            f"model {model.name!r} costs {model.cost.unit}, but {first.name!r} costs {first.cost.unit}; "
            "the router cannot compare them: state all costs in one unit"
        )


def _check_reference(sections: Mapping[str, Place], models: tuple[ModelSpec, ...]) -> None:
    place = sections["router"].entries(ROUTER_KEYS).get("reference") if "router" in sections else None
    if place is None or place.empty:
        return
    names, reference = [model.name for model in models], place.value()
    if reference not in names:
        near = did_you_mean(reference, names)
        raise place.error(f"router.reference is {reference!r}{near}; it must be one of {', '.join(names)}")
