"""The arithmetic of `bandit`: its constants, its state, and the compiled steps that both drivers share.

The equations, and what the names stand for, are in `messctl.policies.bandit`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from messctl.compiled import compiled
from messctl.costs import AUTO_SCALE, observe, scale_of
from messctl.features import WORDS, Features
from messctl.policies.base import Floats
from messctl.predictor import Weights
from messctl.virtual_queue import advance

Counts = npt.NDArray[np.int64]

BUCKETS = 32
"""The encoder's word buckets are folded into this many."""
PROPERTIES = 8
TYPICAL = np.array([0.6, 0.1, 0.1, 0.15, 0.2, 0.0, 0.3, 0.5])
"""What the properties are of a common prompt; subtracted, so that the constant stands for the mean."""
WINDOW = 256
"""So many recent prompts' predictions are kept to solve λ on."""
FAR, HALVINGS = 1e4, 24
"""λ is sought from a millionth to FAR times the costliest model's mean cost."""

# Places in State.ledger
BALANCE, PRICE, PAID = range(3)
# Places in State.counts
DECIDED, HEARD, PRICED = range(3)


class Tuning(NamedTuple):
    """The constants of the algorithm; the defaults are meant for every zoo. For ablations."""

    noise: float = 0.4  # σ, the deviation of one answer's feedback
    spread: float = 0.08  # the deviation of models' means about their common mean
    hope: float = 0.25  # the common mean before anything is known, worth one model, lies this far from α to 1
    reference_above: float = 1.0  # the reference is expected so many `spread` above
    shared_ridge: float = 5.0  # 0: no shared ridge
    own_ridge: float = 60.0
    optimism: float = 1.0
    retry: float = 1.0  # weight of log⁺ in the optimism
    thrift: float = 1.5  # exponent of c̄/Ē in the optimism
    horizon: float = 200.0
    every: int = 8
    reach: float = 0.98
    guard_start: float = 3.0
    guard_slope: float = 0.004
    guard_retry: float = 1.0
    guard_reference: float = 10.0
    prompt_costs: bool = True


class State(NamedTuple):
    """All that is known, as arrays that change in place; M models, d = 1 + BUCKETS + PROPERTIES features."""

    shared: Floats  # (d,)
    shared_cov: Floats  # (d, d)
    own: Floats  # (M, d)
    own_cov: Floats  # (M, d, d)
    lean: Floats  # (M, d), v_m
    good: Floats  # (M,) sum of satisfaction
    answers: Floats  # (M,) those with feedback
    mean_cost: Floats  # (M,)
    cost_count: Counts  # (M,)
    cost_weight: Floats  # (M, 1 + PROPERTIES)
    cost_cov: Floats  # (M, 1 + PROPERTIES, 1 + PROPERTIES)
    recent_value: Floats  # (WINDOW, M) ŝ
    recent_score: Floats  # (WINDOW, M) ŝ + b
    recent_cost: Floats  # (WINDOW, M) Ĉ
    ledger: Floats  # BALANCE, PRICE, PAID
    counts: Counts  # DECIDED, HEARD, PRICED


SHARED = ("shared", "shared_cov", "ledger", "counts")
"""The fields of State that belong to no model; all others have a model's part."""
RECENT = ("recent_value", "recent_score", "recent_cost")


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
        recent_value=np.zeros((WINDOW, models)),
        recent_score=np.zeros((WINDOW, models)),
        recent_cost=np.zeros((WINDOW, models)),
        ledger=np.zeros(3),
        counts=np.zeros(3, dtype=np.int64),
    )


def features_of(features: Features) -> Floats:
    """Return z of a single row of features, (1 + BUCKETS + PROPERTIES,)."""
    z = np.empty(1 + BUCKETS + PROPERTIES)
    reduce(features.indices, features.values, z)
    return z


