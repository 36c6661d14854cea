"""The arithmetic of `bandit`: its constants, its state, and the compiled steps that both drivers share.

The equations, and what the names stand for, are in `messctl.policies.bandit`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from messctl.compiled import compiled
from messctl.costs import AUTO_SCALE, scale_of
from messctl.features import WORDS, Features
from messctl.policies.base import Floats
from messctl.predictor import Weights
from messctl.virtual_queue import advance

Counts = npt.NDArray[np.int64]

BUCKETS = 64
"""The encoder's word buckets are folded into this many."""
PROPERTIES = 8
TYPICAL = np.array([0.6, 0.1, 0.1, 0.15, 0.2, 0.0, 0.3, 0.5])
"""What the properties are of a common prompt; subtracted, so that the constant stands for the mean."""
WINDOW = 128
"""So many recent prompts are kept to solve λ on."""
LATE = 1024
"""So many recent decisions are kept in mind while their feedback may still come."""
FAR, HALVINGS = 1e4, 24
"""λ is sought from a hundredth of 1/FAR to FAR times the costliest model's mean cost."""
UNSOLVED = -1.0
"""Stands for a price that is still to be solved."""
AUTO_V = -1.0
"""Stands for "λ is re-solved" where compiled code takes a V."""

# Places in State.ledger
BALANCE, QUEUE, SOLVED = range(3)
# Places in the figures of a Weighing
WEIGHED_PRICE, WEIGHED_BALANCE, WEIGHED_BEST, WEIGHED_GUARDED = range(4)
# Places in State.counts
DECIDED, HEARD, LATEST, RECALLED, LABELS = range(5)
# The ways to tell beforehand what an answer will cost: what is known of it and the mean of the rest, what is known and
# a ridge for the rest, the running mean alone
BY_KNOWN, BY_RIDGE, BY_MEAN = range(3)
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
    prompt_costs: bool = True
    reach: float = 0.98
    temper: float = 6.0  # λ grows e-fold for so many answers that the balance falls
    temper_growth: float = 0.02  # and for so many more with every answer heard
    temper_most: float = 110.0
    setpoint: float = 0.5  # the balance is held at this share of the guard's depth
    setpoint_fade: float = 800.0  # but ever closer to 0, e-fold after so many answers
    trial_answers: float = 8.0  # an affordable model gets so many answers early
    trial_rate: float = 0.5
    trial_cost: float = 4.0  # affordable: at most so many times as dear as what would be served
    trial_doubt: float = 1.3  # not once its mean is so many deviations below α
    retrial_rate: float = 0.02
    guard_depth: float = 9.0
    guard_slope: float = 0.001
    guard_slack: float = 0.15  # the depth is smaller by this over the slack
    guard_retry: float = 1.0
    guard_reference: float = 10.0


class Promise(NamedTuple):
    """What is promised, and by which zoo: α, the index of the reference, and V, or AUTO_V."""

    alpha: float
    reference: int
    v: float


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
    awaited: Floats  # (LATE,) the sum of ŝ − α over all decisions, as it stood after each
    ledger: Floats  # BALANCE, QUEUE, SOLVED
    counts: Counts  # DECIDED, HEARD, LATEST, RECALLED, LABELS


Weighing = tuple[Floats, Floats, Floats]
"""What a choice was made of: Ĉ (M,), the odds (M,) with which each model was to be served, and figures (4,)."""

SHARED = ("shared", "shared_cov", "recent", "awaited", "ledger", "counts")
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
        awaited=np.zeros(LATE),
        ledger=np.array([0.0, 0.0, UNSOLVED]),
        counts=np.zeros(5, dtype=np.int64),
    )


def weighing(models: int) -> Weighing:
    """Return room for what a choice is made of."""
    return np.empty(models), np.empty(models), np.empty(4)


def features_of(features: Features) -> Floats:
    """Return z of a single row of features, (1 + BUCKETS + PROPERTIES,)."""
    z = np.empty(1 + BUCKETS + PROPERTIES)
    reduce(features.indices, features.values, z)
    return z


