"""What `bandit` knows: its constants, what is promised, and its state, as arrays that change in place."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from messctl.policies.bandit.prompt import BUCKETS, PROPERTIES
from messctl.policies.base import Floats

Counts = npt.NDArray[np.int64]

WINDOW = 128
"""So many recent prompts are kept to solve λ on."""
LATE = 1024
"""So many recent decisions are kept in mind while their feedback may still come."""
LATENESS_KEPT, LATENESS_GROWN = 0.99, 0.25
"""How late feedback is, fades by the first with every answer that is judged; of what one was later it grows by the
second, since a single old answer that is judged after all says little."""
UNSOLVED = -1.0
"""Stands for a price that is still to be solved."""
UNKNOWN_LATENESS = -1.0
"""Stands for a lateness of feedback that is still to be seen."""
AUTO_V = -1.0
"""Stands for "λ is re-solved" where compiled code takes a V."""

LEAST_SLACK = 0.012
"""The best model is taken to lie at least so far above α where something is divided by that."""

RECENT_ANSWERS = 50
"""Over about so many judged answers goes the running mean of s − α."""

# Places in State.ledger
BALANCE, QUEUE, SOLVED, RECENT = range(4)
# Places in State.counts
DECIDED, HEARD, LATEST, RECALLED, LABELS = range(5)
# Places in State.costs: answers paid, the mean of what was not known of their costs, and each way's errors
PAID, REST, ERRORS = range(3)


class Tuning(NamedTuple):
    """The constants of the algorithm; the defaults are meant for every zoo. For ablations."""

    noise: float = 0.4  # σ, the deviation of one answer's feedback
    spread: float = 0.08  # the deviation of models' means about their common mean
    hope: float = 0.25  # the common mean before anything is known, worth one model, lies this far from α to 1
    reference_above: float = 0.5  # the reference is expected so many `spread` above
    shared_ridge: float = 16.0  # 0: no shared ridge
    own_ridge: float = 32.0
    memory: float = 300.0  # about so many of a model's answers, and costs, are remembered
    idle_memory: float = 2000.0  # what is known of a mean fades with so many answers of others, or all so far
    wrong_debt: float = 20.0  # with more debt than this, and s − α below
    wrong_rate: float = -0.1  # this on the recent mean, what is believed must be wrong,
    wrong_memory: float = 300.0  # and what is known of idle models fades with every so many
    prompt_costs: bool = True
    reach: float = 0.98
    smooth: float = 0.01  # λ₀ is between the prices of α less and of α more so much
    temper: float = 6.0  # λ grows e-fold for so many answers that the balance falls
    temper_growth: float = 0.02  # and for so many more with every answer heard
    temper_most: float = 110.0
    price_most: float = 12.0  # λ is at most so many times the mean cost of the costliest model
    price_known: float = 50.0  # and as many times more for every so many requests per model
    credit: float = 20.0  # of what was attained beyond α, so many answers may be spent later
    setpoint: float = 0.25  # the balance is held at this share of the guard's depth
    setpoint_fade: float = 800.0  # but ever closer to 0, e-fold after so many answers
    reserve: float = 6.0  # and above 0 by so many lengths of bad luck
    reserve_fade: float = 0.02  # less by this with every answer heard
    reserve_share: float = 0.3  # but by no more than this share of what was paid so far would buy
    trial_answers: float = 8.0  # an affordable model gets so many answers early, and again when they have faded
    trial_rate: float = 0.5
    trial_cost: float = 4.0  # affordable: at most so many times as dear as what would be served
    trial_doubt: float = 1.3  # not once its mean is so many deviations below α
    trial_balance: float = 0.0  # nor while the balance is below this
    retrial_rate: float = 0.02
    search_cost: float = 0.5  # cheap: at most so many times what the costliest model costs; 0: no search
    search_hope: float = 1.0  # one may yet keep the promise if it does with its mean so many deviations higher
    search_time: float = 100.0  # only for so many judged answers for every model
    search_bold: float = 0.4  # and a model left alone is overrated by this times √log
    search_slack: float = 0.035  # the best model must be so far above α
    search_doubt: float = 0.5  # its mean taken to be so many deviations lower
    search_price: float = 5.0  # λ is at most so many times the mean cost of the costliest model
    search_debt: float = 0.5  # below this share of the guard's depth no prompt is looked at
    late_answers: float = 8.0  # so many answers of a model may be awaited, and none of one known better for long
    late_growth: float = 4.0  # so many more for each that is known
    late_doubt: float = 1.0  # what is awaited is taken to be so many deviations worse than the model's mean
    guard_depth: float = 8.0
    guard_slope: float = 0.001
    guard_slack: float = 0.15  # the depth is smaller by this over the slack
    guard_retry: float = 1.0
    guard_reference: float = 10.0
    guard_care: float = 10.0  # for so much below its line the guard is careful
    guard_doubt: float = 1.5  # it takes each mean to be so many deviations lower


class Promise(NamedTuple):
    """What is promised, and by which zoo: α, the index of the reference, V, or AUTO_V, and what trials may cost."""

    alpha: float
    reference: int
    v: float
    trial_budget: float = np.inf


class State(NamedTuple):
    """All that is known, as arrays that change in place; M models, d = 1 + BUCKETS + PROPERTIES features."""

    shared: Floats  # (d,)
    shared_cov: Floats  # (d, d)
    own: Floats  # (M, d)
    own_cov: Floats  # (M, d, d)
    lean: Floats  # (M, d), v_m
    good: Floats  # (M,) sum of satisfaction, fading
    answers: Floats  # (M,) of so many answers
    mean_cost: Floats  # (M,)
    cost_count: Counts  # (M,)
    cost_weight: Floats  # (M, 1 + PROPERTIES)
    cost_cov: Floats  # (M, 1 + PROPERTIES, 1 + PROPERTIES)
    costs: Floats  # (M, 5) PAID, REST, ERRORS: a fading sum for each way
    recent_known: Floats  # (M, WINDOW) what was known of the recent prompts' costs
    recent: Floats  # (WINDOW, d) the prompts as they were
    served_at: Counts  # (M, LATE) the numbers of the recent decisions that served a model, each at number % LATE
    lateness: Floats  # (1,) by about how many requests the later feedback is late; −1 before any came
    forgone: Floats  # (1,) what was attained beyond α and is not counted on
    elsewhere: Counts  # (1,) how many of the promise's decisions others took; all numbers here are without them
    tried: Floats  # (1,) what trials were expected to cost beyond the choices
    ledger: Floats  # BALANCE, QUEUE, SOLVED, RECENT
    counts: Counts  # DECIDED, HEARD, LATEST, RECALLED, LABELS


SHARED = ("shared", "shared_cov", "recent", "lateness", "forgone", "elsewhere", "tried", "ledger", "counts")
"""The fields of State that belong to no model; all others have a model's part."""


