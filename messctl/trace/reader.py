"""Reading a trace batch by batch, so that it can be larger than memory."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from messctl.errors import TraceError, did_you_mean
from messctl.inputs import NotOrdinaryError, read_start
from messctl.trace.format import (
    ANSWERS,
    COST,
    FIELDS,
    LATENCY,
    REQUEST_COLUMNS,
    SATISFIED,
    TOKENS,
    TraceMetadata,
    column,
)
from messctl.trace.parquet import BoundedParquet, ParquetError

ROWS_PER_BATCH = 16_384
SQLITE = b"SQLite format 3\0"
NO_TEXT = pa.array([], pa.large_string())


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows of a trace. Models are in the order of `TraceFile.models`.

    first_row: the number of the first row, from 1.
    request_ids, prompts: (rows,), Arrow large strings.
    satisfied, cost, latency_s: (rows, models), float64. NaN means not observed. A NaN in the file itself becomes
        infinity, which every check refuses.
    served: (rows,), the index of the served model; -1 if unknown.
    judged, alpha, explored, propensity: (rows,), NaN if null.
    tokens_in, tokens_out: (rows, models), NaN if missing; None unless requested.
    arrived_at: (rows,), NaT if missing.
    several: (rows,), whether more than one model was asked.
    answers: per model (rows,) Arrow large strings; logprob: (rows, models), NaN if missing. None unless requested.
    An optional column that the trace lacks is None.
    """

    first_row: int
    request_ids: pa.LargeStringArray
    prompts: pa.LargeStringArray
    satisfied: npt.NDArray[np.float64]
    cost: npt.NDArray[np.float64]
    latency_s: npt.NDArray[np.float64]
    served: npt.NDArray[np.int64] | None = None
    judged: npt.NDArray[np.float64] | None = None
    alpha: npt.NDArray[np.float64] | None = None
    explored: npt.NDArray[np.float64] | None = None
    propensity: npt.NDArray[np.float64] | None = None
    tokens_in: npt.NDArray[np.float64] | None = None
    tokens_out: npt.NDArray[np.float64] | None = None
    arrived_at: npt.NDArray[np.datetime64] | None = None
    several: npt.NDArray[np.bool_] | None = None
    answers: tuple[pa.LargeStringArray, ...] | None = None
    logprob: npt.NDArray[np.float64] | None = None

    @property
    def lacking(self) -> npt.NDArray[np.bool_]:
        """Whether a model's satisfaction or cost was not observed, (rows, models). A replay leaves such rows out."""
        return np.isnan(self.satisfied) | np.isnan(self.cost)


