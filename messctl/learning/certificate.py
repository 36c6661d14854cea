"""The certificate: the service level that is attained for certain (MESS+, arXiv:2505.19947). Loads no compiler."""

from __future__ import annotations


def certificate(alpha: float, queue: float, answers: int) -> float | None:
    """Return the level that is attained for certain, α − Q/n, over n = `answers` with feedback; None if n is 0.

    The recursion gives Q ≥ Σ(α − s), so the mean of s is at least α − Q/n: always, on any input.
    """
    return alpha - queue / answers if answers else None
