"""Makes the log that a live policy would leave of a trace's requests: what it served, and how likely that was.

    python benchmarks/make_log.py traces/box.parquet traces/live.parquet

The requests come in the trace's order, and a share of the answers gets feedback at once. For every request the log
holds the served model's outcome alone, in the format of `messctl export`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from messctl.policies import build
from messctl.replay.loading import load
from messctl.state.export import REQUEST
from messctl.trace import Outcome, Row, TraceFile, TraceMetadata, TraceWriter
from messctl.zoo import Settings


def write(trace: Path, output: Path, policy: str, settings: Settings, feedback_rate: float) -> int:
    """Write the log to `output`, and return how many requests it holds."""
    opened, recording = TraceFile(trace), load(trace, settings.reference)
    rounds = recording.rounds.arranged(seed=settings.seed, shuffle=False, feedback_rate=feedback_rate, feedback_delay=0)
    played = build(policy, rounds, settings).play(rounds)
    if played.served is None or played.propensity is None:
        raise SystemExit(f"{policy} does not say what it serves, and how likely that was; use bandit")
    prompts = {
        request_id: prompt
        for batch in opened.batches()
        for request_id, prompt in zip(batch.request_ids.to_pylist(), batch.prompts.to_pylist(), strict=True)
    }
    metadata = TraceMetadata(
        models=opened.models,
        cost_unit=opened.metadata.cost_unit,
        meter=opened.metadata.meter,
        source=f"benchmarks/make_log.py: {policy} at alpha {settings.alpha:g} on {trace.name}, seed {settings.seed}",
    )
    judged = np.cumsum(rounds.has_feedback)
    with TraceWriter(output, metadata, request=[name for name in REQUEST if name != "arrived_at"]) as writer:
        for t, row in enumerate(rounds.order.tolist()):
            model = opened.models[played.served[t]]
            satisfied = float(rounds.satisfied[row, played.served[t]]) if rounds.has_feedback[t] else None
            writer.append(
                Row(
                    request_id=rounds.request_ids[row],
                    prompt=prompts[rounds.request_ids[row]],
                    outcomes={model: Outcome(satisfied, float(rounds.cost[row, played.served[t]]))},
                    propensity=float(played.propensity[t]),
                    served=model,
                    explored=False,
                    judged=int(judged[t]) if rounds.has_feedback[t] else None,
                    alpha=settings.alpha,
                )
            )
    return len(rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--policy", default="bandit")
    parser.add_argument("--alpha", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--feedback-rate", type=float, default=0.9)
    arguments = parser.parse_args()
    settings = Settings(alpha=arguments.alpha, seed=arguments.seed)
    rows = write(arguments.trace, arguments.output, arguments.policy, settings, arguments.feedback_rate)
    print(f"{arguments.output}: {rows:,} requests")
