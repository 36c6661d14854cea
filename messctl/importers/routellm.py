"""RouteLLM: CSV files with a `prompt`, True or False per model, and sometimes `<model>_response`. No costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from messctl.errors import SourceError
from messctl.importers.base import Format, ImportOptions, Place
from messctl.importers.files import csv_records, expand, require_columns
from messctl.importers.names import check_models
from messctl.trace import Outcome, Row

RESPONSE = "_response"


def rows(sources: Sequence[Path], options: ImportOptions) -> Iterator[Row]:
    """Yield the rows of every file. The file's stem is the source of its requests."""
    del options
    for path in expand(sources, ["*.csv"]):
        models: list[str] = []
        for at, record in csv_records(path):
            if at.row == 1:
                require_columns(path, record, ["prompt"])
                models = _models(path, list(record))
            outcomes = {
                model: Outcome(
                    satisfied=_satisfaction(at, model, record[model]),
                    answer=record.get(model + RESPONSE) or None,
                )
                for model in models
            }
            prompt = at.text("prompt", record["prompt"])
            yield Row(f"{path.stem}/{at.row}", prompt, outcomes, source=path.stem)


def _models(path: Path, columns: list[str]) -> list[str]:
    responses = {name + RESPONSE for name in columns}
    models = [
        name
        for name in columns
        if name not in ("", "prompt") and name not in responses and not name.startswith("Unnamed:")
    ]
    if not models:
        raise SourceError(f"{path}: has no model; add a column of True/False per model beside 'prompt'")
    check_models(Place(path), {name: name for name in models})
    return models


def _satisfaction(at: Place, model: str, value: str) -> float | None:
    """Return 1 for True, 0 for False, None for an empty cell. Raises SourceError for anything else."""
    advice = "correct it, or name the columns of another table with `messctl import table`"
    satisfied = at.satisfaction(model, value, advice)
    if satisfied not in (None, 0, 1):
        raise at.error(f"is {satisfied:g}, but a cell of RouteLLM is True or False", model, advice)
    return satisfied


FORMAT = Format(
    name="routellm",
    summary="RouteLLM's CSV files of True/False per model; no costs",
    rows=rows,
)
