"""A replay in plain Python, one request at a time, as live use does: what every compiled replay is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from messctl.policies import Policy, Rounds
from messctl.policies.base import Answers, Looking
from messctl.records import Decision, Evidence, Feedback, Request


def drive(policy: Policy, rounds: Rounds, prompts: Sequence[str]) -> Iterator[tuple[Decision, float | None]]:
    """Play rounds through a policy's `decide` and `learn`, one request at a time, as live use does.

    `prompts` is in the trace's order. Yields each decision with the satisfaction of the answer served, None without
    feedback.
    """
    models = rounds.zoo.models
    pending: list[tuple[Decision, Feedback]] = []
    for t, row in enumerate(rounds.order):
        known = {} if rounds.prompt_cost is None else dict(zip(models, rounds.prompt_cost[row].tolist(), strict=True))
        decision = policy.decide(Request(rounds.request_ids[row], prompts[row], prompt_cost=known))
        if isinstance(policy, Looking) and rounds.answers is not None:
            decision = _look(policy, decision, rounds.answers, models, row)
        costs = {model: float(rounds.cost[row, models.index(model)]) for model in decision.queried}
        policy.learn(decision, Feedback(costs=costs))
        satisfied = {model: float(rounds.satisfied[row, models.index(model)]) for model in decision.queried}
        pending.append((decision, Feedback(satisfied=satisfied if rounds.has_feedback[t] else {})))
        yield decision, satisfied[decision.served] if rounds.has_feedback[t] else None
        if len(pending) > rounds.delay:
            policy.learn(*pending.pop(0))
    for decision, feedback in pending:
        policy.learn(decision, feedback)


def _look(policy: Looking, decision: Decision, answers: Answers, models: Sequence[str], row: int) -> Decision:
    """Let a policy ask on until it shows an answer."""
    seen: dict[str, Evidence] = {}
    while decision.served not in seen:
        index = models.index(decision.served)
        logprob = float(answers.logprob[row, index])
        seen[decision.served] = Evidence(int(answers.group[row, index]), None if np.isnan(logprob) else logprob)
        decision = policy.look(decision, seen)
    return decision
