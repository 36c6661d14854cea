"""The models of a zoo: their names and order, their files or servers, and their settings.

A model's name identifies it everywhere. Arrays over models exist only inside a function, and always have the order of
`Zoo.models`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from messctl.errors import UnknownNameError, UsageError
from messctl.inputs import read_text
from messctl.zoo.schema import (
    KEYS,
    Choice,
    Flag,
    Nested,
    Number,
    Numbers,
    Place,
    Text,
    check_fields,
    checked_by,
    relative_path,
)
from messctl.zoo.server_keys import (
    FEATURES,
    MAX_TOKENS,
    MAX_TOKENS_KEYS,
    PARAMETERS,
    BaseUrl,
    NamesAmong,
    VariableName,
    exposed_key,
)

BOX = Path(__file__).parents[1] / "box"
"""The folder of the models and the zoo.yaml that come with the package."""

GPU = ("auto", "require", "off")
SPLIT_MODES = ("none", "layer", "row")
FLASH_ATTENTION = ("auto", "on", "off")
CACHE_TYPES = ("f32", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")

BOX_PREFIX = "box:"
MOST_TOKENS = 2**31 - 1  # llama.cpp counts tokens in 32 bits
USUAL_CONTEXT, USUAL_ANSWER = 4096, 512  # tokens
COST = Number(0, 1e80, least=1e-80)
"""The rule for a cost: its sums over tokens and requests stay within what a trace may hold."""
DEADLINES = 10.0  # times the longest silence of a server, for a whole answer


@dataclass(frozen=True, slots=True)
class Zoo:
    """The models, sorted by name, and the `reference`: the most capable model, which exploration serves."""

    models: tuple[str, ...]
    reference: str

    @classmethod
    def of(cls, models: Iterable[str], reference: str) -> Zoo:
        """Return the zoo of these models. Raises UnknownNameError if the reference is not one of them."""
        names = tuple(sorted(models))
        if reference not in names:
            raise UnknownNameError("reference model", reference, names)
        return cls(names, reference)

    def index(self, model: str) -> int:
        """Return the model's index, from 0, in every array over models."""
        return self.models.index(model)


def costliest(costs: Mapping[str, float]) -> str:
    """Return the model with the highest of the `costs`, by name: the usual reference of a zoo.

    On a tie it is the first by name. A cost that is not known, NaN, is below every known one. Costs may be in any
    unit, all in the same. Raises ValueError if there is no model.
    """
    return max(sorted(costs), key=lambda model: -math.inf if math.isnan(costs[model]) else costs[model])


@dataclass(frozen=True, slots=True)
class ModelPath:
    """The rule for a file's path, relative to the YAML file; `~` is the home folder, `box:` the package's files."""

    def read(self, place: Place) -> Path:
        """See `Rule`."""
        text = Text().read(place) or ""
        if text.startswith(BOX_PREFIX):
            name = text.removeprefix(BOX_PREFIX).strip()
            if not name or Path(name).name != name:
                raise place.error(f"{place.name} is {text!r}; after {BOX_PREFIX!r} give a file name without a folder")
            return BOX / name
        return relative_path(place, text)

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        return None if value is None or isinstance(value, Path) else "a path"


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """A chat template in a file of its own."""

    place: Place
    path: Path

    def text(self) -> str:
        """Return the template. Raises ConfigError if it cannot be read or is blank."""
        try:
            text = read_text(self.path)
        except OSError as error:
            raise self.place.error(
                f"the chat template {self.path} cannot be read ({error.strerror}); check its path"
            ) from None
        except UnicodeDecodeError:
            raise self.place.error(f"the chat template {self.path} is not UTF-8 text; save it as UTF-8") from None
        if not text.strip():
            raise self.place.error(
                f"the chat template {self.path} is blank; write a template into it, or remove the key"
            )
        return text


@dataclass(frozen=True, slots=True)
class _Template:
    """The rule for a template: its text, or `{file: name}`, which is read later, when the models are made."""

    def read(self, place: Place) -> str | TemplateFile | None:
        if place.kind != KEYS:
            return Text(one_line=False, optional=True).read(place)
        below = place.entries(("file",)).get("file")
        if below is None:
            raise place.error(f"{place.name} has no file; it must be text or {{file: template.jinja}}")
        return TemplateFile(below, relative_path(below, Text().read(below) or ""))

    def problem(self, value: Any) -> str | None:
        return Text(one_line=False, optional=True).problem(value)


