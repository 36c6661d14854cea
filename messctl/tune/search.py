"""The search: it plays every setting under every seed over the whole trace, as `replay` does.

The results are summed separately over the selection requests and those held out. If the last requests are held out,
the router reaches them with the learning and the debt of the earlier ones, as it would live.

The exploration of MESS+, and so all its learning, depends only on c, the exponent and the seed. So the unit of work is
a *cell*: one c and one exponent under one seed. All V and α of a cell share one pass of the predictor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from messctl.policies import Rounds, build, kind_of
from messctl.policies.base import Floats
from messctl.replay.holdout import Holdout, held_out
from messctl.replay.loading import Recording
from messctl.replay.result import Conditions
from messctl.tune import windows
from messctl.tune.engine import running
from messctl.tune.recursion import sweep
from messctl.tune.windows import PARTS
from messctl.zoo import Settings


@dataclass(frozen=True, slots=True)
class Scores:
    """The results of every setting on one trace; NaN if a setting was not played. Rows are those of `windows`.

    `attained` (0..1), the mean satisfaction of the answers with feedback, and `cost`, the mean per request in the
    trace's unit, are (rows, settings, seeds). `debt` is the final queue per answer with feedback, Q/n, (settings,
    seeds). `best_single` is the attainment of the best single model, (rows, seeds).
    """

    attained: Floats
    cost: Floats
    debt: Floats
    best_single: Floats

    @classmethod
    def unknown(cls, rows: int, settings: int, seeds: int) -> Scores:
        """Return tables of NaN, for before anything is played."""
        table = (rows, settings, seeds)
        return cls(*(np.full(form, np.nan) for form in (table, table, table[1:], (rows, seeds))))


@dataclass(frozen=True, slots=True)
class Search:
    """A finished search: the settings, the traces, and the scores of each trace.

    `interrupted` tells that it stopped early. Then a seed counts only if every setting was played under it.
    """

    traces: tuple[Recording, ...]
    settings: tuple[Settings, ...]
    conditions: Conditions
    holdout: Holdout
    scores: tuple[Scores, ...]
    interrupted: bool = False

    def complete_seeds(self) -> npt.NDArray[np.intp]:
        """Return the indices of the seeds under which every setting was played on every trace."""
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
    """Play every setting under every seed. Settings may differ in policy, α, margin, V, c and exponent only.

    `progress` gets the numbers of cells done and in total. Ctrl-C ends the search early, with the results so far.
    Raises UsageError for a holdout that leaves no requests, and the errors of `running`.
    """
    for name in dict.fromkeys(each.policy for each in settings):
        kind_of(name)
    looks = any(each.asks > 1 for each in settings)
    work = [(_bare(trace.rounds, looks=looks), holdout, held_out(trace, holdout)) for trace in traces]
    rows = windows.rows(holdout)
    scores = tuple(Scores.unknown(rows, len(settings), conditions.seeds) for _ in traces)
    groups = _groups(settings)
    # Seeds are outermost, so that a search that stops early has whole seeds.
    cells = [(k, trace, group) for k in range(conditions.seeds) for trace in range(len(traces)) for group in groups]
    pieces = [(*work[trace], [settings[at] for at in group], k, conditions) for k, trace, group in cells]
    interrupted = False
    for (rounds, _, mask), known in zip(work, scores, strict=True):
        for k in range(conditions.seeds):
            arranged, part = _arrival(rounds, holdout, mask, settings[0].seed + k, conditions)
            known.best_single[:, k] = windows.best_single(arranged, part, holdout)
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
    """Return the results of one cell under the k-th seed: rows of attainments, then of costs, then the debt.

    The rows are those of `Scores`, the columns the settings. `mask` comes from `held_out`.
    """
    seed = settings[0].seed + k
    settings = [replace(each, seed=seed) for each in settings]
    arranged, part = _arrival(rounds, holdout, mask, seed, conditions)
    requests, answers = np.bincount(part, minlength=PARTS), np.bincount(part[arranged.has_feedback], minlength=PARTS)
    if settings[0].policy == "messplus":
        alphas, vs = (np.array([getattr(each, name) for each in settings]) for name in ("aim", "weight"))
        satisfied, cost, queue, _ = sweep(arranged, part, settings[0], alphas, vs)
    else:
        satisfied, cost, queue = _sums(arranged, part, settings)
    return np.concatenate(
        [
            windows.means(satisfied, answers, holdout),
            windows.means(cost, requests, holdout),
            queue[None] / max(1, answers.sum()),
        ]
    )


def _arrival(
    rounds: Rounds, holdout: Holdout, mask: npt.NDArray[np.bool_], seed: int, conditions: Conditions
) -> tuple[Rounds, windows.Parts]:
    """Return the rounds in the order of arrival of one seed, and the part of each request."""
    arranged = rounds.arranged(
        seed=seed,
        shuffle=conditions.shuffle,
        feedback_rate=conditions.feedback_rate,
        feedback_delay=conditions.feedback_delay,
    )
    return arranged, windows.parts(holdout.arriving(mask, arranged.order))


def _sums(rounds: Rounds, part: npt.NDArray[np.int64], settings: Sequence[Settings]) -> tuple[Floats, Floats, Floats]:
    """Return the sums that `sweep` returns, for a policy that plays one setting at a time."""
    satisfied, cost, queue = np.zeros((PARTS, len(settings))), np.zeros((PARTS, len(settings))), np.zeros(len(settings))
    for at, each in enumerate(settings):
        played = build(each.policy, rounds, each).play(rounds)
        # A policy that never learns is scored on every request; here only those with feedback count.
        judged = np.where(rounds.has_feedback, np.nan_to_num(played.satisfied), 0.0)
        satisfied[:, at] = np.bincount(part, judged, minlength=PARTS)
        cost[:, at] = np.bincount(part, played.cost, minlength=PARTS)
        queue[at] = played.queue_final
    return satisfied, cost, queue


def _groups(settings: Sequence[Settings]) -> list[list[int]]:
    """Return the indices of the settings by cell; a policy other than messplus has a cell for each setting."""
    groups: dict[object, list[int]] = {}
    for at, each in enumerate(settings):
        key = (each.c, each.exponent) if each.policy == "messplus" else at
        groups.setdefault(key, []).append(at)
    return list(groups.values())


def _bare(rounds: Rounds, *, looks: bool) -> Rounds:
    """Return the rounds without what the search does not use, so that less is sent to a worker.

    It does not use their ids; their answers only if it `looks` at them.
    """
    return replace(rounds, request_ids=(), answers=rounds.answers if looks else None, latency_s=None)
