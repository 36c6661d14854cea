"""Playing a trace: every policy serves the recorded requests, and is measured by cost and attainment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
import numpy.typing as npt

from messctl.errors import UsageError
from messctl.learning.virtual_queue import path
from messctl.policies import Played, Rounds, build, kind_of
from messctl.replay.holdout import Holdout, held_out
from messctl.replay.loading import Recording
from messctl.replay.result import Conditions, Replay, Result, Sums, check_reachable, result_of
from messctl.zoo import Settings


def replay(
    recording: Recording,
    policies: Sequence[str],
    settings: Settings,
    conditions: Conditions,
    progress: Callable[[str], None] = lambda _: None,
    holdout: Holdout | None = None,
) -> Replay:
    """Play every policy under every seed. `progress` gets the name of the policy that is being played.

    With a `holdout`, a policy that learns plays all requests, as it would live, and its results are of those held out.
    A yardstick does not learn: it plays the requests held out alone, or all if every seed holds out others. Raises
    UnknownNameError for a policy, UsageError if no policy can reach α.
    """
    for name in (*policies, settings.policy):
        kind_of(name)
    if recording.facts.partial and set(policies) != {"logged"}:
        raise UsageError(
            f"{recording.facts.path}: a live log holds only the models that were queried; play --policy logged alone"
        )
    counted = held_out(recording, holdout) if holdout else None
    judged = recording
    if counted is not None and holdout and not holdout.varies(conditions.shuffle):
        judged = recording.only(np.flatnonzero(counted))
    check_reachable(judged.facts, settings.alpha)
    arranged = [
        recording.rounds.arranged(
            seed=settings.seed + k,
            shuffle=conditions.shuffle,
            feedback_rate=conditions.feedback_rate,
            feedback_delay=conditions.feedback_delay,
        )
        for k in range(conditions.seeds)
    ]
    masks = None if counted is None or holdout is None else [holdout.arriving(counted, one.order) for one in arranged]
    results: list[Result] = []
    first: dict[str, Played] = {}
    for name in dict.fromkeys(policies):
        progress(name)
        if kind_of(name).learns:
            first[name], sums = _play_router(name, arranged, masks, settings, conditions)
        else:
            # A yardstick has no luck: one play is enough.
            first[name] = build(name, judged.rounds, settings).play(judged.rounds if holdout else arranged[0])
            sums = [Sums.of(first[name])]
        result = result_of(name, judged.facts, sums, settings)
        # The certificate is about all requests, not about those held out.
        results.append(replace(result, certificate=None) if holdout else result)
    return Replay(judged.facts, settings, conditions, tuple(results), first, judged.rounds, holdout)


def _play_router(
    name: str,
    arranged: Sequence[Rounds],
    masks: Sequence[npt.NDArray[np.bool_]] | None,
    settings: Settings,
    conditions: Conditions,
) -> tuple[Played, list[Sums]]:
    """Play a policy that learns under every seed; return its first play, and the sums of each seed.

    `masks` are the requests to count under each seed, (n,) by arrival; None counts all.
    """
    seeds = [list(_replicas(name, one, k, settings, conditions)) for k, one in enumerate(arranged)]
    first = seeds[0][0]
    seeds = [[with_queue_at(played, settings.alpha) for played in plays] for plays in seeds]
    if masks is not None:
        seeds = [
            [played.only(mask[replica :: conditions.replicas]) for replica, played in enumerate(plays)]
            for mask, plays in zip(masks, seeds, strict=True)
        ]
    return first, [reduce(Sums.beside, map(Sums.of, plays)) for plays in seeds]


def _replicas(name: str, rounds: Rounds, k: int, settings: Settings, conditions: Conditions) -> Iterator[Played]:
    """Yield each replica's play under the k-th seed, on its share of the requests and with a seed of its own."""
    replicas = conditions.replicas
    for replica in range(replicas):
        share = slice(replica, None, replicas)
        if not len(rounds.order[share]):
            continue
        part = replace(
            rounds,
            order=rounds.order[share],
            has_feedback=rounds.has_feedback[share],
            delay=-(-rounds.delay // replicas),
        )
        seed = settings.seed + k + replica * conditions.seeds
        yield build(name, rounds, replace(settings, seed=seed)).play(part)


def with_queue_at(played: Played, alpha: float, *, delay: int = 0, start: float = 0.0) -> Played:
    """Return a play with the debt against α, even if the policy aimed at another level.

    The queue is Q ← max(0, Q + α − s) from `start` on. Feedback comes after `delay` further requests, or at the end of
    the play.
    """
    if played.alpha == alpha:
        return played
    n, has_feedback = len(played.satisfied), ~np.isnan(played.satisfied)
    queue = path(np.where(has_feedback, played.satisfied, 0.0), np.where(has_feedback, alpha, 0.0), start)
    settled = np.append(np.maximum(0, np.arange(n) - delay), n)  # the number of answers judged before each request
    return replace(played, alpha=alpha, queue_before=queue[settled[:-1]], queue_after=queue[settled[1:]])
