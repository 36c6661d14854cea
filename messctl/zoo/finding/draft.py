"""The zoo.yaml that is written for the models that were found, with comments."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from messctl.gguf import Header
from messctl.zoo.cost_notes import FROM_SIZE
from messctl.zoo.memory import GB, format_bytes
from messctl.zoo.models import BOX, BOX_PREFIX, costliest

MOST_CONTEXT, LEAST_CONTEXT = 8192, 1024
"""The context that a model gets, in tokens: its own, between these limits, as the memory allows."""
_PLAIN = re.compile(r"[A-Za-z_/~.][\w./~+-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """A model for zoo.yaml, either with a `path` or with a `url` and the `model` there.

    cost: joules per token, estimated. comment: what is known about it. n_ctx: its context in tokens; None: not
    written. own_context: the model's own.
    """

    name: str
    cost: float
    comment: str
    path: Path | None = None
    header: Header | None = None
    n_ctx: int | None = None
    url: str | None = None
    model: str | None = None
    key_env: str | None = None
    allow_http: bool = False
    why: str = f"{FROM_SIZE}its parameters"


def context_for(header: Header, available_bytes: int | None) -> int | None:
    """Return the context in tokens for a model: its own, but MOST_CONTEXT at most, and less if memory is short.

    available_bytes: the free memory; None: unknown. Returns None if the header does not say the model's own context.
    """
    size = min(header.context_length, MOST_CONTEXT)
    while available_bytes is not None and size > 2 * LEAST_CONTEXT and header.memory_bytes(size) > available_bytes:
        size //= 2
    return size or None


def draft(entries: Sequence[Entry], output: Path, home: Path, origin: str, available_bytes: int | None) -> str:
    """Return the text of a zoo.yaml for these models, at least one, from the cheapest to the costliest.

    output: the file that it is for. home: the home folder. origin: the machine and the day.
    """
    ordered = sorted(entries, key=lambda entry: (entry.cost, entry.name))
    reference = costliest({entry.name: entry.cost for entry in ordered})
    models = "\n".join(_model(entry, output, home) for entry in ordered)
    head = _HEAD.format(origin=origin, reference=_scalar(reference))
    return "\n".join([head, _memory(ordered, available_bytes), _DEFAULTS + models])


_HEAD = """\
# Models that `messctl zoo init` found: {origin}. Change what you like, and remove the models that you do not need.
# `messctl zoo check` checks this file and every model in it. An unknown key is an error, which names the line.

sla:
  alpha: 0.8              # the promised share of good answers, 0..1

router:
  reference: {reference}  # the costliest model, used in doubt; name another one if its answers are better
"""

_DEFAULTS = """\
defaults:                 # for every model that does not state its own
  max_tokens: auto        # the longest answer; auto: 512 tokens, or what the prompt leaves of the context
  temperature: 0.7        # 0: always the likeliest token
  # system: You are a helpful assistant. Answer briefly.

# A cost is per token read (prompt) and written (generated). `estimated: true` marks an estimate, in joules: 2
# floating-point operations per active parameter and token, and 10 billion of them per joule. It shows which model is
# cheaper, not what you pay. `messctl zoo calibrate -o FILE` measures the models that run here, and writes into FILE.
models:
"""


def _memory(entries: Iterable[Entry], available_bytes: int | None) -> str:
    """Return the section `memory`: a limit if the models do not fit together, but each of them does."""
    needs = [entry.header.memory_bytes(entry.n_ctx or 0) for entry in entries if entry.header is not None]
    total = format_bytes(sum(needs))
    if available_bytes is None or sum(needs) <= available_bytes or max(needs) > _budget(available_bytes) * GB:
        return f"# memory:\n#   cpu_gb: 8             # all loaded models together; these need about {total}\n"
    why = f"the models take turns: they need about {total}, and {format_bytes(available_bytes)} were free"
    return f"memory:\n  cpu_gb: {_budget(available_bytes):<16g}# {why}\n"


def _budget(available_bytes: int) -> float:
    return int(available_bytes / GB * 90) / 100


def _model(entry: Entry, output: Path, home: Path) -> str:
    lines = [f"# {entry.comment}", f"- name: {_scalar(entry.name)}"]
    if entry.path is not None:
        lines.append(f"  path: {_scalar(short_path(entry.path, output, home))}")
    if entry.url is not None:
        lines += [f"  url: {_scalar(entry.url)}", f"  model: {_scalar(entry.model or entry.name)}"]
    if entry.key_env is not None:
        lines.append(f"  key_env: {_scalar(entry.key_env)}")
    if entry.allow_http:
        lines.append("  allow_http: true        # the key goes over plain http, for all on the way to read")
    if entry.n_ctx is not None:
        own = entry.header.context_length if entry.header is not None else entry.n_ctx
        more = (
            "the model's own" if own == entry.n_ctx else f"the model's own is {own:,}; a larger one needs more memory"
        )
        lines.append(f"  n_ctx: {entry.n_ctx:<16}# context in tokens, {more}")
    cost = f"{entry.cost:.3g}"
    lines.append(f"  cost: {{unit: J, prompt: {cost}, generated: {cost}, estimated: true}}  # {entry.why}")
    return "".join(f"  {line}\n" for line in lines)


def short_path(path: Path, output: Path, home: Path) -> str:
    """Return a path as zoo.yaml writes it: relative below the file's folder, `~/…` below the home folder, or whole."""
    if path.parent == BOX:
        return f"{BOX_PREFIX}{path.name}"
    for folder, prefix in ((output.absolute().parent, ""), (home, "~/")):
        if path.is_relative_to(folder) and ".." not in path.parts:
            text = path.relative_to(folder).as_posix()
            if prefix or not text.startswith(("~", BOX_PREFIX)):  # else it would be read as another path
                return f"{prefix}{text}"
    return os.fspath(path)


def _scalar(text: str) -> str:
    """Return text as YAML writes it: in quotes if it would be read as anything else."""
    return text if _PLAIN.fullmatch(text) and yaml.safe_load(text) == text else json.dumps(text, ensure_ascii=False)
