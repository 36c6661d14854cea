"""The trace format: the names and types of its columns, its metadata, and one row of it.

Columns of the request: `request_id` (string, unique), `prompt` (string), optionally `source` (string) and
`arrived_at` (timestamp; where every row has one, the requests arrive in that order, else as the rows stand).
An exported live log, which has outcomes only of the models that were queried, has five
more: `served` (the model whose answer the user got), `explored` (whether all models were to be queried), `propensity`
(of what was served: double, 0..1], null where the user chose the model), `judged` (int64: the place of its feedback
in the order in which feedback came, null without any), and `alpha` (double: the share that was aimed at then).
Columns of each model, `<field>/<model>`, where the model's name may itself hold slashes: `FIELDS` below.
A null means: not observed. The schema metadata holds, under the key `messctl`, the JSON of `TraceMetadata`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from messctl.errors import TraceError
from messctl.records import Outcome

VERSION = 1
METADATA_KEY = b"messctl"
SATISFIED = "satisfied"
COST = "cost"
TOKENS = ("tokens_in", "tokens_out")
FIELDS: dict[str, pa.DataType] = {
    SATISFIED: pa.float64(),
    COST: pa.float64(),
    "latency_s": pa.float64(),
    "tokens_in": pa.int64(),
    "tokens_out": pa.int64(),
    "answer": pa.large_string(),
    "logprob": pa.float64(),
    "cost_quality": pa.large_string(),
}
REQUEST_COLUMNS: dict[str, pa.DataType] = {
    "request_id": pa.large_string(),
    "prompt": pa.large_string(),
    "source": pa.large_string(),
    "arrived_at": pa.timestamp("us", tz="UTC"),
    "propensity": pa.float64(),
    "served": pa.large_string(),
    "explored": pa.bool_(),
    "judged": pa.int64(),
    "alpha": pa.float64(),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One request of a trace, with the outcome of every model that was observed on it."""

    request_id: str
    prompt: str
    outcomes: Mapping[str, Outcome]
    source: str | None = None
    arrived_at: datetime | None = None
    propensity: float | None = None
    served: str | None = None
    explored: bool | None = None
    judged: int | None = None
    alpha: float | None = None


@dataclass(frozen=True, slots=True)
class CostBasis:
    """A cost stated by the user: `value` per request, or per thousand tokens in and out."""

    value: float
    per_1k_tokens: bool = False


@dataclass(frozen=True, slots=True)
class TraceMetadata:
    """What a trace says of itself. `meter` tells where the costs come from, `source` where the rows do."""

    models: tuple[str, ...] = ()
    cost_unit: str = "unit"
    meter: str = "unknown"
    source: str = "unknown"
    version: int = VERSION
    extra: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> dict[bytes, bytes]:
        """Return the Parquet schema metadata."""
        stated = asdict(self)
        return {METADATA_KEY: json.dumps({**stated.pop("extra"), **stated}, sort_keys=True).encode()}

    @classmethod
    def decode(cls, where: object, metadata: Mapping[bytes, bytes] | None) -> TraceMetadata:
        """Read the Parquet schema metadata; absent metadata gives the defaults.

        Raises TraceError, naming `where`, for metadata that is not understood.
        """
        text = (metadata or {}).get(METADATA_KEY)
        if text is None:
            return cls()
        try:
            stated = json.loads(text)
            version = int(stated.pop("version", VERSION))
            models = tuple(str(name) for name in stated.pop("models", ()))
            known = {name: str(stated.pop(name)) for name in ("cost_unit", "meter", "source") if name in stated}
        except (ValueError, TypeError, AttributeError) as error:
            raise TraceError(f"{where}: the schema metadata 'messctl' is not the JSON it should be ({error})") from None
        if version > VERSION:
            raise TraceError(f"{where}: trace version {version} is newer than {VERSION}; upgrade messctl")
        return cls(models=models, version=version, extra=stated, **known)


def column(name: str, model: str) -> str:
    """Return the column of field `name` for `model`."""
    return f"{name}/{model}"


def schema(
    metadata: TraceMetadata, fields: Iterable[str] = (SATISFIED, COST), request: Iterable[str] = ("source",)
) -> pa.Schema:
    """Return the Arrow schema for `metadata.models`, with these per-model fields and request columns."""
    wanted = {"request_id", "prompt", *request}
    columns = [pa.field(name, kind) for name, kind in REQUEST_COLUMNS.items() if name in wanted]
    wanted = set(fields)
    columns += [
        pa.field(column(name, model), kind)
        for name, kind in FIELDS.items()
        if name in wanted
        for model in metadata.models
    ]
    return pa.schema(columns, metadata=metadata.encode())
