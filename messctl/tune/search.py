"""The search: every setting is played under every seed, over the whole trace, as `replay` plays it.

What it came to is summed apart over the requests to choose on and over those held out. By time, the router arrives at
the latter with what it learned and owes from the former, as it would live.

In MESS+ which requests explore, and so all that is learned, depends on c, the exponent and the seed alone. So the
piece of work is a *cell*, one c and one exponent under one seed: one pass of the predictor, shared by all V and α.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from messctl.policies import Rounds, build, kind_of
from messctl.policies.base import Floats
from messctl.recording import Holdout, Recording, held_out
from messctl.replay import Conditions
from messctl.tune.engine import running
from messctl.tune.recursion import PARTS, sweep
from messctl.zoo import Settings

CHOSEN_ON, LATE, HELD_OUT, WHOLE = range(4)
"""The parts of a trace: the requests to choose on, the last of these (the same share of them as is held out of all),
those held out, and all."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What every setting came to on one trace; NaN where it was not played.

    `attained`, the mean satisfaction of the answers that got feedback, and `cost`, the mean per request in the trace's
    unit, are (parts, settings, seeds). `debt` is the queue at the end per answer with feedback,
    Q/n, (settings, seeds).
    """

    attained: Floats
    cost: Floats
    debt: Floats

    @classmethod
    def unknown(cls, settings: int, seeds: int) -> Scores:
        """Return tables before anything is played."""
        shape = (settings, seeds)
        return cls(*(np.full(form, np.nan) for form in ((WHOLE + 1, *shape), (WHOLE + 1, *shape), shape)))


@dataclass(frozen=True, slots=True)
class Search:
    """All that was played: the settings on the traces, and each trace's scores.

    `interrupted` where it was stopped before all was played; seeds that lack a setting then count for none.
    """

    traces: tuple[Recording, ...]
    settings: tuple[Settings, ...]
    conditions: Conditions
    holdout: Holdout
    scores: tuple[Scores, ...]
    interrupted: bool = False

    def complete_seeds(self) -> npt.NDArray[np.intp]:
        """Return which seeds were played under every setting on every trace, (seeds,)."""
        done = np.all([~np.isnan(scores.cost).any(axis=(0, 1)) for scores in self.scores], axis=0)
        return np.flatnonzero(done)


def search(
    traces: Sequence[Recording],
    settings: Sequence[Settings],
    conditions: Conditions,
    holdout: Holdout,
    *,
    engine: str = "threads",
    address: str | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Search:
    """Play every setting, alike but for the policy, α, V, c and the exponent.

    `progress` hears how many cells of how many are done. Ctrl-C ends it early, with what is known by then. Raises
    UsageError for a hold-out that leaves nothing, and as `running` does.
    """
    for name in dict.fromkeys(each.policy for each in settings):
        kind_of(name)
    work = [(_bare(trace.rounds), holdout, held_out(trace, holdout)) for trace in traces]
    scores = tuple(Scores.unknown(len(settings), conditions.seeds) for _ in traces)
    groups = _groups(settings)
    # Seeds outermost: whoever stops early knows whole seeds.
    cells = [(k, trace, group) for k in range(conditions.seeds) for trace in range(len(traces)) for group in groups]
    pieces = [(*work[trace], [settings[at] for at in group], k, conditions) for k, trace, group in cells]
    interrupted = False
    with running(play_cell, pieces, engine, address) as results:
        try:
            for done, ((k, trace, group), found) in enumerate(zip(cells, results, strict=True), start=1):
                scores[trace].attained[:, group, k], scores[trace].cost[:, group, k] = found[:4], found[4:8]
                scores[trace].debt[group, k] = found[8]
                progress(done, len(cells))
        except KeyboardInterrupt:
            interrupted = True
    return Search(tuple(traces), tuple(settings), conditions, holdout, scores, interrupted)


def play_cell(
    rounds: Rounds,
    holdout: Holdout,
    mask: npt.NDArray[np.bool_],
    settings: Sequence[Settings],
    k: int,
    conditions: Conditions,
) -> Floats:
    """Return what settings of one cell came to under the k-th seed: rows of attainments, costs, debt, as in `Scores`.

    `mask` is what `held_out` returned.
    """
    seed = settings[0].seed + k
    settings = [replace(each, seed=seed) for each in settings]
    arranged = rounds.arranged(
        seed=seed,
        shuffle=conditions.shuffle,
        feedback_rate=conditions.feedback_rate,
        feedback_delay=conditions.feedback_delay,
    )
    part = _parts(holdout, holdout.arriving(mask, arranged.order))
    requests, answers = np.bincount(part, minlength=PARTS), np.bincount(part[arranged.heard], minlength=PARTS)
    if settings[0].policy == "messplus":
        alphas, vs = (np.array([getattr(each, name) for each in settings]) for name in ("alpha", "weight"))
        good, paid, queue, _ = sweep(arranged, part, settings[0], alphas, vs)
    else:
        good, paid, queue = _sums(arranged, part, settings)
    return np.concatenate([_means(good, answers), _means(paid, requests), queue[None] / max(1, answers.sum())])


def _parts(holdout: Holdout, held: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return, by arrival: 2 for what is held out, 1 for the last of the others, 0 for the rest."""
    others = np.flatnonzero(~held)
    part = np.where(held, 2, 0)
    part[others[len(others) - max(1, round(holdout.share * len(others))) :]] = 1
    return part


def _sums(rounds: Rounds, part: npt.NDArray[np.int64], settings: Sequence[Settings]) -> tuple[Floats, Floats, Floats]:
    """Return what `sweep` returns, for a policy that has no recursion over many settings at once."""
    good, paid, queue = np.zeros((PARTS, len(settings))), np.zeros((PARTS, len(settings))), np.zeros(len(settings))
    for at, each in enumerate(settings):
        played = build(each.policy, rounds, each).play(rounds)
        good[:, at] = np.bincount(part, np.nan_to_num(played.satisfied), minlength=PARTS)
        paid[:, at] = np.bincount(part, played.cost, minlength=PARTS)
        queue[at] = played.queue_final
    return good, paid, queue


def _means(sums: Floats, counts: npt.NDArray[np.int64]) -> Floats:
    """Return the means of `CHOSEN_ON`, `LATE`, `HELD_OUT` and `WHOLE`; 0 where nothing is counted."""
    unions = ([0, 1], [1], [2], [0, 1, 2])
    return np.stack([sums[union].sum(axis=0) / max(1, counts[union].sum()) for union in unions])


def _groups(settings: Sequence[Settings]) -> list[list[int]]:
    """Return the places of settings that share a predictor pass; a policy without one has a group for each."""
    groups: dict[object, list[int]] = {}
    for at, each in enumerate(settings):
        key = (each.c, each.exponent) if each.policy == "messplus" else at
        groups.setdefault(key, []).append(at)
    return list(groups.values())


def _bare(rounds: Rounds) -> Rounds:
    """Return rounds without their ids, which nothing here looks at, to travel light."""
    return replace(rounds, request_ids=())
