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
from messctl.replay.loading import Holdout, Recording, held_out
from messctl.replay.play import Conditions
from messctl.tune import windows
from messctl.tune.engine import running
from messctl.tune.recursion import sweep
from messctl.tune.windows import PARTS
from messctl.zoo import Settings


@dataclass(frozen=True, slots=True)
class Scores:
    """What every setting came to on one trace; NaN where it was not played. Rows are as in `windows`.

    `attained`, the mean satisfaction of the answers that got feedback, and `cost`, the mean per request in the trace's
    unit, are (rows, settings, seeds). `debt` is the queue at the end per answer with feedback, Q/n, (settings, seeds).
    `alone` is what the best model alone attains, (rows, seeds).
    """

    attained: Floats
    cost: Floats
    debt: Floats
    alone: Floats

    @classmethod
    def unknown(cls, rows: int, settings: int, seeds: int) -> Scores:
        """Return tables before anything is played."""
        table = (rows, settings, seeds)
        return cls(*(np.full(form, np.nan) for form in (table, table, table[1:], (rows, seeds))))


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
    """Play every setting, alike but for the policy, α, its margin, V, c and the exponent.

    `progress` hears how many cells of how many are done. Ctrl-C ends it early, with what is known by then. Raises
    UsageError for a hold-out that leaves nothing, and as `running` does.
    """
    for name in dict.fromkeys(each.policy for each in settings):
        kind_of(name)
    work = [(_bare(trace.rounds), holdout, held_out(trace, holdout)) for trace in traces]
    rows = windows.rows(holdout)
    scores = tuple(Scores.unknown(rows, len(settings), conditions.seeds) for _ in traces)
    groups = _groups(settings)
    # Seeds outermost: whoever stops early knows whole seeds.
    cells = [(k, trace, group) for k in range(conditions.seeds) for trace in range(len(traces)) for group in groups]
    pieces = [(*work[trace], [settings[at] for at in group], k, conditions) for k, trace, group in cells]
    interrupted = False
    for (rounds, _, mask), known in zip(work, scores, strict=True):
        for k in range(conditions.seeds):
            arranged, part = _arrival(rounds, holdout, mask, settings[0].seed + k, conditions)
            known.alone[:, k] = windows.alone(arranged, part, holdout)
    with running(play_cell, pieces, engine, address) as results:
        try:
            for done, ((k, trace, group), found) in enumerate(zip(cells, results, strict=True), start=1):
                scores[trace].attained[:, group, k], scores[trace].cost[:, group, k] = found[:rows], found[rows:-1]
                scores[trace].debt[group, k] = found[-1]
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
    arranged, part = _arrival(rounds, holdout, mask, seed, conditions)
    requests, answers = np.bincount(part, minlength=PARTS), np.bincount(part[arranged.has_feedback], minlength=PARTS)
    if settings[0].policy == "messplus":
        alphas, vs = (np.array([getattr(each, name) for each in settings]) for name in ("aim", "weight"))
        good, paid, queue, _ = sweep(arranged, part, settings[0], alphas, vs)
    else:
        good, paid, queue = _sums(arranged, part, settings)
    return np.concatenate(
        [
            windows.means(good, answers, holdout),
            windows.means(paid, requests, holdout),
            queue[None] / max(1, answers.sum()),
        ]
    )


def _arrival(
    rounds: Rounds, holdout: Holdout, mask: npt.NDArray[np.bool_], seed: int, conditions: Conditions
) -> tuple[Rounds, windows.Parts]:
    """Return the rounds as one seed has them arrive, and the part of each request."""
    arranged = rounds.arranged(
        seed=seed,
        shuffle=conditions.shuffle,
        feedback_rate=conditions.feedback_rate,
        feedback_delay=conditions.feedback_delay,
    )
    return arranged, windows.parts(holdout.arriving(mask, arranged.order))


def _sums(rounds: Rounds, part: npt.NDArray[np.int64], settings: Sequence[Settings]) -> tuple[Floats, Floats, Floats]:
    """Return what `sweep` returns, for a policy that has no recursion over many settings at once."""
    good, paid, queue = np.zeros((PARTS, len(settings))), np.zeros((PARTS, len(settings))), np.zeros(len(settings))
    for at, each in enumerate(settings):
        played = build(each.policy, rounds, each).play(rounds)
        good[:, at] = np.bincount(part, np.nan_to_num(played.satisfied), minlength=PARTS)
        paid[:, at] = np.bincount(part, played.cost, minlength=PARTS)
        queue[at] = played.queue_final
    return good, paid, queue


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
