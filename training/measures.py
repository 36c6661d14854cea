"""What was measured of the models, as a table, and how they were trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from training.families import FAMILIES


@dataclass(frozen=True, slots=True)
class Measure:
    """The answers of one GGUF file to held-out puzzles, given greedily by llama.cpp.

    `accuracy` maps each family, and each "family difficulty", to the share of right answers;
    `overall` weighs the families alike. Tokens and milliseconds are means per answer: the tokens
    of the prompt, those of the answer, and the wall-clock time of both on one thread.
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
    """How one model was trained: seconds are wall-clock, on one thread.

    `note` is for what was done by hand, and would come out otherwise if trained anew.
    """

    name: str
    seed: int
    steps: int
    puzzles: int
    seconds: float
    loss: float
    note: str = ""


def write_record(path: Path, record: Record) -> None:
    """Keeps `record` as JSON."""
    path.write_text(json.dumps(asdict(record), indent=2) + "\n")


def read_record(path: Path) -> Record:
    """The record that `write_record` kept."""
    return Record(**json.loads(path.read_text()))


def table(measures: Sequence[Measure]) -> str:
    """A Markdown table: a row per family and difficulty, a column per model."""
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
