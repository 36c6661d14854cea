"""What the bandit knows: its promise and its state, as arrays and records that change in place.

Python and the compiled functions share the same memory. `stored_arrays` gives that memory under the names by which a
snapshot keeps it; these names never change, so that states of earlier versions keep working.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from messctl.learning.compiled import inlined
from messctl.policies.bandit.prompt import BUCKETS, PROPERTIES
from messctl.policies.bandit.tuning import Tuning
from messctl.policies.base import Floats

Counts = npt.NDArray[np.int64]

WIDTH = BUCKETS + PROPERTIES
"""[features] The width of a prompt's vector z."""
COST_WIDTH = 1 + PROPERTIES
"""[features] The part of z that the cost ridges see: a constant and the properties."""
RECENT_PROMPTS = 128
"""[prompts] λ₀ is solved on this number of recent prompts: few, so that it follows them."""
PENDING_LIMIT = 1024
"""[requests] Feedback is expected for this long at most: later answers say little about today's models."""
COST_PRIOR = 1e6
"""[variance] The cost ridges' constant starts with this variance: so large that the first cost decides."""
UNSOLVED = -1.0
"""A base price that is still to be solved."""
UNKNOWN_DELAY = -1.0
"""The delay of feedback before any feedback came."""
AUTO_V = -1.0
"""A V that is not set: λ is solved instead."""


class Promise(NamedTuple):
    """What is promised, and by which zoo: α, the index of the reference, V or AUTO_V, and the budget for trials.

    `trial_budget` is a share of the total cost, ≥ 0; infinite without a budget.
    """

    alpha: float
    reference: int
    v: float
    trial_budget: float = np.inf


class Ledger(Protocol):
    """A record of what is owed and paid."""

    balance: float  # [answers] B = Σ(s − α) over all answers with feedback, never clipped
    queue: float  # [answers] Q, the virtual queue, ≥ 0
    base_price: float  # [cost per satisfaction] λ₀; UNSOLVED at first
    forfeited: float  # [answers] the part of the balance that may not be spent
    trial_cost: float  # [cost] what trials were expected to cost beyond the choices
    delay: float  # [requests] how late recent feedback was; UNKNOWN_DELAY at first
    variance: float  # [satisfaction²] of the feedback on one answer, around its model's mean
    agreement: float  # [satisfaction²] fading sum of r·f: residuals times corrections per prompt
    power: float  # [satisfaction²] fading sum of f²
    disorder: float  # [satisfaction⁴] fading sum of (r·f)²


class Tally(Protocol):
    """A record of counts. `elsewhere` requests were decided by other policies; all numbers here leave these out."""

    decided: int  # [requests] decided under this promise
    with_feedback: int  # [answers] of this policy's own that got feedback
    latest: int  # [number of a request] the newest one with feedback, counted from 1; 0 before any
    prompts: int  # [prompts] that were kept for solving λ₀
    labels: int  # [answers] learned from, those of a warm start included
    elsewhere: int  # [requests] decided by other policies


class CostRecord(Protocol):
    """What is known of one model's costs beyond their mean."""

    answers: float  # [answers] whose cost was learned
    rest: float  # [cost] mean of what reading the prompt does not explain
    errors: Floats  # (3,) [cost] fading sum of each prediction method's absolute errors


# Of type np.record, so that plain Python reaches the fields as compiled code does.
LEDGER = np.dtype((np.record, [(name, np.float64) for name in Ledger.__annotations__]))
TALLY = np.dtype((np.record, [(name, np.int64) for name in Tally.__annotations__]))
COST_RECORD = np.dtype((np.record, [("answers", np.float64), ("rest", np.float64), ("errors", np.float64, (3,))]))


class State(NamedTuple):
    """All that is known, as memory that changes in place; M models, d = WIDTH, k = COST_WIDTH."""

    shared_weight: Floats  # (d,)
    shared_covariance: Floats  # (d, d)
    own_weight: Floats  # (M, d)
    own_covariance: Floats  # (M, d, d)
    satisfaction_sum: Floats  # (M,) fading sum of satisfaction
    answers: Floats  # (M,) fading number of answers with feedback
    mean_cost: Floats  # (M,) Ē
    cost_count: Counts  # (M,)
    cost_weight: Floats  # (M, k)
    cost_covariance: Floats  # (M, k, k)
    cost_records: Any  # (M,) of CostRecord
    recent_prompts: Floats  # (RECENT_PROMPTS, d)
    recent_reading: Floats  # (M, RECENT_PROMPTS) what reading each of them costs; 0 if that is unknown
    served_at: Counts  # (M, PENDING_LIMIT) numbers of the recent requests that a model served, each at number % limit
    ledger: Ledger
    tally: Tally


