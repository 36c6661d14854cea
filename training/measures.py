"""The measures of the models, as a table, and the records of their training."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from training.families import FAMILIES


@dataclass(frozen=True, slots=True)
class Measure:
    """The results of one GGUF file on held-out puzzles, answered greedily by llama.cpp.

    `accuracy` maps each family, and each "family difficulty", to the share of right answers.
    `overall` gives all families the same weight. Tokens and milliseconds are means per answer:
    the tokens of the prompt and of the answer, and the wall-clock time on one thread.
    """

    name: str
    parameters: int
    file_bytes: int
    puzzles: int
    overall: float
    accuracy: dict[str, float]
    prompt_tokens: float
    answer_tokens: float
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Record:
    """The training of one model. Seconds are wall-clock time on one thread.

    `note` describes manual steps, which a new training would not repeat.
    """

    name: str
    seed: int
    steps: int
    puzzles: int
    seconds: float
    loss: float
    note: str = ""


def write_record(path: Path, record: Record) -> None:
    """Write `record` as JSON."""
    path.write_text(json.dumps(asdict(record), indent=2) + "\n")


def read_record(path: Path) -> Record:
    """Read a record written by `write_record`."""
    return Record(**json.loads(path.read_text()))


def table(measures: Sequence[Measure]) -> str:
    """Return a Markdown table with a row per family and difficulty, and a column per model."""
    rows: list[tuple[str, Callable[[Measure], str]]] = [("**all families**", _percent_overall)]
    for family in FAMILIES:
        rows.append((f"**{family.name}**", _percent(family.name)))
        levels = range(1, len(family.measure) + 1)
        rows += [(f"{family.name}, level {level}", _percent(f"{family.name} {level}")) for level in levels]
    rows += [
        ("tokens of a prompt", lambda m: f"{m.prompt_tokens:.1f}"),
        ("tokens of an answer", lambda m: f"{m.answer_tokens:.1f}"),
        ("milliseconds per answer", lambda m: f"{m.milliseconds:.1f}"),
    ]
    lines = [["right answers, %", *(m.name for m in measures)], ["---", *("---:" for _ in measures)]]
    lines += [[label, *(cell(m) for m in measures)] for label, cell in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(name: str) -> Callable[[Measure], str]:
    return lambda m: f"{100 * m.accuracy[name]:.0f}" if name in m.accuracy else ""


def _percent_overall(m: Measure) -> str:
    return f"**{100 * m.overall:.1f}**"
