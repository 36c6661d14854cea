"""Whether a zoo can be used: every model's file, and all of them against the memory that is free."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from messctl.errors import BackendError, MissingExtraError
from messctl.gguf_header import Header, read_header
from messctl.zoo.file import ZooFile
from messctl.zoo.models import ModelSpec

Listed = Callable[[ModelSpec], tuple[str, ...]]
"""Returns the names of the models that a model's server has. Raises BackendError."""
MEMINFO = Path("/proc/meminfo")
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, or unwise, in one line; `fatal` where the model cannot be used. `model` None: the whole zoo."""

    text: str
    fatal: bool = False
    model: str | None = None

    def __str__(self) -> str:
        return self.text if self.model is None else f"{self.model}: {self.text}"


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """A model beside its file's header, None where the file cannot be used.

    `context` (tokens) is what it will be run with, `needed_bytes` an estimate of the memory for that. Of a model at a
    url nothing of this is known; `listed` are the models that its server says it has, None where that was not asked.
    """

    spec: ModelSpec
    header: Header | None
    context: int | None
    needed_bytes: int | None
    listed: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ZooCheck:
    """A zoo's models as they are on disk, all problems, and the memory: needed by all, and free (None: unknown)."""

    models: tuple[ModelCheck, ...]
    problems: tuple[Problem, ...]
    needed_bytes: int
    available_bytes: int | None

    @property
    def usable(self) -> bool:
        """Whether every model can be used."""
        return not any(problem.fatal for problem in self.problems)


def check_zoo(zoo_file: ZooFile, available_bytes: int | None, listed: Listed | None = None) -> ZooCheck:
    """Read every model's header and judge it; `available_bytes` of memory are free, None where that is unknown.

    `listed` asks servers for their models; without it, models at urls are taken for granted.
    """
    models, problems = [], []
    for spec in zoo_file.models:
        if spec.path is None:
            model, found = _at_server(spec, listed)
            models.append(model)
            problems += found
            continue
        try:
            header = read_header(spec.path)
        except BackendError as error:
            models.append(ModelCheck(spec, None, None, None))
            problems.append(Problem(str(error), fatal=True, model=spec.name))
            continue
        context = spec.n_ctx or header.context_length
        models.append(ModelCheck(spec, header, context, header.memory_bytes(context)))
        problems += _problems(spec, header, context)
    needed = sum(model.needed_bytes or 0 for model in models)
    if zoo_file.budget_bytes is not None:
        problems += _beyond_budget(models, zoo_file.budget_bytes)
    elif available_bytes is not None and needed > available_bytes:
        problems.append(
            Problem(
                f"all models together need about {needed / GIB:.1f} GiB and {available_bytes / GIB:.1f} GiB are free; "
                "lower n_ctx, or use smaller files"
            )
        )
    return ZooCheck(tuple(models), tuple(problems), needed, available_bytes)


def _beyond_budget(models: Iterable[ModelCheck], budget_bytes: float) -> list[Problem]:
    """Return what does not fit into the memory budget: a model alone, or all of them at once."""
    problems, at_once, used = [], 0, 0
    needs = sorted((model.needed_bytes, model.spec.name) for model in models if model.needed_bytes is not None)
    for needed, name in needs:
        used += needed
        at_once += used <= budget_bytes
        if needed > budget_bytes:
            text = f"needs about {needed / 1e9:.3g} GB and memory.budget_gb is {budget_bytes / 1e9:.3g}: it never loads"
            problems.append(Problem(text, fatal=True, model=name))
    if at_once < len(needs) and not problems:
        text = (
            f"the memory budget of {budget_bytes / 1e9:.3g} GB holds at most {at_once} of {len(needs)} models at once"
        )
        problems.append(Problem(f"{text}; the least recently used makes room"))
    return problems


def _at_server(spec: ModelSpec, listed: Listed | None) -> tuple[ModelCheck, list[Problem]]:
    if listed is None:
        return ModelCheck(spec, None, None, None), []
    try:
        names = listed(spec)
    except BackendError as error:
        return ModelCheck(spec, None, None, None), [Problem(str(error), fatal=True, model=spec.name)]
    wanted, problems = spec.model or spec.name, []
    if wanted not in names:
        there = f"it has {', '.join(names[:10])}" if names else "it lists none"
        problems.append(Problem(f"{spec.url} lists no model {wanted!r}; {there}: see `model`", model=spec.name))
    return ModelCheck(spec, None, None, None, names), problems


def _problems(spec: ModelSpec, header: Header, context: int) -> list[Problem]:
    try:
        from gguf import MODEL_ARCH_NAMES  # noqa: PLC0415 (it takes longer to import than all headers to read)
    except ImportError:
        raise MissingExtraError("gguf", "llama", "checking a model file") from None

    problems = []
    if header.kind != "model":
        problems.append(Problem(f"{spec.path}: is of the kind {header.kind!r}, not a model", fatal=True))
    elif header.architecture not in MODEL_ARCH_NAMES.values():
        problems.append(Problem(f"the installed gguf package does not know the architecture {header.architecture!r}"))
    if not header.chat_template and spec.chat_template is None:
        problems.append(Problem("has no chat template; set chat_template to the one that its authors give"))
    if context > header.context_length:
        own = f"the model's own context is {header.context_length:,}"
        problems.append(Problem(f"n_ctx is {context:,} and {own}; what lies beyond is answered badly"))
    if spec.max_tokens >= context:
        problems.append(Problem(f"max_tokens is {spec.max_tokens:,}, which leaves no room in a context of {context:,}"))
    return [Problem(problem.text, problem.fatal, spec.name) for problem in problems]


def available_memory(meminfo: Path = MEMINFO) -> int | None:
    """Return how many bytes of memory are free for new programs, None where this system does not tell."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for line in lines:
        name, _, rest = line.partition(":")
        amount = rest.split()
        if name == "MemAvailable" and amount and amount[0].isdigit():
            return int(amount[0]) * 1024
    return None