@dataclass(frozen=True, slots=True)
class CostPerToken:
    """A model's cost in `unit`: per prompt token, per generated token, and `fixed` per request, all ≥ 0.

    zoo.yaml states it, or `messctl zoo calibrate` has measured it; then `measured` says where, when and how. `load` ≥ 0
    is the cost of loading the model once; None: it is not counted. `estimated`: the cost is neither a price nor a
    measurement, but a guess from the model's size. Raises UsageError for values out of range.
    """

    unit: str = field(metadata=checked_by(Text()))
    prompt: float = field(metadata=checked_by(COST))
    generated: float = field(metadata=checked_by(COST))
    fixed: float = field(default=0.0, metadata=checked_by(COST))
    load: float | None = field(default=None, metadata=checked_by(replace(COST, absent="uncounted")))
    measured: str | None = field(default=None, metadata=checked_by(Text(optional=True)))
    estimated: bool = field(default=False, metadata=checked_by(Flag()))

    def of(self, tokens_in: float, tokens_out: float) -> float:
        """Return the cost of a request with these numbers of tokens, ≥ 0."""
        return self.fixed + (tokens_in * self.prompt + tokens_out * self.generated)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model of the zoo, as zoo.yaml describes it. Raises UsageError for values out of range.

    It has either a `path` or a `url`. For a GGUF file on this machine:

    - `path` is the file, as an absolute path.
    - `n_ctx` is the context in tokens. 0: the model's own; None: the model's own, but USUAL_CONTEXT at most.
    - `gpu`: "auto" warns if zoo.yaml states a number of layers and llama.cpp supports no GPU. "require" makes that an
      error, "off" keeps all layers on the CPU.
    - `n_gpu_layers` is the number of layers on a GPU. -1: all; None: all if llama.cpp supports one.
    - `split_mode` is how several devices share the model; with "none" all of it is on device `main_gpu`.
    - `tensor_split` are the devices' shares; empty: in proportion to their free memory.
    - `flash_attn`, `cache_type_k` and `cache_type_v` are llama.cpp's settings of these names.
    - `n_threads` is the number of threads; None: chosen from the model's size and the physical cores.
    - `isolate`: the model runs in a process of its own.
    - `chat_template` (Jinja) replaces the one in the file.

    For a model at a server:

    - `url` is the base url of an OpenAI-compatible server, and `model` the name there (None: the same as here).
    - `key_env` is the environment variable that holds the key.
    - `timeout_s` > 0 is the longest silence of the server in seconds.
    - `deadline_s` > 0 is the longest time for an answer in seconds, with all attempts. None: DEADLINES × `timeout_s`.
    - `retries` ≥ 0 is how often a failed request is sent again.
    - `parameters` > 0 are the active parameters per token, from which the cost is estimated.
    - `omit` are the parameters that requests leave out, and `max_tokens_key` is the name under which the limit is sent.
    - `allow_http`: the key may go over plain http to another machine.
    - `thinks`: answers begin within the model's thinking, without a tag that opens it.
    - `lacks` are the features of requests that it cannot serve, and `context_tokens` ≥ 1 is its context.

    For both: `system` is the system message, and `max_tokens` ≥ 1 the limit of an answer if the request has none (None:
    USUAL_ANSWER, or the rest of the context if that is less). `temperature`, `top_p`, `top_k` and `min_p` control the
    sampling. `cost` None: estimated from the number of parameters.
    """

    name: str = field(metadata=checked_by(Text()))
    path: Path | None = field(default=None, metadata=checked_by(ModelPath()))
    n_ctx: int | None = field(default=None, metadata=checked_by(Number(0, MOST_TOKENS, whole=True, absent="auto")))
    gpu: str = field(default="auto", metadata=checked_by(Choice(GPU)))
    n_gpu_layers: int | None = field(
        default=None, metadata=checked_by(Number(-1, MOST_TOKENS, whole=True, absent="auto"))
    )
    main_gpu: int = field(default=0, metadata=checked_by(Number(0, MOST_TOKENS, whole=True)))
    split_mode: str = field(default="layer", metadata=checked_by(Choice(SPLIT_MODES)))
    tensor_split: tuple[float, ...] = field(default=(), metadata=checked_by(Numbers()))
    flash_attn: str = field(default="auto", metadata=checked_by(Choice(FLASH_ATTENTION)))
    cache_type_k: str = field(default="f16", metadata=checked_by(Choice(CACHE_TYPES)))
    cache_type_v: str = field(default="f16", metadata=checked_by(Choice(CACHE_TYPES)))
    n_threads: int | None = field(default=None, metadata=checked_by(Number(1, 1024, whole=True, absent="auto")))
    isolate: bool = field(default=False, metadata=checked_by(Flag()))
    chat_template: str | None = field(default=None, metadata=checked_by(_Template()))
    system: str | None = field(default=None, metadata=checked_by(Text(one_line=False, optional=True)))
    max_tokens: int | None = field(default=None, metadata=checked_by(Number(1, MOST_TOKENS, whole=True, absent="auto")))
    temperature: float = field(default=0.7, metadata=checked_by(Number(0)))
    top_p: float = field(default=0.95, metadata=checked_by(Number(0, 1, above=True)))
    top_k: int = field(default=40, metadata=checked_by(Number(0, MOST_TOKENS, whole=True)))
    min_p: float = field(default=0.05, metadata=checked_by(Number(0, 1)))
    cost: CostPerToken | None = field(
        default=None, metadata=checked_by(Nested(CostPerToken, optional=("fixed", "load", "measured", "estimated")))
    )
    url: str | None = field(default=None, metadata=checked_by(BaseUrl()))
    model: str | None = field(default=None, metadata=checked_by(Text(optional=True)))
    key_env: str | None = field(default=None, metadata=checked_by(VariableName()))
    timeout_s: float = field(default=60.0, metadata=checked_by(Number(0, 86400, above=True)))
    deadline_s: float | None = field(default=None, metadata=checked_by(Number(0, 864000, above=True, absent="auto")))
    retries: int = field(default=2, metadata=checked_by(Number(0, 100, whole=True)))
    parameters: float | None = field(default=None, metadata=checked_by(Number(0, 1e30, above=True, absent="unknown")))
    omit: tuple[str, ...] = field(default=(), metadata=checked_by(NamesAmong(PARAMETERS)))
    max_tokens_key: str = field(default=MAX_TOKENS, metadata=checked_by(Choice(MAX_TOKENS_KEYS)))
    thinks: bool = field(default=False, metadata=checked_by(Flag()))
    allow_http: bool = field(default=False, metadata=checked_by(Flag()))
    lacks: tuple[str, ...] = field(default=(), metadata=checked_by(NamesAmong(FEATURES)))
    context_tokens: int | None = field(
        default=None, metadata=checked_by(Number(1, MOST_TOKENS, whole=True, absent="unknown"))
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if (self.path is None) == (self.url is None):
            raise UsageError(f"model {self.name!r} must have either a path or a url")
        exposed = exposed_key(self.url or "", self.key_env, allow_http=self.allow_http)
        if exposed:
            raise UsageError(f"model {self.name!r} {exposed}")

    @property
    def file(self) -> Path:
        """Its GGUF file. Raises UsageError for a model at a url."""
        if self.path is None:
            raise UsageError(f"model {self.name!r} is at {self.url} and has no file here; use a model with a path")
        return self.path

    def context(self, own: int) -> int:
        """Return the context in tokens that the model runs with, if its own context is `own`."""
        if self.url is not None:
            return own
        return min(own or USUAL_CONTEXT, USUAL_CONTEXT) if self.n_ctx is None else self.n_ctx or own

    def answer_limit(self, requested: int | None = None) -> int:
        """Return the most tokens that an answer may have, ≥ 1; `requested` is the limit in the request, if any."""
        return requested or self.max_tokens or USUAL_ANSWER

    @property
    def longest_s(self) -> float:
        """The longest time in seconds that an answer of its server may take."""
        return DEADLINES * self.timeout_s if self.deadline_s is None else self.deadline_s

    @property
    def gpu_layers(self) -> int:
        """How many layers go to a GPU if there is one; -1: all."""
        return 0 if self.gpu == "off" else -1 if self.n_gpu_layers is None else self.n_gpu_layers

    @property
    def place(self) -> str:
        """Its file, or its url and its name there if that is another, for messages."""
        return str(self.path) if self.url is None else f"{self.url}, {self.model}" if self.model else self.url


FILE_KEYS = (
    *("n_ctx", "n_threads", "isolate", "gpu", "n_gpu_layers", "main_gpu", "split_mode", "tensor_split", "flash_attn"),
    *("cache_type_k", "cache_type_v", "chat_template", "top_k", "min_p"),
)
"""The keys for models with a file; a server has its own settings for these."""
ENDPOINT_KEYS = (
    *("model", "key_env", "timeout_s", "deadline_s", "retries", "parameters", "omit", "max_tokens_key", "thinks"),
    *("allow_http", "lacks", "context_tokens"),
)
"""The keys for models at a server."""
