"""Export: the live log as a trace, with outcomes of the models that were queried."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from messctl.display.text import moment
from messctl.errors import UsageError
from messctl.outputs import check_trace_writable
from messctl.state.request_log import LoggedRequest
from messctl.state.store import Store
from messctl.state.sums import ANSWERS
from messctl.trace import Row, TraceMetadata, TraceWriter

FIELDS = ("satisfied", "cost", "latency_s", "tokens_in", "tokens_out", "answer", "logprob", "cost_quality", "finish",
          "thinking")  # fmt: skip
REQUEST = ("arrived_at", "propensity", "served", "explored", "judged", "alpha", "asked")


def export_log(store: Store, output: Path) -> int:
    """Write every answered request to the trace `output`, oldest first, and return how many there are.

    Raises UsageError if nothing was answered yet or costs are in several units. Raises OutputError if `output` cannot
    be written, or is a file that is not Parquet.
    """
    check_trace_writable(output)
    with store.unchanging():
        return _write(store, output)


def _write(store: Store, output: Path) -> int:
    rows = store.requests.sums.left(ANSWERS)
    models, units, meters = ({row[place] for row in rows} for place in range(3))
    if not models:
        gone = store.pruning.pruned()
        none = f"all answered requests are from before {moment(gone.until)} and were pruned" if gone else ""
        raise UsageError(f"{store.path}: {none or 'no request has been answered yet'}; nothing to export")
    if len(units) > 1:
        raise UsageError(
            f"{store.path}: costs are in {' and '.join(sorted(units))}, and a trace holds one unit; "
            "give each zoo a --state of its own"
        )
    metadata = TraceMetadata(
        models=tuple(sorted(models)),
        cost_unit=units.pop(),
        meter=" and ".join(sorted(meters)),
        source="messctl ask",
    )
    written = 0
    with TraceWriter(output, metadata, FIELDS, REQUEST) as writer:
        for logged in store.requests:
            if logged.answers:
                writer.append(_row(logged))
                written += 1
    return written


def _row(logged: LoggedRequest) -> Row:
    outcomes = dict(logged.answers)
    served = logged.decision.served
    # The user's feedback on the served answer counts, also if it corrected a grade.
    outcomes[served] = replace(outcomes[served], satisfied=logged.satisfied)
    return Row(
        request_id=logged.decision.request.request_id,
        prompt=logged.decision.request.prompt,
        outcomes=outcomes,
        arrived_at=logged.asked_at,
        propensity=logged.propensity,
        served=served,
        explored=logged.decision.explored,
        judged=logged.judged,
        alpha=logged.circumstances.alpha,
        asked=json.dumps(logged.asked, ensure_ascii=False) if len(logged.asked) > 1 else None,
    )
