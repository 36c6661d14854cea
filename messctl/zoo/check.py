"""Whether a zoo can be used: every model's file, and all of them against the memory that is free."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from messctl.errors import BackendError, MissingExtraError
from messctl.gguf import Header, read_header
from messctl.zoo.file import ZooFile
from messctl.zoo.memory import GPU, Bytes, amount, needed
from messctl.zoo.models import ModelSpec

ListModels = Callable[[ModelSpec], tuple[str, ...]]
"""Returns the names of all models at a model's server. Raises BackendError."""


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
class Room:
    """A device's memory budget: of `models` that are to be there, it holds `at_once` at most."""

    device: str
    budget_bytes: float
    at_once: int
    models: int

    def __str__(self) -> str:
        held = f"all {self.models}" if self.at_once == self.models else f"at most {self.at_once} of {self.models}"
        return f"memory.{self.device}_gb allows {amount(self.budget_bytes)}, which holds {held} models at once"


@dataclass(frozen=True, slots=True)
class ZooCheck:
    """A zoo's models as they are on disk, all problems, and the memory.

    That is what all models need together, what is free (None: unknown), and what the budgets hold.
    """

    models: tuple[ModelCheck, ...]
    problems: tuple[Problem, ...]
    needed_bytes: int
    available_bytes: int | None
    rooms: tuple[Room, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether every model can be used."""
        return not any(problem.fatal for problem in self.problems)


def check_zoo(zoo_file: ZooFile, available_bytes: int | None, list_models: ListModels | None = None) -> ZooCheck:
    """Read every model's header and judge it; `available_bytes` of memory are free, None where that is unknown.

    `list_models` gets the models of servers; without it, models at urls are taken for granted.
    """
    models, problems = [], []
    for spec in zoo_file.models:
        if spec.path is None:
            model, found = _at_server(spec, list_models)
            models.append(model)
            problems += found
            continue
        try:
            header = read_header(spec.path)
        except BackendError as error:
            models.append(ModelCheck(spec, None, None, None))
            problems.append(Problem(str(error), fatal=True, model=spec.name))
            continue
        context = spec.context(header.context_length)
        models.append(ModelCheck(spec, header, context, header.memory_bytes(context)))
        problems += _problems(spec, header, context)
    total = sum(model.needed_bytes or 0 for model in models)
    budget = zoo_file.budget
    needs = _needs(budget, models)
    problems += _never(budget, needs)
    if not budget and available_bytes is not None and total > available_bytes:
        problems.append(
            Problem(
                f"all models together need about {amount(total)} and {amount(available_bytes)} are free; "
                "lower n_ctx, or use smaller files"
            )
        )
    rooms = tuple(_at_once(device, most, needs) for device, most in budget.items())
    return ZooCheck(tuple(models), tuple(problems), total, available_bytes, rooms)


def _needs(budget: Bytes, models: Iterable[ModelCheck]) -> dict[str, Bytes]:
    """Return what each model takes by device; its layers are on a GPU where there is a budget for that."""
    return {
        model.spec.name: needed(model.spec, model.header, offload=GPU in budget)
        for model in models
        if model.header is not None
    }


def _never(budget: Bytes, needs: Mapping[str, Bytes]) -> list[Problem]:
    """Return which models do not fit even by themselves."""
    return [
        Problem(
            f"needs {amount(need[device])}, and memory.{device}_gb allows {amount(most)}; raise it, or lower n_ctx",
            fatal=True,
            model=name,
        )
        for name, need in needs.items()
        for device, most in budget.items()
        if need.get(device, 0.0) > most
    ]


def _at_once(device: str, most: float, needs: Mapping[str, Bytes]) -> Room:
    """Return how many models a device holds at once, taking the smallest."""
    parts = sorted(need[device] for need in needs.values() if need.get(device))
    return Room(device, most, sum(total <= most for total in accumulate(parts)), len(parts))


def _at_server(spec: ModelSpec, list_models: ListModels | None) -> tuple[ModelCheck, list[Problem]]:
    if list_models is None:
        return ModelCheck(spec, None, None, None), []
    try:
        names = list_models(spec)
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
    if spec.max_tokens is not None and spec.max_tokens >= context:
        room = f"leaves no room for a prompt in a context of {context:,}"
        problems.append(Problem(f"max_tokens is {spec.max_tokens:,}, which {room}; lower it, or leave it out"))
    return [Problem(problem.text, problem.fatal, spec.name) for problem in problems]