def linear_weights(state: State, promise: Promise, tuning: Tuning) -> Weights:
    """Return what is predicted, as one linear function of z per model."""
    level = np.empty(len(state.good))
    expect(state, promise, tuning, level)
    whole = state.shared + state.own + level[:, None] * state.lean
    return Weights(whole[:, 1:].copy(), whole[:, 0].copy(), state.answers.astype(np.int64))


@compiled
def reduce(indices: npt.NDArray[np.int32], values: npt.NDArray[np.float32], z: Floats) -> None:
    """Write z of one sparse row: 1, the words folded, the properties less what is typical."""
    z[0] = 1.0
    z[1 : 1 + BUCKETS] = 0.0
    for index in range(PROPERTIES):
        z[1 + BUCKETS + index] = -TYPICAL[index]
    for at in range(len(indices)):
        index = indices[at]
        if index < WORDS:
            z[1 + index % BUCKETS] += np.float64(values[at])
        else:
            z[1 + BUCKETS + index - WORDS] += np.float64(values[at])


@compiled
def dot(left: Floats, right: Floats) -> float:
    """Return left·right, summed in order."""
    total = 0.0
    for at in range(len(left)):
        total += left[at] * right[at]
    return total


@compiled
def gain(cov: Floats, z: Floats, out: Floats) -> None:
    """Write cov·z into `out`; by rows, so that it runs in vector registers and sums in one order all the same."""
    out[:] = 0.0
    for row in range(len(z)):
        factor = z[row]
        if factor != 0.0:
            for column in range(len(z)):
                out[column] += factor * cov[row, column]


@compiled
def shrink(cov: Floats, gained: Floats, scale: float) -> None:
    """Take gained·gainedᵀ/scale from `cov`, in place."""
    for row in range(len(gained)):
        factor = gained[row] / scale
        for column in range(len(gained)):
            cov[row, column] -= factor * gained[column]


@compiled
def expect(state: State, promise: Promise, tuning: Tuning, level: Floats) -> None:
    """Write the mean expected of each model into `level`."""
    worth = (tuning.noise / tuning.spread) ** 2
    above = tuning.reference_above * tuning.spread
    total, weights = promise.alpha + tuning.hope * (1.0 - promise.alpha), 1.0
    for model in range(len(level)):
        count = state.answers[model]
        if count > 0.0:
            weight = count / (worth + count)
            total += weight * (state.good[model] / count - (above if model == promise.reference else 0.0))
            weights += weight
    level[:] = total / weights
    level[promise.reference] += above


@compiled
def plain_means(state: State, promise: Promise, tuning: Tuning, level: Floats, means: Floats, known: Floats) -> None:
    """Write each model's mean, shrunk to what is expected of it, and the answers that it rests on."""
    worth = (tuning.noise / tuning.spread) ** 2
    for model in range(len(level)):
        prior = tuning.guard_reference if model == promise.reference else 0.0
        known[model] = state.answers[model] + worth
        means[model] = (state.good[model] + prior + worth * level[model]) / (known[model] + prior)


@compiled
def predict(state: State, z: Floats, level: Floats, predicted: Floats) -> None:
    """Write ŝ of each model into `predicted`."""
    common = dot(state.shared, z)
    for model in range(len(level)):
        value = common + dot(state.own[model], z) + level[model] * dot(state.lean[model], z)
        predicted[model] = min(1.0, max(0.0, value))


@compiled
def properties_of(z: Floats) -> Floats:
    """Return what the cost ridges see of z, (1 + PROPERTIES,): a constant and the properties."""
    properties = z[BUCKETS:].copy()
    properties[0] = 1.0
    return properties


