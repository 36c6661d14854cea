"""RouteLLM: CSV files with a `prompt`, True or False per model, and sometimes `<model>_response`. No costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from messctl.errors import SourceError
from messctl.importers.base import Format, ImportOptions
from messctl.importers.files import csv_records, expand, require_columns
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
                    satisfied=at.satisfaction(model, record[model]),
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
    return models


FORMAT = Format(
    name="routellm",
    summary="RouteLLM's CSV files of True/False per model; no costs",
    rows=rows,
)
