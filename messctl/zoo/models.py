"""The models of a zoo: their order and identity, where they live, and how they are run.

The zoo owns order and identity. Everything is keyed by a model's name; arrays over models exist only inside a
function, always in the order of `Zoo.models`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from messctl.errors import UnknownNameError, UsageError
from messctl.zoo.schema import KEYS, Choice, Flag, Nested, Number, Numbers, Place, Text, check_fields, ruled

BOX = Path(__file__).parents[1] / "box"
"""The folder of the files that are shipped with the package."""

GPU = ("auto", "require", "off")
SPLIT_MODES = ("none", "layer", "row")
FLASH_ATTENTION = ("auto", "on", "off")
CACHE_TYPES = ("f32", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")

BOX_PREFIX = "box:"
MOST_TOKENS = 2**31 - 1  # llama.cpp counts tokens in 32 bits
USUAL_CONTEXT, USUAL_ANSWER = 4096, 512  # tokens


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


def costliest(costs: Mapping[str, float]) -> str:
    """Return the model with the highest of the `costs`, by name: the usual reference of a zoo.

    On a tie it is the first by name. A cost that is not known, NaN, is below every known one. Costs may be in any
    unit, all in the same. Raises ValueError if there is no model.
    """
    return max(sorted(costs), key=lambda model: -math.inf if math.isnan(costs[model]) else costs[model])


@dataclass(frozen=True, slots=True)
class ModelPath:
    """A rule: a file, relative to the YAML file; `~` is the home folder, `box:` the files of the package."""

    def read(self, place: Place) -> Path:
        """See `Rule`."""
        text = Text().read(place) or ""
        if text.startswith(BOX_PREFIX):
            name = text.removeprefix(BOX_PREFIX).strip()
            if not name or Path(name).name != name:
                raise place.error(f"{place.name} is {text!r}; after {BOX_PREFIX!r} stands the bare name of a file")
            return BOX / name
        return _below(place, text)

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        return None if value is None or isinstance(value, Path) else "a path"


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """A rule: where an OpenAI-compatible server answers, up to what its paths share, as in http://host:8080/v1.

    A url may hold a password, and is not repeated where it is refused.
    """

    secret: ClassVar[bool] = True

    def read(self, place: Place) -> str:
        """See `Rule`."""
        value = place.value()
        wanted = self.problem(value)
        if wanted or value is None:
            raise place.error(f"{place.name} must be {wanted or self._wanted}")
        return str(value).rstrip("/")

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        if value is None:
            return None
        try:
            parts = urlsplit(value if isinstance(value, str) and value.isprintable() and " " not in value else "")
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            sound = False
        if not sound:
            return self._wanted
        if "@" in parts.netloc:
            return "a url without a user or password; name the environment variable that holds the key with key_env"
        if parts.query or parts.fragment or parts.path.rstrip("/").endswith("/chat/completions"):
            return f"{self._wanted}, without what comes after it"
        return None

    _wanted: ClassVar[str] = "the base url of an OpenAI-compatible server, as in http://localhost:8080/v1"


@dataclass(frozen=True, slots=True)
class VariableName:
    """A rule: the name of an environment variable, in capitals, so that no key passes for one; or None."""

    secret: ClassVar[bool] = True

    def read(self, place: Place) -> str | None:
        """See `Rule`."""
        value = None if place.empty else place.value()
        wanted = self.problem(value)
        if wanted:
            raise place.error(f"{place.name} must be {wanted}")
        return value if value is None else str(value)

    def problem(self, value: Any) -> str | None:
        """See `Rule`."""
        if value is None or (isinstance(value, str) and re.fullmatch("[A-Z_][A-Z0-9_]*", value)):
            return None
        return "the name of an environment variable in capitals, as OPENAI_API_KEY, that holds the key; not the key"


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """A chat template that stands in a file of its own."""

    place: Place
    path: Path

    def text(self) -> str:
        """Return the template. Raises ConfigError where it cannot be read, or is blank."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except OSError as error:
            raise self.place.error(f"the chat template {self.path} cannot be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise self.place.error(f"the chat template {self.path} is not UTF-8 text") from None
        if not text.strip():
            raise self.place.error(f"the chat template {self.path} is blank")
        return text


@dataclass(frozen=True, slots=True)
class _Template:
    """A rule: the template's text, or `{file: name}`, which is read when the models are made."""

    def read(self, place: Place) -> str | TemplateFile | None:
        if place.kind != KEYS:
            return Text(one_line=False, optional=True).read(place)
        below = place.entries(("file",)).get("file")
        if below is None:
            raise place.error(f"{place.name} has no file; it is text, or {{file: template.jinja}}")
        return TemplateFile(below, _below(below, Text().read(below) or ""))

    def problem(self, value: Any) -> str | None:
        return Text(one_line=False, optional=True).problem(value)


def _below(place: Place, text: str) -> Path:
    try:
        return place.path.parent.absolute() / Path(text).expanduser()
    except RuntimeError:
        raise place.error(f"{place.name} is {text!r}; there is no such home folder") from None


@dataclass(frozen=True, slots=True)
class CostPerToken:
    """What a model costs, in `unit`: per prompt token, per generated token, and `fixed` per request, all ≥ 0.

    Its owner states it, or `messctl zoo calibrate` has measured it: `measured` then says where, when and how. `load`,
    ≥ 0, is what it costs to load the model once; None: that is not counted.
    """

    unit: str = field(metadata=ruled(Text()))
    prompt: float = field(metadata=ruled(Number(0)))
    generated: float = field(metadata=ruled(Number(0)))
    fixed: float = field(default=0.0, metadata=ruled(Number(0)))
    load: float | None = field(default=None, metadata=ruled(Number(0, absent="uncounted")))
    measured: str | None = field(default=None, metadata=ruled(Text(optional=True)))

    def of(self, tokens_in: float, tokens_out: float) -> float:
        """Return what a request of so many tokens costs."""
        return self.fixed + (tokens_in * self.prompt + tokens_out * self.generated)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model of the zoo, as zoo.yaml describes it. Raises UsageError for values out of range.

    It is run from `path`, its GGUF file, made absolute, or asked for at `url`, the base url of an OpenAI-compatible
    server, which calls it `model` (None: by its name here). `key_env` names the environment variable with the key,
    `timeout_s` is how long the server may be silent, `retries` how often a request that was lost is sent again, and
    `parameters` how many are active per token, where its cost is to be estimated by them.

    `n_ctx` is the context in tokens (0: the model's own; None: that, but USUAL_CONTEXT at most). `n_gpu_layers` go to
    a GPU (-1: all; None: all, where llama.cpp is built for one); `gpu` says what holds where it is not: "auto" warns
    where layers are asked for, "require" is an error, and "off" keeps every layer off it. Several devices share a
    model as `split_mode` says, in the proportion of `tensor_split` (empty: of their free memory); with "none" all is
    on `main_gpu`. `flash_attn` and the types of the cache's keys and values are llama.cpp's. `n_threads` None leaves
    their number to llama.cpp. With `isolate` it runs in a process of its own. `chat_template` (Jinja) overrides the
    file's own. `max_tokens` bounds an answer, unless a request asks for another bound (None: USUAL_ANSWER, or what the
    prompt leaves of the context, if that is less). `cost` None means: estimated from the number of its parameters.
    """

    name: str = field(metadata=ruled(Text()))
    path: Path | None = field(default=None, metadata=ruled(ModelPath()))
    n_ctx: int | None = field(default=None, metadata=ruled(Number(0, MOST_TOKENS, whole=True, absent="auto")))
    gpu: str = field(default="auto", metadata=ruled(Choice(GPU)))
    n_gpu_layers: int | None = field(default=None, metadata=ruled(Number(-1, MOST_TOKENS, whole=True, absent="auto")))
    main_gpu: int = field(default=0, metadata=ruled(Number(0, MOST_TOKENS, whole=True)))
    split_mode: str = field(default="layer", metadata=ruled(Choice(SPLIT_MODES)))
    tensor_split: tuple[float, ...] = field(default=(), metadata=ruled(Numbers()))
    flash_attn: str = field(default="auto", metadata=ruled(Choice(FLASH_ATTENTION)))
    cache_type_k: str = field(default="f16", metadata=ruled(Choice(CACHE_TYPES)))
    cache_type_v: str = field(default="f16", metadata=ruled(Choice(CACHE_TYPES)))
    n_threads: int | None = field(default=None, metadata=ruled(Number(1, 65536, whole=True, absent="auto")))
    isolate: bool = field(default=False, metadata=ruled(Flag()))
    chat_template: str | None = field(default=None, metadata=ruled(_Template()))
    system: str | None = field(default=None, metadata=ruled(Text(one_line=False, optional=True)))
    max_tokens: int | None = field(default=None, metadata=ruled(Number(1, MOST_TOKENS, whole=True, absent="auto")))
    temperature: float = field(default=0.7, metadata=ruled(Number(0)))
    top_p: float = field(default=0.95, metadata=ruled(Number(0, 1, above=True)))
    top_k: int = field(default=40, metadata=ruled(Number(0, MOST_TOKENS, whole=True)))
    min_p: float = field(default=0.05, metadata=ruled(Number(0, 1)))
    cost: CostPerToken | None = field(
        default=None, metadata=ruled(Nested(CostPerToken, optional=("fixed", "load", "measured")))
    )
    url: str | None = field(default=None, metadata=ruled(BaseUrl()))
    model: str | None = field(default=None, metadata=ruled(Text(optional=True)))
    key_env: str | None = field(default=None, metadata=ruled(VariableName()))
    timeout_s: float = field(default=60.0, metadata=ruled(Number(0, 86400, above=True)))
    retries: int = field(default=2, metadata=ruled(Number(0, 100, whole=True)))
    parameters: float | None = field(default=None, metadata=ruled(Number(0, above=True, absent="unknown")))

    def __post_init__(self) -> None:
        check_fields(self)
        if (self.path is None) == (self.url is None):
            raise UsageError(f"model {self.name!r} must have either a path or a url")

    @property
    def file(self) -> Path:
        """Its GGUF file. Raises UsageError for a model at a url, which has none here."""
        if self.path is None:
            raise UsageError(f"model {self.name!r} is at {self.url}, and has no file here")
        return self.path

    def context(self, own: int) -> int:
        """Return how many tokens it is run with, where the model's own context has `own`; a server's is its own."""
        if self.url is not None:
            return own
        return min(own or USUAL_CONTEXT, USUAL_CONTEXT) if self.n_ctx is None else self.n_ctx or own

    def answer_limit(self, asked: int | None = None) -> int:
        """Return how many tokens an answer may have, `asked` being what the request says of it."""
        return asked or self.max_tokens or USUAL_ANSWER

    @property
    def gpu_layers(self) -> int:
        """How many layers are to go to a GPU where there is one; -1: all."""
        return 0 if self.gpu == "off" else -1 if self.n_gpu_layers is None else self.n_gpu_layers

    @property
    def place(self) -> str:
        """Where it is: its file, or its url and its name there."""
        return str(self.path) if self.url is None else f"{self.url}, {self.model or self.name}"


FILE_KEYS = (
    *("n_ctx", "n_threads", "isolate", "gpu", "n_gpu_layers", "main_gpu", "split_mode", "tensor_split", "flash_attn"),
    *("cache_type_k", "cache_type_v", "chat_template", "top_k", "min_p"),
)
"""What says how llama.cpp runs a file; a server has settings of its own for these."""
ENDPOINT_KEYS = ("model", "key_env", "timeout_s", "retries", "parameters")
"""What says how a server is asked."""