class Memory(NamedTuple):
    """The memory of a State as plain arrays, which numba takes from Python faster than records."""

    shared_weight: Floats
    shared_covariance: Floats
    own_weight: Floats
    own_covariance: Floats
    satisfaction_sum: Floats
    answers: Floats
    mean_cost: Floats
    cost_count: Counts
    cost_weight: Floats
    cost_covariance: Floats
    cost_records: Floats  # flat, as many numbers per model as CostRecord has
    recent_prompts: Floats
    recent_reading: Floats
    served_at: Counts
    ledger: Floats
    tally: Counts


def fresh(models: int, alpha: float, tuning: Tuning) -> State:
    """Return the state before anything is known but the promise of α."""
    cost_covariance = np.eye(COST_WIDTH) / tuning.cost_ridge
    cost_covariance[0, 0] = COST_PRIOR
    ledger: Any = np.zeros(1, LEDGER)[0]
    ledger.base_price, ledger.delay, ledger.variance = UNSOLVED, UNKNOWN_DELAY, alpha * (1.0 - alpha)
    tally: Any = np.zeros(1, TALLY)[0]
    return State(
        shared_weight=np.zeros(WIDTH),
        shared_covariance=np.eye(WIDTH) / tuning.shared_ridge,
        own_weight=np.zeros((models, WIDTH)),
        own_covariance=np.tile(np.eye(WIDTH) / tuning.own_ridge, (models, 1, 1)),
        satisfaction_sum=np.zeros(models),
        answers=np.zeros(models),
        mean_cost=np.zeros(models),
        cost_count=np.zeros(models, dtype=np.int64),
        cost_weight=np.zeros((models, COST_WIDTH)),
        cost_covariance=np.tile(cost_covariance, (models, 1, 1)),
        cost_records=np.zeros(models, COST_RECORD),
        recent_prompts=np.zeros((RECENT_PROMPTS, WIDTH)),
        recent_reading=np.zeros((models, RECENT_PROMPTS)),
        served_at=np.zeros((models, PENDING_LIMIT), dtype=np.int64),
        ledger=ledger,
        tally=tally,
    )


def memory_of(state: State) -> Memory:
    """Return the state's memory as plain arrays, as views."""
    records: Any = (state.ledger, state.tally)
    ledger, tally = (record.base for record in records)
    arrays: Any = state._replace(
        cost_records=state.cost_records.view(np.float64).reshape(-1),
        ledger=ledger.view(np.float64),
        tally=tally.view(np.int64),
    )
    return Memory(*arrays)


@inlined
def state_of(memory: Memory) -> State:
    """Return the state whose memory this is, within compiled code."""
    return State(
        memory.shared_weight,
        memory.shared_covariance,
        memory.own_weight,
        memory.own_covariance,
        memory.satisfaction_sum,
        memory.answers,
        memory.mean_cost,
        memory.cost_count,
        memory.cost_weight,
        memory.cost_covariance,
        memory.cost_records.view(COST_RECORD),
        memory.recent_prompts,
        memory.recent_reading,
        memory.served_at,
        memory.ledger.view(LEDGER)[0],
        memory.tally.view(TALLY)[0],
    )


def stored_arrays(state: State) -> Mapping[str, npt.NDArray[Any]]:
    """Return the state's memory, as views, under the names by which snapshots store it."""
    memory = memory_of(state)
    return {
        "shared_weight": state.shared_weight,
        "shared_covariance": state.shared_covariance,
        "own_weight": state.own_weight,
        "own_covariance": state.own_covariance,
        "good": state.satisfaction_sum,
        "answers": state.answers,
        "cost_weight": state.cost_weight,
        "cost_cov": state.cost_covariance,
        "costs": memory.cost_records.reshape(len(state.answers), -1),
        "recent_prompts": state.recent_prompts,
        "recent_known": state.recent_reading,
        "served_at": state.served_at,
        "base_price": memory.ledger[2:3],  # balance and queue, before it, stand in the snapshot itself
        "forgone": memory.ledger[3:4],
        "tried": memory.ledger[4:5],
        "lateness": memory.ledger[5:6],
        "variance": memory.ledger[6:7],
        "trust": memory.ledger[7:10],  # agreement, power, disorder
        "counts": memory.tally[:5],  # decided, with_feedback, latest, prompts, labels
        "elsewhere": memory.tally[5:6],
    }
