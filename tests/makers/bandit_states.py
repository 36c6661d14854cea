"""Runs of the bandit in made-up worlds, and states that its parts are tested on."""

import numpy as np
from worlds import WORLDS

from messctl.policies.bandit import Bandit
from messctl.policies.bandit.satisfaction import levels_of
from messctl.policies.bandit.state import AUTO_V, WIDTH, Promise, fresh
from messctl.policies.bandit.tuning import Tuning
from messctl.zoo import Settings

SEEDS = 10
KNOWN = 100.0
"""[answers] A model with as many is known well."""
PLAIN = np.zeros(WIDTH)
"""A prompt that says nothing."""


def attained_levels(played):
    """The attained level after each answer with feedback."""
    has_feedback = played.satisfied[~np.isnan(played.satisfied)]
    return np.cumsum(has_feedback) / np.arange(1, len(has_feedback) + 1)


def played_in(world, seed, share=0.95):
    """α, and what the bandit did in a made-up world at α = share × the best model's mean."""
    made = WORLDS[world](seed)
    alpha = share * float(made.rounds.satisfied.mean(axis=0).max())
    return alpha, Bandit(made.rounds.zoo, Settings(alpha=alpha)).play(made.rounds)


def state_with(satisfied, cost, answers):
    """A state in which each model has this mean satisfaction over this number of answers, and this mean cost."""
    answers = np.array(answers, dtype=float)
    state = fresh(len(cost), 0.8, Tuning())
    state.answers[:], state.satisfaction_sum[:] = answers, answers * satisfied
    state.mean_cost[:], state.cost_count[:] = cost, 10
    state.cost_records["rest"][:] = cost
    tally, total = state.tally, int(answers.sum())
    tally.decided = tally.with_feedback = tally.latest = tally.labels = total
    promise = Promise(0.8, len(cost) - 1, AUTO_V)
    return state, promise, levels_of(state, promise, Tuning())