@compiled
def foretold(state: State, model: int, properties: Floats, known: float, way: int) -> float:
    """Return what an answer will cost, told one way; `known` is what reading the prompt will.

    What is known may be fifty times the usual; the ridge's part stays within a factor 4 of the mean of the rest.
    """
    if way == BY_MEAN:
        return state.mean_cost[model]
    rest = state.costs[model, REST]
    if way == BY_RIDGE:
        # The rest is negative where more was thought to be known than was paid.
        low, high = min(0.25 * rest, 4.0 * rest), max(0.25 * rest, 4.0 * rest)
        rest = min(high, max(low, dot(state.cost_weight[model], properties)))
    return max(0.25 * known, known + rest)


@compiled
def best_way(state: State, model: int) -> int:
    """Return the way that has erred least; the first on a tie."""
    best = BY_KNOWN
    for way in (BY_RIDGE, BY_MEAN):
        if state.costs[model, ERRORS + way] < state.costs[model, ERRORS + best]:
            best = way
    return best


@compiled
def expected_costs(state: State, tuning: Tuning, z: Floats, known: Floats, cost: Floats) -> None:
    """Write Ĉ of each model into `cost`; no more than is `known` (M,) where none was observed: so it gets tried."""
    properties = properties_of(z)
    for model in range(len(cost)):
        way = best_way(state, model) if tuning.prompt_costs else BY_MEAN
        cost[model] = foretold(state, model, properties, known[model], way)


@compiled
def least(cost: Floats, value: Floats, price: float, mean_cost: Floats) -> int:
    """Return argmin over m of cost − price·value; a tie goes to the cheaper model, then to the name."""
    best = 0
    lowest = np.inf
    for model in range(len(mean_cost)):
        score = cost[model] - price * value[model]
        if score < lowest or (score == lowest and mean_cost[model] < mean_cost[best]):
            best = model
            lowest = score
    return best


@compiled
def attained(cost: Floats, value: Floats, prompts: int, price: float, mean_cost: Floats) -> float:
    """Return the mean predicted satisfaction over the recent prompts, were they chosen for at this price."""
    # As in `least`, but in place: slicing a row would cost more than the sum.
    total = 0.0
    for at in range(prompts):
        best = 0
        lowest = np.inf
        for model in range(len(mean_cost)):
            score = cost[at, model] - price * value[at, model]
            if score < lowest or (score == lowest and mean_cost[model] < mean_cost[best]):
                best = model
                lowest = score
        total += value[at, best]
    return total / prompts


@compiled
def solve(state: State, promise: Promise, tuning: Tuning, level: Floats) -> float:
    """Return the least price at which the recent prompts would attain α, or `reach` of what they can; 0 if any does."""
    prompts = min(state.counts[RECALLED], WINDOW)
    shape = (prompts, len(level))
    cost, value = np.empty(shape), np.empty(shape)
    known = np.empty(len(level))
    for at in range(prompts):
        predict(state, state.recent[at], level, value[at])
        for model in range(len(level)):
            known[model] = state.recent_known[model, at]
        expected_costs(state, tuning, state.recent[at], known, cost[at])
    scale = scale_of(state.mean_cost, AUTO_SCALE)
    low = attained(cost, value, prompts, 0.0, state.mean_cost)
    if promise.alpha <= low:
        return 0.0
    high = attained(cost, value, prompts, scale * FAR, state.mean_cost)
    target = min(promise.alpha, low + tuning.reach * (high - low))
    # In logarithms: models may be a thousand times apart.
    below, above = np.log(1.0 / (FAR * 100.0)), np.log(FAR)
    for _ in range(HALVINGS):
        middle = 0.5 * (below + above)
        if attained(cost, value, prompts, scale * np.exp(middle), state.mean_cost) < target:
            below = middle
        else:
            above = middle
    return scale * np.exp(above)


@compiled
def awaited_balance(state: State) -> float:
    """Return the balance with what is still awaited counted as predicted, at the rate at which feedback came."""
    decided, latest = state.counts[DECIDED], state.counts[LATEST]
    if latest == 0 or latest >= decided:
        return state.ledger[BALANCE]
    rate = min(1.0, state.counts[HEARD] / latest)
    since = max(latest, decided - LATE + 1)
    coming = state.awaited[decided % LATE] - state.awaited[since % LATE]
    return state.ledger[BALANCE] + rate * coming


