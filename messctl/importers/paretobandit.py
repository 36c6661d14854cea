"""ParetoBandit: JSON Lines of `prompt`, `source` and `arms` {model: {`reward`, `cost` in USD}}."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from messctl.importers.base import Format, ImportOptions, Place
from messctl.importers.files import expand, json_lines
from messctl.trace import Outcome, Row


def rows(sources: Sequence[Path], options: ImportOptions) -> Iterator[Row]:
    """Yield one row per line. The request id is the line's `id`, or the line number if there is none."""
    del options
    for path in expand(sources, ["*.jsonl"]):
        for at, record in json_lines(path):
            arms = at.mapping(at.key(record, "arms"), "arms")
            name = record.get("id")
            yield Row(
                request_id=f"{path.stem}/{at.row if name in (None, '') else name}",
                prompt=at.text("prompt", at.key(record, "prompt")),
                outcomes={model: _outcome(at, model, arm) for model, arm in arms.items() if arm is not None},
                source=str(record.get("source") or path.stem),
            )


def _outcome(at: Place, model: str, arm: object) -> Outcome:
    measured = at.mapping(arm, f"arms/{model}")
    return Outcome(
        satisfied=at.satisfaction(f"arms/{model}/reward", at.key(measured, "reward")),
        cost=at.cost(f"arms/{model}/cost", at.optional(measured, "cost")),
    )


FORMAT = Format(
    name="paretobandit",
    summary="ParetoBandit's JSON Lines of judged rewards and costs per arm",
    rows=rows,
    cost_unit="USD",
    meter="reported by ParetoBandit",
)
