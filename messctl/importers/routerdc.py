"""RouterDC: a JSON list of {`question`, `scores` {model: 0..1}}. No costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from messctl.importers.base import Format, ImportOptions, Place
from messctl.importers.files import expand, json_document, json_records
from messctl.trace import Outcome, Row


def rows(sources: Sequence[Path], options: ImportOptions) -> Iterator[Row]:
    """Yield one row per element of every list. The file's stem is the source of its requests."""
    del options
    for path in expand(sources, ["*.json"]):
        for at, record in json_records(Place(path), json_document(path)):
            scores = at.mapping(at.key(record, "scores"), "scores")
            yield Row(
                request_id=f"{path.stem}/{at.row}",
                prompt=at.text("question", at.key(record, "question")),
                outcomes={
                    model: Outcome(satisfied=at.satisfaction(f"scores/{model}", score))
                    for model, score in scores.items()
                },
                source=path.stem,
            )


FORMAT = Format(
    name="routerdc",
    summary="RouterDC's JSON lists of scores per model; no costs",
    rows=rows,
)