@compiled
def depth(state: State, promise: Promise, tuning: Tuning, means: Floats) -> float:
    """Return how far the balance may fall before the guard serves: less where the debt is slow to pay."""
    slack = max(0.01, means.max() - promise.alpha)
    heard, latest = state.counts[HEARD], state.counts[LATEST]
    rate = min(1.0, heard / latest) if latest else 1.0
    deep = max(1.0, tuning.guard_depth - tuning.guard_slack / slack) + tuning.guard_slope * heard
    # Where few answers are judged, each is a larger part of the promise; but one bad answer is no emergency.
    return max(1.0, deep * np.sqrt(rate))


@compiled
def price_of(state: State, promise: Promise, tuning: Tuning, balance: float, deep: float) -> float:
    """Return λ, the price of satisfaction in cost."""
    if promise.v >= 0.0:
        return state.ledger[QUEUE] * scale_of(state.mean_cost, AUTO_SCALE) / max(promise.v, 1e-12)
    # Time passes with requests, whether or not they are judged; what a warm start taught counts as well.
    passed = max(state.counts[DECIDED], state.counts[LABELS])
    held = tuning.setpoint * deep * np.exp(-passed / tuning.setpoint_fade)
    temper = min(tuning.temper_most, tuning.temper + tuning.temper_growth * state.counts[HEARD])
    return state.ledger[SOLVED] * np.exp(min(50.0, max(-50.0, -(balance + held) / temper)))


@compiled
def guard(state: State, tuning: Tuning, means: Floats, known: Floats, extra: Floats) -> int:
    """Return the model that can pay the debt, as far as plain means tell; the cheaper one on a tie."""
    index = np.empty(len(means))
    best = 0
    for model in range(len(means)):
        fair = len(means) * (state.answers[model] + 1.0)
        left_alone = max(0.0, np.log((state.counts[LABELS] + 1.0) / fair))
        index[model] = means[model] + tuning.guard_retry * tuning.noise * np.sqrt(left_alone / known[model])
        if extra[model] == np.inf:
            index[model] = -np.inf
        tied = index[model] == index[best] and state.mean_cost[model] < state.mean_cost[best]
        if index[model] > index[best] or tied:
            best = model
    return best


@compiled
def tried_next(state: State, promise: Promise, tuning: Tuning, extra: Floats, dearest: float) -> int:
    """Return the affordable model with the fewest answers that early trial is still due to, or −1."""
    chosen = -1
    for model in range(len(state.answers)):
        count = state.answers[model]
        if count < tuning.trial_answers and state.mean_cost[model] + extra[model] <= dearest:
            doubt = tuning.trial_doubt * tuning.noise / np.sqrt(max(1.0, count))
            hopeful = count < 3.0 or state.good[model] / count + doubt > promise.alpha
            if hopeful and (chosen < 0 or count < state.answers[chosen]):
                chosen = model
    return chosen


@compiled
def odds_of(state: State, promise: Promise, tuning: Tuning, extra: Floats, best: int, odds: Floats) -> None:
    """Write each model's probability of being served, where `best` is what cost and satisfaction speak for."""
    odds[:] = 0.0
    dearest = tuning.trial_cost * (state.mean_cost[best] + extra[best])
    affordable = 0
    for model in range(len(odds)):
        affordable += state.mean_cost[model] + extra[model] <= dearest
    rest = 1.0
    trial = tried_next(state, promise, tuning, extra, dearest)
    if trial >= 0:
        odds[trial] += tuning.trial_rate
        rest -= tuning.trial_rate
    for model in range(len(odds)):
        if state.mean_cost[model] + extra[model] <= dearest:
            odds[model] += tuning.retrial_rate / affordable
    odds[best] += rest - tuning.retrial_rate


