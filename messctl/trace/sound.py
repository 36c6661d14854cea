"""Sound batches: a trace read batch by batch, each batch checked before anything is made of it."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from messctl.errors import TraceError
from messctl.trace.check import check, repeated_ids
from messctl.trace.reader import Batch, TraceFile


def sound_batches(trace: TraceFile, *, prompts: bool = True, tokens: bool = False) -> Iterator[Batch]:
    """Yield each batch, checked. Raises TraceError for what is wrong in it, at the end for ids that come twice."""
    seen: list[pa.Array] = []
    for batch in sound(trace, prompts=prompts, tokens=tokens):
        seen.append(batch.request_ids)
        yield batch
    for problem in repeated_ids(pa.chunked_array(seen, pa.large_string())):
        raise TraceError(f"{trace.path}: {problem}; request ids must be unique")


def sound(trace: TraceFile, *, ids: bool = True, prompts: bool = True, tokens: bool = False) -> Iterator[Batch]:
    """Yield the trace's batches, each checked, as `TraceFile.batches` does. Raises TraceError."""
    for batch in trace.batches(ids=ids, prompts=prompts, tokens=tokens):
        for problem in check(trace, batch):
            raise TraceError(f"{trace.path}: {problem}; `messctl trace validate` lists all that is wrong")
        yield batch