def linear_weights(state: State, alpha: float, reference: int, tuning: Tuning) -> Weights:
    """Return what is predicted, as one linear function of z per model."""
    level = np.empty(len(state.good))
    expect(state, alpha, reference, tuning, level)
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
def expect(state: State, alpha: float, reference: int, tuning: Tuning, level: Floats) -> float:
    """Write the mean expected of each model into `level`; return n₀, what that expectation is worth in answers."""
    worth = (tuning.noise / tuning.spread) ** 2
    above = tuning.reference_above * tuning.spread
    total, weights = alpha + tuning.hope * (1.0 - alpha), 1.0
    for model in range(len(level)):
        count = state.answers[model]
        if count > 0.0:
            weight = count / (worth + count)
            total += weight * (state.good[model] / count - (above if model == reference else 0.0))
            weights += weight
    level[:] = total / weights
    level[reference] += above
    return worth


@compiled
def retry(state: State, model: int) -> float:
    """Return log⁺(n / (M·(n_m + 1))): how long a model has been left alone."""
    fair = len(state.answers) * (state.answers[model] + 1.0)
    return max(0.0, np.log((state.counts[HEARD] + 1.0) / fair))


@compiled
def least(cost: Floats, score: Floats, at: int, price: float, mean_cost: Floats) -> int:
    """Return argmin over m of cost − price·score in row `at`; a tie goes to the cheaper model, then to the name."""
    best = 0
    lowest = np.inf
    for model in range(len(mean_cost)):
        value = cost[at, model] - price * score[at, model]
        if value < lowest or (value == lowest and mean_cost[model] < mean_cost[best]):
            best = model
            lowest = value
    return best


@compiled
def attained(state: State, prompts: int, price: float) -> float:
    """Return the mean predicted satisfaction over the recent prompts, were they chosen for at this price."""
    # Taken out of the tuple once: here, reaching into it or slicing a row would cost more than the sum.
    value, score, cost, mean_cost = state.recent_value, state.recent_score, state.recent_cost, state.mean_cost
    total = 0.0
    for at in range(prompts):
        total += value[at, least(cost, score, at, price, mean_cost)]
    return total / prompts


@compiled
def solve(state: State, target: float, reach: float) -> float:
    """Return the least price at which the recent prompts would attain `target`, or `reach` of what they can."""
    prompts = min(state.counts[DECIDED], WINDOW)
    scale = scale_of(state.mean_cost, AUTO_SCALE)
    low = attained(state, prompts, 0.0)
    high = attained(state, prompts, scale * FAR)
    target = min(target, low + reach * (high - low))
    if target <= low:
        return 0.0
    # In logarithms: models may be a thousand times apart.
    below, above = np.log(1.0 / (FAR * 100.0)), np.log(FAR)
    for _ in range(HALVINGS):
        middle = 0.5 * (below + above)
        if attained(state, prompts, scale * np.exp(middle)) < target:
            below = middle
        else:
            above = middle
    return scale * np.exp(above)


@compiled
def guard(state: State, reference: int, tuning: Tuning, level: Floats, worth: float) -> int:
    """Return the model that can pay the debt, as far as plain means tell; the cheaper one on a tie."""
    best = 0
    highest = -np.inf
    for model in range(len(level)):
        prior = tuning.guard_reference if model == reference else 0.0
        known = state.answers[model] + worth
        mean = (state.good[model] + prior + worth * level[model]) / (known + prior)
        index = mean + tuning.guard_retry * tuning.noise * np.sqrt(retry(state, model) / known)
        if index > highest or (index == highest and state.mean_cost[model] < state.mean_cost[best]):
            best = model
            highest = index
    return best


