"""A finished recording: whether a trace is the recording of a plan, and the models' results in it."""

from __future__ import annotations

import json
from pathlib import Path

from messctl.costs.meter import Meter
from messctl.errors import UsageError
from messctl.record.journal import difference
from messctl.record.recorder import Plan
from messctl.record.tally import Sums, Tally
from messctl.trace import Outcome, TraceFile

READ = ("satisfied", "cost", "latency_s", "tokens_out", "answer", "finish")


def read_finished(plan: Plan, meter: Meter, output: Path) -> dict[str, Tally]:
    """Return each model's results in the trace `output`. A trace does not say why answers failed.

    Raises UsageError, which names the first difference, if it is not the recording of this plan; TraceError.
    """
    trace = TraceFile(output)
    recorded = dict(trace.metadata.extra.get("recorded") or {})
    recorded.pop("by", None)
    terms = json.loads(json.dumps(plan.terms(meter)))
    if not recorded:
        raise UsageError(f"{output}: is not a recording, so it cannot be resumed; give another name, or --overwrite")
    if recorded != terms:
        raise UsageError(
            f"{output}: was recorded with another {difference(recorded, terms)}; use the same again, or --overwrite"
        )
    sums = {model.name: Sums() for model in plan.models}
    for batch in trace.raw_batches([f"{name}/{model}" for model in sums for name in READ]):
        for row in batch.to_pylist():
            for model, tally in sums.items():
                values = {name: row.get(f"{name}/{model}") for name in READ}
                tally.add(None if values["cost"] is None else Outcome(**values), None)
    return {name: tally.tally() for name, tally in sums.items()}
