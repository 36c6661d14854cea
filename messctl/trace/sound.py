"""Sound batches: each batch of a trace is checked as it is read, before it is used."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from messctl.errors import TraceError
from messctl.trace.check import check, repeated_ids
from messctl.trace.reader import Batch, TraceFile


def sound_batches(
    trace: TraceFile,
    *,
    ids: bool = True,
    prompts: bool = True,
    tokens: bool = False,
    answers: bool = False,
    unique_ids: bool = True,
) -> Iterator[Batch]:
    """Yield the batches of a trace as `TraceFile.batches` does, each checked.

    With `unique_ids`, which needs `ids`, request ids are compared after the last batch; this keeps them in memory.
    Raises TraceError for the first problem.
    """
    seen: list[pa.Array] = []
    for batch in trace.batches(ids=ids, prompts=prompts, tokens=tokens, answers=answers):
        for problem in check(trace, batch):
            raise TraceError(f"{trace.path}: {problem}; `messctl trace validate` lists all problems")
        if unique_ids:
            seen.append(batch.request_ids)
        yield batch
    for problem in repeated_ids(pa.chunked_array(seen, pa.large_string())):
        raise TraceError(f"{trace.path}: {problem}; request ids must be unique")