@compiled
def draw(odds: Floats, coin: float) -> int:
    """Return the model on which a uniform coin falls."""
    last = 0
    for model in range(len(odds)):
        if odds[model] > 0.0:
            last = model
            if coin < odds[model]:
                return model
            coin -= odds[model]
    return last


@compiled
def choose(
    state: State,
    promise: Promise,
    tuning: Tuning,
    z: Floats,
    prices: tuple[Floats, Floats],
    coin: float,
    predicted: Floats,
    weighed: Weighing,
) -> int:
    """Return the model to serve; write what is predicted of each, and into `weighed` what the choice was made of.

    `prices` are what reading the prompt will cost each model, (M,), 0 where that is not known, and what each would
    cost now beyond its answer, (M,), infinitely much where it cannot be asked.
    """
    reading, extra = prices
    counts = state.counts
    models = len(predicted)
    cost, odds, figures = weighed
    level, means, known = np.empty(models), np.empty(models), np.empty(models)
    expect(state, promise, tuning, level)
    plain_means(state, promise, tuning, level, means, known)
    predict(state, z, level, predicted)
    expected_costs(state, tuning, z, reading, cost)
    state.recent[counts[RECALLED] % WINDOW] = z
    for model in range(models):
        state.recent_known[model, counts[RECALLED] % WINDOW] = reading[model]
    counts[RECALLED] += 1
    recalled = counts[RECALLED]
    often = recalled < 32 or recalled % (8 if recalled < 512 else 32) == 0
    if often or state.ledger[SOLVED] == UNSOLVED:
        state.ledger[SOLVED] = solve(state, promise, tuning, level)
    balance = awaited_balance(state)
    deep = depth(state, promise, tuning, means)
    price = price_of(state, promise, tuning, balance, deep)
    figures[WEIGHED_PRICE], figures[WEIGHED_BALANCE] = price, balance
    best = least(cost + extra, predicted, price, state.mean_cost)
    guarded = balance < -deep
    figures[WEIGHED_BEST], figures[WEIGHED_GUARDED] = best, guarded
    if guarded:
        served = guard(state, tuning, means, known, extra)
        odds[:] = 0.0
        odds[served] = 1.0
    else:
        odds_of(state, promise, tuning, extra, best, odds)
        served = draw(odds, coin)
    before = state.awaited[counts[DECIDED] % LATE]
    counts[DECIDED] += 1
    state.awaited[counts[DECIDED] % LATE] = before + predicted[served] - promise.alpha
    return served


@compiled
def pay(state: State, tuning: Tuning, model: int, z: Floats, known: float, cost: float) -> None:
    """Take what the served answer cost, of which so much was `known`, into its model's means and ridge.

    All of them forget slowly. Each way to foretell is judged by this cost before it learns from it.
    """
    properties, costs = properties_of(z), state.costs[model]
    if costs[PAID] > 0.0:
        for way in range(3):
            error = abs(cost - foretold(state, model, properties, known, way))
            costs[ERRORS + way] += error - costs[ERRORS + way] / tuning.memory
    state.cost_count[model] += 1
    count = min(float(state.cost_count[model]), tuning.memory)
    state.mean_cost[model] += (cost - state.mean_cost[model]) / count
    costs[PAID] += 1.0
    costs[REST] += (cost - known - costs[REST]) / min(costs[PAID], tuning.memory)
    gained = np.empty(len(properties))
    gain(state.cost_cov[model], properties, gained)
    scale = 1.0 + dot(gained, properties)
    error = cost - known - dot(state.cost_weight[model], properties)
    for at in range(len(gained)):
        state.cost_weight[model, at] += gained[at] * error / scale
    shrink(state.cost_cov[model], gained, scale)
    state.cost_cov[model, 0, 0] += 1.0 / tuning.memory**2


@compiled
def owe(state: State, alpha: float, number: int, satisfied: float) -> None:
    """Take the feedback on decision `number` (from 1) into the balance and the virtual queue."""
    state.ledger[BALANCE] += satisfied - alpha
    state.ledger[QUEUE] = advance(state.ledger[QUEUE], alpha, satisfied)
    state.counts[HEARD] += 1
    state.counts[LATEST] = max(state.counts[LATEST], min(number, state.counts[DECIDED]))


