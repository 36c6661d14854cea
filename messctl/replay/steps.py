"""Steps: every decision of a policy with its inputs, so that others can recompute it."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from messctl.errors import UsageError
from messctl.outputs import atomic_write
from messctl.replay.result import Replay
from messctl.trace.parquet import arrow_file


def check_played(policy: str, policies: Collection[str]) -> None:
    """Raise UsageError if `policy`, whose steps are wanted, is not among the `policies` to play."""
    if policy not in policies:
        raise UsageError(f"--steps writes the decisions of {policy!r}, which is not played; add --policy {policy}")


def write_steps(replay: Replay, policy: str, path: Path) -> None:
    """Write one row per request of `policy`, in order of arrival.

    Columns: `t` from 1; `request_id`; `explored`; `served`; `queue_before` and `queue_after`, the queue before this and
    the next decision (in the last row, after all feedback); `cost` of every model queried; `satisfied`, null without
    feedback; `p_explore`; and per model `predicted/<model>` and `mean_cost/<model>` at the decision, null before the
    first observed cost. The queue is the one that decisions use: the debt against α + margin, at most 1. The schema
    metadata `messctl` has the settings, with the `v` that was used. Raises UsageError for a policy without steps,
    OutputError.
    """
    check_played(policy, replay.played)
    played = replay.played[policy]
    rounds = replay.rounds
    if rounds is None or played.predicted is None or played.mean_cost is None or played.served is None:
        raise UsageError(f"the policy {policy!r} has no steps; leave out --steps")
    models = pa.array(rounds.zoo.models, pa.string())
    columns: dict[str, pa.Array] = {
        "t": pa.array(np.arange(1, len(rounds) + 1)),
        "request_id": pa.array(rounds.request_ids, pa.large_string()).take(pa.array(played.order)),
        "explored": pa.array(played.explored),
        "served": pa.DictionaryArray.from_arrays(pa.array(played.served, pa.int32()), models).cast(pa.string()),
        "queue_before": pa.array(played.queue_before),
        "queue_after": pa.array(played.queue_after),
        "cost": pa.array(played.cost),
        "satisfied": pa.array(played.satisfied, from_pandas=True),
        "p_explore": pa.array(played.p_explore),
    }
    for index, model in enumerate(rounds.zoo.models):
        columns[f"predicted/{model}"] = pa.array(played.predicted[:, index])
        columns[f"mean_cost/{model}"] = pa.array(played.mean_cost[:, index], from_pandas=True)
    settings = replay.settings
    metadata = {
        "trace": str(replay.facts.path),
        **asdict(replay.conditions),
        "policy": policy,
        "alpha": settings.alpha,
        "margin": settings.margin,
        "v": next(result.v for result in replay.results if result.policy == policy),
        "c": settings.c,
        "exponent": settings.exponent,
        "cost_scale": settings.cost_scale,
        "trial_budget": settings.trial_budget,
        "seed": settings.seed,
        "reference": rounds.zoo.reference,
        "cost_unit": replay.facts.cost_unit,
    }
    table = pa.table(columns).replace_schema_metadata({"messctl": json.dumps(metadata, sort_keys=True)})
    with atomic_write(path) as aside:
        sink = arrow_file(aside, "wb")
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        if isinstance(sink, pa.NativeFile):
            sink.close()