class TraceFile:
    """An open trace: its models, sorted by name, its metadata, and its rows in batches.

    Opening reads the schema only. Raises TraceError if the file is missing, a directory, not Parquet or incomplete, or
    if it lacks columns.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = _open(self.path)
        self.schema: pa.Schema = self._file.schema
        self.rows: int = self._file.rows
        self.metadata = TraceMetadata.decode(self.path, self._file.metadata, self.schema.metadata)
        self._names = frozenset(self._file.names)
        self.models = _models(self.path, self.schema, self.metadata)

    @property
    def ignored_columns(self) -> list[str]:
        """The columns that messctl does not read."""
        known = {column(name, model) for name in FIELDS for model in self.models} | set(REQUEST_COLUMNS)
        return [name for name in self.schema.names if name not in known]

    @cached_property
    def timed(self) -> bool:
        """Whether every row has an arrival time. If not, the order of the rows may be arbitrary.

        Reads the column `arrived_at`, if there is one. Raises TraceError if it has another type.
        """
        if "arrived_at" not in self.schema.names:
            return False
        with _mapped(self.path):
            parts = [_times(batch["arrived_at"], self.path) for batch in self.raw_batches(["arrived_at"])]
        return not any(np.isnat(part).any() for part in parts)

    def has(self, name: str, model: str) -> bool:
        """Return whether the trace has a column with field `name` of `model`."""
        return column(name, model) in self._names

    def batches(
        self,
        rows_per_batch: int = ROWS_PER_BATCH,
        *,
        ids: bool = True,
        prompts: bool = True,
        tokens: bool = False,
        answers: bool = False,
    ) -> Iterator[Batch]:
        """Yield all rows in file order. Only types are checked, not values. Raises TraceError.

        Without `ids` or `prompts`, these columns are not read, and are empty. Token counts are read only with `tokens`,
        answers and their log-probabilities only with `answers`.
        """
        text = [name for name, wanted in (("request_id", ids), ("prompt", prompts)) if wanted]
        wanted_fields = (SATISFIED, COST, LATENCY, *(TOKENS if tokens else ()), *(ANSWERS if answers else ()))
        fields = [column(name, model) for name in wanted_fields for model in self.models]
        first_row = 1
        for batch in self.raw_batches(
            [*text, *fields, "arrived_at", "asked", "served", "explored", "judged", "alpha", "propensity"],
            rows_per_batch,
        ):
            with _mapped(self.path):
                read = self._batch(batch, first_row, ids, prompts, tokens, answers)
            yield read
            first_row += batch.num_rows

    def _batch(
        self, batch: pa.RecordBatch, first_row: int, ids: bool, prompts: bool, tokens: bool, answers: bool
    ) -> Batch:
        names = batch.schema.names
        numbers = {
            name: _as_float(batch[name], self.path, name)
            for name in ("judged", "alpha", "explored", "propensity")
            if name in names
        }
        return Batch(
            first_row=first_row,
            request_ids=_text(batch["request_id"], self.path, "request_id", first_row) if ids else NO_TEXT,
            prompts=_text(batch["prompt"], self.path, "prompt", first_row) if prompts else NO_TEXT,
            satisfied=_numbers(batch, SATISFIED, self.models, self.path),
            cost=_numbers(batch, COST, self.models, self.path),
            latency_s=_numbers(batch, LATENCY, self.models, self.path),
            served=_indices(batch["served"], self.models, self.path, first_row) if "served" in names else None,
            **numbers,
            tokens_in=_numbers(batch, TOKENS[0], self.models, self.path) if tokens else None,
            tokens_out=_numbers(batch, TOKENS[1], self.models, self.path) if tokens else None,
            arrived_at=_times(batch["arrived_at"], self.path) if "arrived_at" in names else None,
            several=pc.is_valid(batch["asked"]).to_numpy(zero_copy_only=False) if "asked" in names else None,
            answers=_answers(batch, self.models, self.path, first_row) if answers else None,
            logprob=_numbers(batch, ANSWERS[1], self.models, self.path) if answers else None,
        )

    def raw_batches(self, columns: Sequence[str], rows_per_batch: int = ROWS_PER_BATCH) -> Iterator[pa.RecordBatch]:
        """Yield Arrow record batches with those of `columns` that the trace has. Raises TraceError."""
        with _mapped(self.path):
            yield from self._file.batches([name for name in columns if name in self._names], rows_per_batch)


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    try:
        yield
    except (ParquetError, pa.ArrowException, OSError, ValueError, OverflowError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TraceError(f"{path}: damaged or incomplete ({reason}); make it again from its source") from None


def _open(path: Path) -> BoundedParquet:
    try:
        return BoundedParquet(path)
    except FileNotFoundError:
        raise TraceError(f"{path}: no such file; check the path") from None
    except NotOrdinaryError:
        raise TraceError(f"{path}: not a file; give a Parquet trace") from None
    except PermissionError:
        raise TraceError(f"{path}: no permission to read it; change its mode, or use a copy") from None
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except ParquetError as error:
        if is_sqlite(path):
            raise TraceError(f"{path}: a state, not a trace; use `messctl evaluate`, or `messctl export` it") from None
        raise TraceError(
            f"{path}: not a Parquet file, or an incomplete one ({error}); `messctl import` makes traces, "
            "and `messctl export` live logs"
        ) from None


def is_sqlite(path: Path) -> bool:
    """Return whether a file is an SQLite database, as a state is; False if it cannot be read."""
    try:
        return read_start(path, len(SQLITE)) == SQLITE
    except OSError:
        return False


def _models(path: Path, schema: pa.Schema, metadata: TraceMetadata) -> tuple[str, ...]:
    names: dict[str, int] = Counter(schema.names)
    twice = {name for name, count in names.items() if count > 1}
    if twice:
        raise TraceError(f"{path}: column {min(twice)!r} appears twice; rename or remove one")
    for name in ("request_id", "prompt"):
        if name not in names:
            raise TraceError(f"{path}: column {name!r} is missing{did_you_mean(name, names)}; add or rename it")
    prefixed = [name.split("/", 1) for name in names if "/" in name]
    models = {model for prefix, model in prefixed if prefix in (SATISFIED, COST)} | set(metadata.models)
    for prefix, model in prefixed:
        if prefix not in FIELDS and did_you_mean(prefix, FIELDS):
            meant = did_you_mean(f"{prefix}/{model}", (column(name, model) for name in FIELDS))
            raise TraceError(f"{path}: unknown column '{prefix}/{model}'{meant}; rename it")
        if prefix in FIELDS and not model:
            raise TraceError(f"{path}: column '{prefix}/' has no model's name after the slash; add it")
    if not models:
        raise TraceError(f"{path}: no column 'satisfied/<model>', so not a trace; `messctl import` makes traces")
    for model in sorted(models):
        if column(SATISFIED, model) not in names:
            raise TraceError(f"{path}: column {column(SATISFIED, model)!r} is missing; add it")
    return tuple(sorted(models))


def _text(array: pa.Array, path: Path, name: str, first_row: int) -> pa.LargeStringArray:
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise TraceError(f"{path}: column {name!r} has type {array.type}; it must be text")
    text = pc.cast(array, pa.large_string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        row = first_row + next(row for row, value in enumerate(text.cast(pa.large_binary())) if not _is_utf8(value))
        raise TraceError(f"{path}: row {row}, column {name!r}: is not UTF-8 text; correct the source") from None
    return text


def _is_utf8(value: pa.Scalar) -> bool:
    try:
        return value.as_py() is None or bool(value.as_py().decode("utf-8") or True)
    except UnicodeDecodeError:
        return False


def _times(array: pa.Array, path: Path) -> npt.NDArray[np.datetime64]:
    if pa.types.is_null(array.type):
        return np.full(len(array), np.datetime64("NaT", "us"))
    if not pa.types.is_timestamp(array.type):
        raise TraceError(f"{path}: column 'arrived_at' has type {array.type}; it must be a timestamp")
    times: npt.NDArray[np.datetime64] = array.to_numpy(zero_copy_only=False)
    return times


def _indices(served: pa.Array, models: Sequence[str], path: Path, first_row: int) -> npt.NDArray[np.int64]:
    found = pc.index_in(_text(served, path, "served", first_row), pa.array(models, pa.large_string()))
    return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), dtype=np.int64)


def _numbers(batch: pa.RecordBatch, field: str, models: Sequence[str], path: Path) -> npt.NDArray[np.float64]:
    values = np.full((batch.num_rows, len(models)), np.nan)
    for index, model in enumerate(models):
        name = column(field, model)
        if name in batch.schema.names:
            values[:, index] = _as_float(batch[name], path, name)
    return values


def _answers(batch: pa.RecordBatch, models: Sequence[str], path: Path, first_row: int) -> tuple[pa.Array, ...]:
    """Return each model's answers; null where the trace has none."""
    none = pa.nulls(batch.num_rows, pa.large_string())
    names = {model: column(ANSWERS[0], model) for model in models}
    return tuple(
        _text(batch[name], path, name, first_row) if name in batch.schema.names else none for name in names.values()
    )


def _as_float(array: pa.Array, path: Path, name: str) -> npt.NDArray[np.float64]:
    kind = array.type
    numeric = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    if not (numeric or pa.types.is_decimal(kind) or pa.types.is_null(kind)):
        raise TraceError(f"{path}: column {name!r} has type {kind}; it must be a number")
    if pa.types.is_boolean(kind):
        array = pc.cast(array, pa.int8())
    values = pc.cast(array, pa.float64(), safe=False)
    observed: npt.NDArray[np.float64] = values.to_numpy(zero_copy_only=False)
    not_a_number = np.isnan(observed)
    if not_a_number.any():
        # A null means "not observed". A NaN in the file is an error; infinity marks it.
        written = not_a_number & pc.is_valid(values).to_numpy(zero_copy_only=False)
        observed = np.where(written, np.inf, observed)
    return observed