@compiled
def hear(state: State, promise: Promise, tuning: Tuning, model: int, z: Floats, satisfied: float) -> None:
    """Learn the feedback on an answer of `model`: its plain mean, and both ridges."""
    level = np.empty(len(state.good))
    expect(state, promise, tuning, level)
    state.counts[LABELS] += 1
    kept = 1.0 - 1.0 / tuning.memory
    state.good[model] = kept * state.good[model] + satisfied
    state.answers[model] = kept * state.answers[model] + 1.0
    gained, shared_gain = np.empty(len(z)), np.empty(len(z))
    gain(state.own_cov[model], z, gained)
    gain(state.shared_cov, z, shared_gain)
    scale = 1.0 + dot(gained, z) + dot(shared_gain, z)
    leaning = dot(state.lean[model], z)
    own_error = satisfied - dot(state.shared, z) - dot(state.own[model], z)
    error = own_error - level[model] * leaning
    for at in range(len(z)):
        # The own weights are kept without μ, which may still move; `lean` is what it adds.
        state.own[model, at] += gained[at] * own_error / scale
        state.lean[model, at] -= gained[at] * leaning / scale
        state.shared[at] += shared_gain[at] * error / scale
    shrink(state.own_cov[model], gained, scale)
    shrink(state.shared_cov, shared_gain, scale)
    # The level may drift: a filter that is told so keeps a memory of about `memory` answers.
    state.own_cov[model, 0, 0] += 1.0 / tuning.memory**2


@compiled
def play(
    state: State,
    promise: Promise,
    tuning: Tuning,
    arrivals: tuple[Counts, npt.NDArray[np.bool_], int, Floats],
    rows: tuple[Counts, npt.NDArray[np.int32], npt.NDArray[np.float32]],
    outcomes: tuple[Floats, Floats, Floats],
    steps: tuple[Counts, Floats, Floats, Floats, Floats, Floats, Floats],
) -> None:
    """Play all rounds from where the state stands.

    `outcomes` are satisfaction, cost, and what is known of it beforehand, each (n, M), the last (0, M) for nothing.
    `steps` are filled in: served, propensity, judged, queue before and after, predicted, mean costs.
    """
    order, heard, delay, coins = arrivals
    starts, indices, values = rows
    satisfied, cost, known = outcomes
    served, propensity, judged, before, after, predicted, mean_costs = steps
    n, models = predicted.shape
    earlier = state.counts[DECIDED]
    z, cost_of, odds, figures = np.empty(1 + BUCKETS + PROPERTIES), np.empty(models), np.empty(models), np.empty(4)
    weighed, reading = (cost_of, odds, figures), np.zeros(models)
    prices = (reading, np.zeros(models))
    for t in range(n + delay):
        if t < n:
            row = order[t]
            reduce(indices[starts[row] : starts[row + 1]], values[starts[row] : starts[row + 1]], z)
            for model in range(models):
                mean_costs[t, model] = state.mean_cost[model] if state.cost_count[model] else np.nan
            if len(known):
                reading[:] = known[row]
            before[t] = state.ledger[QUEUE]
            served[t] = choose(state, promise, tuning, z, prices, coins[t], predicted[t], weighed)
            propensity[t] = odds[served[t]]
            pay(state, tuning, served[t], z, reading[served[t]], cost[row, served[t]])
            judged[t] = satisfied[row, served[t]] if heard[t] else np.nan
        due = t - delay
        if due >= 0 and heard[due]:
            row = order[due]
            reduce(indices[starts[row] : starts[row + 1]], values[starts[row] : starts[row + 1]], z)
            owe(state, promise.alpha, earlier + due + 1, judged[due])
            hear(state, promise, tuning, served[due], z, judged[due])
        after[min(t, n - 1)] = state.ledger[QUEUE]
