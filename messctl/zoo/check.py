"""The check of a zoo: every model's file or server, and the memory for all models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

from messctl.errors import BackendError, MissingExtraError
from messctl.gguf import Header, read_header
from messctl.zoo.file import ZooFile
from messctl.zoo.memory import GPU, Bytes, format_bytes, memory_needed
from messctl.zoo.models import ModelSpec

ListModels = Callable[[ModelSpec], tuple[str, ...]]
"""Returns the names of all models at a model's server. Raises BackendError."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem, in one line. `fatal`: the model cannot be used. `model` None: it concerns the whole zoo."""

    text: str
    fatal: bool = False
    model: str | None = None

    def __str__(self) -> str:
        named = self.model is None or self.text.startswith(f"model {self.model!r} ")
        return self.text if named else f"{self.model}: {self.text}"


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """A model and the header of its file.

    `context` is the context in tokens that it will have, `needed_bytes` an estimate of its memory. These and `header`
    are None if the file cannot be used, and for a model at a url. `listed` are the models at its server, None for a
    model with a file, or if the server gave no list.
    """

    spec: ModelSpec
    header: Header | None
    context: int | None
    needed_bytes: int | None
    listed: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class DeviceBudget:
    """A device's memory budget: it holds `at_once` of the `models` that use the device at the same time."""

    device: str
    budget_bytes: float
    at_once: int
    models: int

    def __str__(self) -> str:
        held = f"all {self.models}" if self.at_once == self.models else f"at most {self.at_once} of {self.models}"
        return f"memory.{self.device}_gb allows {format_bytes(self.budget_bytes)}, which holds {held} models at once"


@dataclass(frozen=True, slots=True)
class ZooCheck:
    """The result of a check: the models, all problems, and the memory in bytes.

    `needed_bytes` is for all models together, `available_bytes` is free (None: unknown), and `budgets` are the limits.
    """

    models: tuple[ModelCheck, ...]
    problems: tuple[Problem, ...]
    needed_bytes: int
    available_bytes: int | None
    budgets: tuple[DeviceBudget, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether every model can be used."""
        return not any(problem.fatal for problem in self.problems)


def check_zoo(zoo_file: ZooFile, available_bytes: int | None, list_models: ListModels | None = None) -> ZooCheck:
    """Return the check of a zoo: every model's header is read, and nothing is loaded.

    `available_bytes` of memory are free (None: unknown). `list_models` gets the models of servers; without it, models
    at urls are not checked. Raises MissingExtraError if the gguf package is needed and not installed.
    """
    models, problems = [], []
    for spec in zoo_file.models:
        if spec.path is None:
            model, found = _check_at_server(spec, list_models)
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
        problems += _check_header(spec, header, context)
    if zoo_file.grader is not None and zoo_file.grader.doubt:
        problems.append(Problem(zoo_file.grader.doubt))
    total = sum(model.needed_bytes or 0 for model in models)
    budget = zoo_file.budget
    needs = _needs(budget, models)
    problems += _over_budget(budget, needs)
    if not budget and available_bytes is not None and total > available_bytes:
        problems.append(
            Problem(
                f"all models together need about {format_bytes(total)}, but {format_bytes(available_bytes)} are free; "
                "lower n_ctx, or use smaller files"
            )
        )
    budgets = tuple(_device_budget(device, most, needs) for device, most in budget.items())
    return ZooCheck(tuple(models), tuple(problems), total, available_bytes, budgets)


def same_model(name: str, listed: str) -> bool:
    """Return whether a name means the model that a server lists as `listed`.

    Ollama lists every model with a tag. It adds `:latest` to a name without one, and finds names in any case. Google's
    server lists `models/` before each name.
    """
    name, listed = _short_name(name), _short_name(listed)
    if ":" in listed:
        name, listed = name.casefold(), listed.casefold()
    return listed in (name, f"{name}:latest")


def _short_name(name: str) -> str:
    """Return a name without what servers leave out, or put before every name."""
    return name.removeprefix("registry.ollama.ai/").removeprefix("library/").removeprefix("models/")


def _needs(budget: Bytes, models: Iterable[ModelCheck]) -> dict[str, Bytes]:
    """Return each model's memory by device; its layers are on a GPU if there is a budget for one."""
    return {
        model.spec.name: memory_needed(model.spec, model.header, offload=GPU in budget)
        for model in models
        if model.header is not None
    }


def _over_budget(budget: Bytes, needs: Mapping[str, Bytes]) -> list[Problem]:
    """Return a problem for each model that does not fit even alone."""
    return [
        Problem(
            f"needs {format_bytes(need[device])}, but memory.{device}_gb allows {format_bytes(most)}; "
            "raise it, or lower n_ctx",
            fatal=True,
            model=name,
        )
        for name, need in needs.items()
        for device, most in budget.items()
        if need.get(device, 0.0) > most
    ]


def _device_budget(device: str, most: float, needs: Mapping[str, Bytes]) -> DeviceBudget:
    """Return a device's budget; it holds the most models if they are the smallest ones."""
    parts = sorted(need[device] for need in needs.values() if need.get(device))
    return DeviceBudget(device, most, sum(total <= most for total in accumulate(parts)), len(parts))


def _check_at_server(spec: ModelSpec, list_models: ListModels | None) -> tuple[ModelCheck, list[Problem]]:
    if list_models is None:
        return ModelCheck(spec, None, None, None), []
    try:
        names = list_models(spec)
    except BackendError as error:
        return ModelCheck(spec, None, None, None), [Problem(str(error), fatal=True, model=spec.name)]
    wanted, problems = spec.model or spec.name, []
    if not any(same_model(wanted, name) for name in names):
        listed = f"it lists {', '.join(names[:10])}: set `model` to one of these" if names else "it lists none"
        problems.append(Problem(f"{spec.url} lists no model {wanted!r}; {listed}", model=spec.name))
    return ModelCheck(spec, None, None, None, names), problems


def _check_header(spec: ModelSpec, header: Header, context: int) -> list[Problem]:
    try:
        from gguf import MODEL_ARCH_NAMES  # noqa: PLC0415 (it takes longer to import than to read all headers)
    except ImportError:
        raise MissingExtraError("gguf", "llama", "checking a model file") from None

    problems = []
    if header.kind != "model":
        problems.append(
            Problem(f"{spec.path}: is of the kind {header.kind!r}, not a model; use a model's file", fatal=True)
        )
    elif header.architecture not in MODEL_ARCH_NAMES.values():
        unknown = f"the installed gguf package does not know the architecture {header.architecture!r}"
        problems.append(Problem(f"{unknown}; update gguf and llama-cpp-python if it does not load"))
    if not header.chat_template and spec.chat_template is None:
        problems.append(Problem("has no chat template; set chat_template to the one that its authors publish"))
    if context > header.context_length:
        own = f"the model's own context is {header.context_length:,}"
        problems.append(Problem(f"n_ctx is {context:,}, but {own}; lower it, as longer prompts get bad answers"))
    if spec.max_tokens is not None and spec.max_tokens >= context:
        room = f"leaves no room for a prompt in a context of {context:,}"
        problems.append(Problem(f"max_tokens is {spec.max_tokens:,}, which {room}; lower it, or remove it"))
    return [Problem(problem.text, problem.fatal, spec.name) for problem in problems]
