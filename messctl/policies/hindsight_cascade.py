"""`hindsight-cascade`: what a second look could have done with full information; see `cascade.hindsight`."""

from __future__ import annotations

from messctl.errors import UsageError
from messctl.policies.base import Policy, PolicyKind, Rounds
from messctl.zoo import Settings

NAME = "hindsight-cascade"


def build(_argument: str | None, rounds: Rounds, settings: Settings) -> Policy:
    """Fit the beliefs. Raises UsageError if the trace has no answers to look at."""
    from messctl.policies.cascade.hindsight import HindsightCascade  # noqa: PLC0415  # `ask` does without all of it

    if rounds.answers is None:
        raise UsageError(f"policy {NAME!r} looks at answers; give a trace that has them, and --asks 2 or 3")
    return HindsightCascade(rounds, settings, rounds.answers)


POLICY = PolicyKind(NAME, 55, "the best second look in hindsight, by the same beliefs", build, by_default=False)