def fresh(models: int, tuning: Tuning) -> State:
    """Return the state before anything is known."""
    d, k = 1 + BUCKETS + PROPERTIES, 1 + PROPERTIES
    shared_cov = np.eye(d) / tuning.shared_ridge if tuning.shared_ridge else np.zeros((d, d))
    shared_cov[0, 0] = 0.0  # the common level is μ's affair
    own_cov = np.eye(d) / tuning.own_ridge
    own_cov[0, 0] = (tuning.spread / tuning.noise) ** 2
    cost_cov = np.eye(k) / 0.3
    cost_cov[0, 0] = 1e6
    lean = np.zeros((models, d))
    lean[:, 0] = 1.0
    return State(
        shared=np.zeros(d),
        shared_cov=shared_cov,
        own=np.zeros((models, d)),
        own_cov=np.tile(own_cov, (models, 1, 1)),
        lean=lean,
        good=np.zeros(models),
        answers=np.zeros(models),
        mean_cost=np.zeros(models),
        cost_count=np.zeros(models, dtype=np.int64),
        cost_weight=np.zeros((models, k)),
        cost_cov=np.tile(cost_cov, (models, 1, 1)),
        costs=np.zeros((models, 5)),
        recent_known=np.zeros((models, WINDOW)),
        recent=np.zeros((WINDOW, d)),
        served_at=np.zeros((models, LATE), dtype=np.int64),
        lateness=np.array([UNKNOWN_LATENESS]),
        forgone=np.zeros(1),
        elsewhere=np.zeros(1, dtype=np.int64),
        tried=np.zeros(1),
        ledger=np.array([0.0, 0.0, UNSOLVED, 0.0]),
        counts=np.zeros(5, dtype=np.int64),
    )
