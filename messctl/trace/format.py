"""The trace format: the names and types of its columns, its metadata, and one row of it.

Columns of the request: `request_id` (string, unique), `prompt` (string), optional `source` (string) and `arrived_at`
(timestamp). If every row has a timestamp, the requests arrive in that order, otherwise in the order of the rows.

An exported live log has outcomes only for the models that were queried, and six more columns:
    served      string: the model whose answer the user got
    explored    boolean: whether all models were queried, to explore
    propensity  double in (0, 1]: the probability of serving `served`; null if the user chose the model
    judged      int64: the place of the request's feedback in the order in which feedback came; null without feedback
    alpha       double: the target α at that time
    asked       string: the models asked, in order, as a JSON list; null if it was one

Columns of each model: `<field>/<model>`, with the fields of `FIELDS`. A model's name may contain slashes. A null means:
not observed. The schema metadata has, under the key `messctl`, the JSON of `TraceMetadata`.
"""

from __future__ import annotations

import hashlib
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
CHECKSUM = "checksum"
SATISFIED = "satisfied"
COST = "cost"
TOKENS = ("tokens_in", "tokens_out")
LATENCY = "latency_s"
ANSWERS = ("answer", "logprob")
FIELDS: dict[str, pa.DataType] = {
    SATISFIED: pa.float64(),
    COST: pa.float64(),
    LATENCY: pa.float64(),
    "tokens_in": pa.int64(),
    "tokens_out": pa.int64(),
    "answer": pa.large_string(),
    "logprob": pa.float64(),
    "cost_quality": pa.large_string(),
    "finish": pa.large_string(),
    "thinking": pa.large_string(),
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
    "asked": pa.large_string(),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a trace: a request, with the outcomes of the models that were observed on it."""

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
    asked: str | None = None


@dataclass(frozen=True, slots=True)
class CostBasis:
    """A cost stated by the user: `value` ≥ 0 per request, or per 1,000 tokens (in and out)."""

    value: float
    per_1k_tokens: bool = False


@dataclass(frozen=True, slots=True)
class TraceMetadata:
    """The description of a trace. `meter` says where the costs come from, `source` where the rows come from."""

    models: tuple[str, ...] = ()
    cost_unit: str = "unit"
    meter: str = "unknown"
    source: str = "unknown"
    version: int = VERSION
    extra: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> dict[bytes, bytes]:
        """Return the Parquet schema metadata, with a checksum of it."""
        stated = asdict(self)
        document = {**stated.pop("extra"), **stated}
        return {METADATA_KEY: json.dumps({**document, CHECKSUM: _checksum(document)}, sort_keys=True).encode()}

    @classmethod
    def decode(cls, where: object, *copies: Mapping[bytes, bytes] | None) -> TraceMetadata:
        """Read the Parquet schema metadata, of which there may be several copies. Without any, it has the defaults.

        Raises TraceError, which names `where`, for metadata that cannot be understood, or copies that differ.
        """
        texts = [copy[METADATA_KEY] for copy in copies if copy and METADATA_KEY in copy]
        if not texts:
            return cls()
        text = texts[0]
        try:
            if len(set(texts)) > 1:
                raise ValueError("its copies differ")
            text.decode("utf-8")
            stated = json.loads(text)
            written = stated.pop(CHECKSUM, None)
            if written not in (None, _checksum(stated)):
                raise ValueError("its checksum is wrong")
            version = int(stated.pop("version", VERSION))
            models = tuple(str(name) for name in stated.pop("models", ()))
            known = {name: str(stated.pop(name)) for name in ("cost_unit", "meter", "source") if name in stated}
            for name in (*models, *known.values()):
                name.encode("utf-8")  # JSON can hold half a surrogate pair
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise TraceError(
                f"{where}: the schema metadata 'messctl' is not valid ({error}); make the trace again"
            ) from None
        if version > VERSION:
            raise TraceError(f"{where}: has trace version {version}, newer than {VERSION}; upgrade messctl")
        return cls(models=models, version=version, extra=stated, **known)


def _checksum(document: Mapping[str, Any]) -> str:
    """Return a checksum of metadata, by which a damaged one is noticed."""
    return hashlib.blake2b(json.dumps(document, sort_keys=True).encode(), digest_size=8).hexdigest()


def column(name: str, model: str) -> str:
    """Return the name of the column with field `name` of `model`."""
    return f"{name}/{model}"


def schema(
    metadata: TraceMetadata, fields: Iterable[str] = (SATISFIED, COST), request: Iterable[str] = ("source",)
) -> pa.Schema:
    """Return the Arrow schema of a trace with these models, per-model fields and request columns."""
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
