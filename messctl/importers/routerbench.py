"""RouterBench: a wide table with a column per model, as CSV, Parquet or, at the user's risk, pickle.

Per model: `<model>` (score), `<model>|model_response`, `<model>|total_cost` (USD). Per request: `sample_id`,
`prompt` (often the repr of a list), `eval_name`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from messctl.errors import SourceError, UsageError, did_you_mean
from messctl.importers.base import Format, ImportOptions, Place
from messctl.importers.files import csv_records, expand, parquet_records, require_columns
from messctl.importers.names import check_models
from messctl.trace import Outcome, Row

RESPONSE = "|model_response"
TOTAL_COST = "|total_cost"
NOT_MODELS = {"", "index", "sample_id", "prompt", "eval_name", "oracle_model_to_route_to"}
OWN = {"sample_id", "eval_name"}
"""The columns by which a table of RouterBench is known if no model has costs or answers."""
Records = Iterator[tuple[Place, dict[str, Any]]]


def rows(sources: Sequence[Path], options: ImportOptions) -> Iterator[Row]:
    """Yield the rows of all tables, in order."""
    patterns = ["*.csv", "*.parquet", *(["*.pkl", "*.pickle"] if options.allow_pickle else [])]
    for path in expand(sources, patterns):
        models: list[str] = []
        for at, record in _reader(path, options)(path):
            if at.row == 1:
                require_columns(path, record, ["prompt"])
                models = _models(path, list(record))
            yield _row(at, record, models)


def _row(at: Place, record: dict[str, Any], models: Iterable[str]) -> Row:
    outcomes = {
        model: Outcome(
            satisfied=at.satisfaction(model, record[model]),
            cost=at.cost(model + TOTAL_COST, record.get(model + TOTAL_COST)),
            answer=at.lines(model + RESPONSE, record.get(model + RESPONSE)) or None,
        )
        for model in models
    }
    name = record.get("sample_id")
    return Row(
        request_id=f"{at.path.stem}/{at.row}" if name in (None, "") else str(name),
        prompt=at.lines("prompt", record["prompt"]),
        outcomes=outcomes,
        source=str(record.get("eval_name") or at.path.stem),
    )


def _models(path: Path, columns: list[str]) -> list[str]:
    """Return the models in a header: those with costs or answers, otherwise all columns of unknown purpose."""
    suffixes = (RESPONSE, TOTAL_COST)
    for name in columns:
        suffix = name[name.rfind("|") :] if "|" in name else ""
        # A model's name may contain a bar, so only suffixes that look misspelt are refused.
        if suffix not in suffixes and (meant := did_you_mean(suffix, suffixes)):
            raise Place(path).error(f"is unknown{meant}", name, "rename it")
    owners = (name.removesuffix(suffix) for name in columns for suffix in suffixes if name.endswith(suffix))
    known = list(dict.fromkeys(owners))
    others = [
        name
        for name in columns
        if name not in NOT_MODELS and not name.endswith(suffixes) and not name.startswith("Unnamed:")
    ]
    if not (known or others):
        raise SourceError(f"{path}: has no model; add columns '<model>' and '<model>{TOTAL_COST}'")
    require_columns(path, columns, known)
    if not (known or OWN.intersection(columns)):
        raise SourceError(
            f"{path}: not RouterBench's: it has neither {' nor '.join(sorted(OWN))} nor '<model>{TOTAL_COST}'; "
            "name its columns with `messctl import table`"
        )
    check_models(Place(path), {name: name for name in known or others})
    return known or others


def _reader(path: Path, options: ImportOptions) -> Callable[[Path], Records]:
    kind = path.suffix.lower()
    if kind in (".pkl", ".pickle"):
        if not options.allow_pickle:
            raise UsageError(
                f"{path}: reading a pickle runs any code in the file; "
                "add --allow-pickle if you trust its origin, or convert it to Parquet first"
            )
        return _pickle_records
    readers: dict[str, Callable[[Path], Records]] = {".csv": csv_records, ".parquet": parquet_records}
    if kind not in readers:
        raise SourceError(f"{path}: unknown kind of file {kind!r}; use .csv, .parquet or .pkl")
    return readers[kind]


def _pickle_records(path: Path) -> Records:
    try:
        import pandas as pd  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: PLC0415
    except ImportError:
        raise UsageError(f"{path}: reading a pickle needs pandas: pip install pandas") from None
    try:
        frame = pd.read_pickle(path)
        records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    except Exception as error:  # noqa: BLE001 – unpickling runs foreign code, which may raise any error
        raise SourceError(
            f"{path}: not a pickled table ({type(error).__name__}: {error}); convert it to Parquet"
        ) from None
    for row, record in enumerate(records, start=1):
        yield Place(path, row), {str(name): value for name, value in record.items()}


FORMAT = Format(
    name="routerbench",
    summary="RouterBench's wide tables: CSV, Parquet or, with --allow-pickle, pickle",
    rows=rows,
    cost_unit="USD",
    meter="reported by RouterBench",
    takes=frozenset({"allow_pickle"}),
)
