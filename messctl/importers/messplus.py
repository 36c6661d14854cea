"""The MESS+ reference simulator's CSV: a row per document, and a group of columns per model label L.

`label_L` (0/1), otherwise `acc_L` or `acc_norm_L`; `energy_consumption_L` (J); `inference_time_L` (s).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from messctl.errors import SourceError, did_you_mean
from messctl.importers.base import Format, ImportOptions, Place
from messctl.importers.files import csv_records, expand, require_columns
from messctl.trace import Outcome, Row

SATISFACTION = ("label_", "acc_", "acc_norm_")  # in order of preference
ENERGY = "energy_consumption_"
TIME = "inference_time_"


def rows(sources: Sequence[Path], options: ImportOptions) -> Iterator[Row]:
    """Yield one row per document. The benchmark's name is the source of the request."""
    del options
    for path in expand(sources, ["*.csv"]):
        columns: dict[str, str] = {}
        for at, record in csv_records(path):
            if at.row == 1:
                require_columns(path, record, ["doc_id", "input_text", "benchmark_name"])
                columns = _satisfaction_columns(path, list(record))
            yield Row(
                request_id=f"{record['benchmark_name']}/{record['doc_id']}",
                prompt=at.text("input_text", record["input_text"]),
                outcomes={label: _outcome(at, record, label, column) for label, column in columns.items()},
                source=record["benchmark_name"],
            )


def _outcome(at: Place, record: Mapping[str, str], label: str, column: str) -> Outcome:
    return Outcome(
        satisfied=at.satisfaction(column, record[column]),
        cost=at.cost(ENERGY + label, record.get(ENERGY + label)),
        latency_s=at.cost(TIME + label, record.get(TIME + label)),
    )


def _satisfaction_columns(path: Path, columns: list[str]) -> dict[str, str]:
    """Return the satisfaction column of every label. Raises SourceError if a label has none."""
    chosen: dict[str, str] = {}
    for prefix in SATISFACTION:
        for name in columns:
            # `acc_norm_large` is the normalised accuracy of `large`, not the accuracy of `norm_large`.
            if name.startswith(prefix) and not (prefix == "acc_" and name.startswith("acc_norm_")):
                chosen.setdefault(name.removeprefix(prefix), name)
    if not chosen:
        raise SourceError(f"{path}: has no model; add a column 'label_L', 'acc_L' or 'acc_norm_L' for each label L")
    for prefix in (ENERGY, TIME):
        _check_labels(path, columns, prefix, chosen)
    return chosen


def _check_labels(path: Path, columns: Iterable[str], prefix: str, labels: Iterable[str]) -> None:
    expected = {prefix + label: None for label in labels}
    for name in columns:
        if name.startswith(prefix) and name not in expected:
            label = name.removeprefix(prefix)
            raise Place(path).error(
                f"has no column 'label_{label}', 'acc_{label}' or 'acc_norm_{label}' beside it"
                f"{did_you_mean(name, expected)}",
                column=name,
                advice="add or rename one",
            )


FORMAT = Format(
    name="messplus",
    summary="the MESS+ reference simulator's CSV, with energies in joules",
    rows=rows,
    cost_unit="J",
    meter="reference simulator",
)