@compiled
def choose(state: State, alpha: float, reference: int, z: Floats, predicted: Floats, tuning: Tuning) -> int:
    """Return the model to serve, and write what is predicted of each into `predicted`."""
    models = len(predicted)
    ledger, counts = state.ledger, state.counts
    at = counts[DECIDED] % WINDOW
    level = np.empty(models)
    worth = expect(state, alpha, reference, tuning, level)
    gained = np.empty(len(z))
    common = dot(state.shared, z)
    properties = z[BUCKETS:].copy()
    properties[0] = 1.0
    for model in range(models):
        value = common + dot(state.own[model], z) + level[model] * dot(state.lean[model], z)
        predicted[model] = min(1.0, max(0.0, value))
        gain(state.own_cov[model], z, gained)
        push = tuning.optimism**2 + tuning.retry * retry(state, model)
        bonus = tuning.noise * np.sqrt(max(0.0, dot(gained, z)) * push)
        mean = state.mean_cost[model]
        if mean > ledger[PAID]:
            bonus *= (ledger[PAID] / mean) ** tuning.thrift
        state.recent_value[at, model] = predicted[model]
        state.recent_score[at, model] = predicted[model] + bonus
        cost = mean
        if tuning.prompt_costs:
            cost = min(4.0 * mean, max(0.25 * mean, dot(state.cost_weight[model], properties)))
        state.recent_cost[at, model] = cost
    counts[DECIDED] += 1
    if counts[DECIDED] % tuning.every == 0 or counts[DECIDED] < 64:
        target = alpha - ledger[BALANCE] / tuning.horizon
        ledger[PRICE] = solve(state, target, tuning.reach)
    if ledger[BALANCE] < -(tuning.guard_start + tuning.guard_slope * counts[HEARD]):
        return guard(state, reference, tuning, level, worth)
    return least(state.recent_cost, state.recent_score, at, ledger[PRICE], state.mean_cost)


@compiled
def pay(state: State, model: int, z: Floats, cost: float) -> None:
    """Take what the served answer cost into its model's mean and ridge."""
    observe(state.mean_cost, state.cost_count, model, cost)
    state.counts[PRICED] += 1
    state.ledger[PAID] += (cost - state.ledger[PAID]) / state.counts[PRICED]
    properties = z[BUCKETS:].copy()
    properties[0] = 1.0
    gained = np.empty(len(properties))
    gain(state.cost_cov[model], properties, gained)
    scale = 1.0 + dot(gained, properties)
    error = cost - dot(state.cost_weight[model], properties)
    for at in range(len(gained)):
        state.cost_weight[model, at] += gained[at] * error / scale
    shrink(state.cost_cov[model], gained, scale)


@compiled
def hear(
    state: State,
    alpha: float,
    reference: int,
    model: int,
    z: Floats,
    satisfied: float,
    tuning: Tuning,
) -> None:
    """Take the served answer's feedback into the balance, the plain means and both ridges."""
    ledger, counts = state.ledger, state.counts
    level = np.empty(len(state.good))
    expect(state, alpha, reference, tuning, level)
    counts[HEARD] += 1
    ledger[BALANCE] += satisfied - alpha
    state.good[model] += satisfied
    state.answers[model] += 1.0
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


@compiled
def play(
    state: State,
    promise: tuple[float, int],
    tuning: Tuning,
    arrivals: tuple[Counts, npt.NDArray[np.bool_], int],
    rows: tuple[Counts, npt.NDArray[np.int32], npt.NDArray[np.float32]],
    outcomes: tuple[Floats, Floats],
    steps: tuple[Counts, Floats, Floats, Floats, Floats, Floats],
) -> None:
    """Play all rounds; `steps` are filled in: served, judged, queue before and after, predicted, mean cost."""
    alpha, reference = promise
    order, heard, delay = arrivals
    starts, indices, values = rows
    satisfied, cost = outcomes
    served, judged, before, after, predicted, mean_costs = steps
    n, models = predicted.shape
    z = np.empty(1 + BUCKETS + PROPERTIES)
    queue = 0.0
    for t in range(n + delay):
        if t < n:
            row = order[t]
            reduce(indices[starts[row] : starts[row + 1]], values[starts[row] : starts[row + 1]], z)
            for model in range(models):
                mean_costs[t, model] = state.mean_cost[model] if state.cost_count[model] else np.nan
            before[t] = queue
            served[t] = choose(state, alpha, reference, z, predicted[t], tuning)
            pay(state, served[t], z, cost[row, served[t]])
            judged[t] = satisfied[row, served[t]] if heard[t] else np.nan
        due = t - delay
        if due >= 0 and heard[due]:
            row, model = order[due], served[due]
            reduce(indices[starts[row] : starts[row + 1]], values[starts[row] : starts[row + 1]], z)
            queue = advance(queue, alpha, judged[due])
            hear(state, alpha, reference, model, z, judged[due], tuning)
        after[min(t, n - 1)] = queue
