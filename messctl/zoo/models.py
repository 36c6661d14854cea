"""The models of a zoo: their order and identity, where they live, and how they are run.

The zoo owns order and identity. Everything is keyed by a model's name; arrays over models exist only inside a
function, always in the order of `Zoo.models`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from messctl.errors import UnknownNameError
from messctl.zoo.schema import KEYS, Nested, Number, Place, Text, check_fields, ruled

BOX = Path(__file__).parents[1] / "box"
"""The folder of the files that are shipped with the package."""

BOX_PREFIX = "box:"
MOST_TOKENS = 2**31 - 1  # llama.cpp counts tokens in 32 bits


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
        return None if isinstance(value, Path) else "a path"


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
    """What a model costs, in `unit`, as its owner states it: per prompt token and per generated token, ≥ 0."""

    unit: str = field(metadata=ruled(Text()))
    prompt: float = field(metadata=ruled(Number(0)))
    generated: float = field(metadata=ruled(Number(0)))

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model of the zoo, as zoo.yaml describes it. Raises UsageError for values out of range.

    `path` is the GGUF file, made absolute. `n_ctx` is the context in tokens (0: the model's own);
    `n_gpu_layers` layers go to a GPU where there is one (-1: all); `n_threads` None leaves their number to
    llama.cpp. `chat_template` (Jinja) overrides the file's own. `max_tokens` bounds an answer, unless a request
    asks for another bound. `cost` None means: estimated from the number of its parameters.
    """

    name: str = field(metadata=ruled(Text()))
    path: Path = field(metadata=ruled(ModelPath()))
    n_ctx: int = field(default=4096, metadata=ruled(Number(0, MOST_TOKENS, whole=True)))
    n_gpu_layers: int = field(default=-1, metadata=ruled(Number(-1, MOST_TOKENS, whole=True)))
    n_threads: int | None = field(default=None, metadata=ruled(Number(1, 65536, whole=True, absent="auto")))
    chat_template: str | None = field(default=None, metadata=ruled(_Template()))
    system: str | None = field(default=None, metadata=ruled(Text(one_line=False, optional=True)))
    max_tokens: int = field(default=512, metadata=ruled(Number(1, MOST_TOKENS, whole=True)))
    temperature: float = field(default=0.7, metadata=ruled(Number(0)))
    top_p: float = field(default=0.95, metadata=ruled(Number(0, 1, above=True)))
    top_k: int = field(default=40, metadata=ruled(Number(0, MOST_TOKENS, whole=True)))
    min_p: float = field(default=0.05, metadata=ruled(Number(0, 1)))
    cost: CostPerToken | None = field(default=None, metadata=ruled(Nested(CostPerToken)))

    def __post_init__(self) -> None:
        check_fields(self)
