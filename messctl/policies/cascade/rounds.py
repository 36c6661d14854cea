"""All rounds of a replay in one compiled loop, which takes the same steps as `decide`, `look` and `learn`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from messctl.learning.compiled import compiled, compiled_loop
from messctl.learning.features import SparseRows
from messctl.policies.bandit.balance import record_balance
from messctl.policies.bandit.choice import Prices
from messctl.policies.bandit.costs import learn_cost
from messctl.policies.bandit.prompt import fold
from messctl.policies.bandit.rounds import Outcomes, Steps
from messctl.policies.bandit.state import WIDTH, Counts, State
from messctl.policies.bandit.tuning import Tuning as BanditTuning
from messctl.policies.base import Answers, Arrivals, Floats
from messctl.policies.cascade.beliefs import WIDE, Beliefs
from messctl.policies.cascade.choice import First, choose
from messctl.policies.cascade.confidence import observe
from messctl.policies.cascade.difficulty import MOST
from messctl.policies.cascade.learning import learn_shown
from messctl.policies.cascade.look import Seen, look, nothing_seen, record_shown
from messctl.policies.cascade.rules import Rules


class Asks(NamedTuple):
    """Which models were asked, in order, (n, MOST); their number, the place of the shown one, whether alone, (n,)."""

    model: Counts
    number: Counts
    shown: Counts
    alone: Counts


def empty_asks(requests: int) -> Asks:
    """Return room for all asks."""
    number, shown, alone = (np.zeros(requests, dtype=np.int64) for _ in range(3))
    return Asks(np.zeros((requests, MOST), dtype=np.int64), number, shown, alone)


@compiled
def see(seen: Seen, count: int, model: int, answers: Answers, row: int) -> None:
    """Write the answer of `model` on a row into the place `count`, with the group of an equal one if there is any."""
    seen.model[count] = model
    seen.logprob[count] = answers.logprob[row, model]
    group = 0
    for at in range(count):
        group = max(group, seen.group[at] + 1)
    for at in range(count):
        if answers.group[row, seen.model[at]] == answers.group[row, model]:
            group = seen.group[at]
            break
    seen.group[count] = group


@compiled
def settle(
    state: State,
    beliefs: Beliefs,
    bandit: BanditTuning,
    seen: Seen,
    count: int,
    wide: Floats,
    reading: Floats,
    cost: Floats,
) -> None:
    """Learn what the answers cost, and their confidence; `reading` and `cost` are (M,)."""
    for at in range(count):
        model = seen.model[at]
        learn_cost(state, bandit, model, wide[:-1], reading[model], cost[model])
        if not np.isnan(seen.logprob[at]):
            observe(beliefs, model, wide, seen.logprob[at])


@compiled
def ask_on(
    state: State,
    beliefs: Beliefs,
    rules: Rules,
    wide: Floats,
    prices: Prices,
    first: First,
    answers: Answers,
    row: int,
    seen: Seen,
    t: int,
    asked: Asks,
    steps: Steps,
) -> int:
    """Ask one model after the other, from the first on, until an answer is shown; return how many were asked."""
    following, count, shown = first.model, 0, 0
    while following >= 0:
        see(seen, count, following, answers, row)
        asked.model[t, count] = following
        count += 1
        step = look(state, beliefs, rules, wide, prices, first.way, seen, count)
        following, shown = step.next, step.shown
        steps.propensity[t] = step.chance
    asked.number[t], asked.shown[t], asked.alone[t] = count, shown, int(first.way.alone)
    record_shown(state, first.model, seen.model[shown])
    return count


@compiled_loop
def play(
    state: State,
    beliefs: Beliefs,
    rules: Rules,
    arrivals: Arrivals,
    coins: Floats,
    rows: SparseRows,
    outcomes: Outcomes,
    answers: Answers,
    steps: Steps,
    asked: Asks,
) -> None:
    """Play all rounds from where `state` is; `coins` (n,) are uniform in 0..1. Fills in `steps` and `asked`."""
    n, models = steps.predicted.shape
    earlier = state.tally.decided
    wide, seen = np.ones(WIDE), nothing_seen()
    prices = Prices(np.zeros(models), np.zeros(models))
    for t in range(n + arrivals.delay):
        if t < n:
            row = arrivals.order[t]
            part = slice(rows.starts[row], rows.starts[row + 1])
            fold(rows.indices[part], rows.values[part], wide[:WIDTH])
            for model in range(models):
                steps.mean_cost[t, model] = state.mean_cost[model] if state.cost_count[model] else np.nan
            if len(outcomes.reading):
                prices.reading[:] = outcomes.reading[row]
            steps.queue_before[t] = state.ledger.queue
            first = choose(state, beliefs, rules, wide, prices, coins[t])
            count = ask_on(state, beliefs, rules, wide, prices, first, answers, row, seen, t, asked, steps)
            served = seen.model[asked.shown[t]]
            steps.served[t] = served
            steps.predicted[t] = first.predicted
            settle(state, beliefs, rules.bandit, seen, count, wide, prices.reading, outcomes.cost[row])
            steps.satisfied[t] = outcomes.satisfied[row, served] if arrivals.has_feedback[t] else np.nan
        due = t - arrivals.delay
        if due >= 0 and arrivals.has_feedback[due]:
            row = arrivals.order[due]
            part = slice(rows.starts[row], rows.starts[row + 1])
            fold(rows.indices[part], rows.values[part], wide[:WIDTH])
            for at in range(asked.number[due]):
                see(seen, at, asked.model[due, at], answers, row)
            record_balance(state, rules.bandit, rules.promise.alpha, earlier + due + 1, steps.satisfied[due])
            size, shown, alone = asked.number[due], asked.shown[due], asked.alone[due] > 0
            learn_shown(state, beliefs, rules, seen, size, shown, alone, steps.satisfied[due], wide)
        steps.queue_after[min(t, n - 1)] = state.ledger.queue
