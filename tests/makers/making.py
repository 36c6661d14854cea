"""Makers of small rounds and traces for tests, and hypothesis strategies for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from messctl.learning.features import encode
from messctl.policies import Rounds
from messctl.policies.base import Answers
from messctl.replay.loading import Recording
from messctl.trace import Outcome, Row, TraceMetadata, TraceWriter
from messctl.zoo import Zoo

WORDS = [
    "what",
    "is",
    "the",
    "sum",
    "of",
    "two",
    "primes",
    "name",
    "a",
    "river",
    "in",
    "france",
    "prove",
    "that",
    "no",
    "list",
    "sorts",
    "itself",
    "17",
    "25",
    "?",
]


def prompts_for(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=rng.integers(1, 9))) for _ in range(n)]


def make_rounds(
    satisfied: Sequence[Sequence[float]],
    cost: Sequence[Sequence[float]],
    models: Sequence[str] | None = None,
    prompts: Sequence[str] | None = None,
    reference: str | None = None,
) -> Rounds:
    """Rounds in memory; columns are sorted by model name, as a trace's are."""
    s, k = np.array(satisfied, dtype=float), np.array(cost, dtype=float)
    names = list(models or [f"m{index}" for index in range(s.shape[1])])
    order = sorted(range(len(names)), key=names.__getitem__)
    s, k, names = s[:, order], k[:, order], [names[index] for index in order]
    text = pa.array(prompts or prompts_for(len(s)), pa.large_string())
    return Rounds(
        zoo=Zoo.of(names, reference or names[int(k.mean(axis=0).argmax())]),
        request_ids=[f"r{row}" for row in range(len(s))],
        features=encode(text),
        satisfied=np.ascontiguousarray(s),
        cost=np.ascontiguousarray(k),
        order=np.arange(len(s)),
        has_feedback=np.ones(len(s), dtype=bool),
    )


def make_recording(rounds: Rounds, path: str = "made.parquet", *, partial: bool = False) -> Recording:
    return Recording.of(Path(path), "unit", rounds, partial=partial)


def learnable(n: int = 400, seed: int = 0) -> Rounds:
    """Three models of rising cost; what they can do depends on the prompt's first word."""
    rng = np.random.default_rng(seed)
    prompts = prompts_for(n, seed)
    hard = np.array([prompt.split()[0] in ("prove", "what", "17", "primes") for prompt in prompts])
    chance = np.stack([np.where(hard, 0.2, 0.85), np.where(hard, 0.6, 0.9), np.where(hard, 0.9, 0.95)], axis=1)
    satisfied = (rng.random((n, 3)) < chance).astype(float)
    cost = np.array([1.0, 4.0, 20.0]) * rng.lognormal(0, 0.2, (n, 1))
    return make_rounds(satisfied, cost, ["small", "middle", "large"], prompts)


def telling(rounds: Rounds, *, seed: int = 0, equal: float = 0.5, known: float = 1.0) -> Rounds:
    """Return the rounds with answers: right ones are equal, wrong ones often, and confidence tells something."""
    generator = np.random.default_rng(seed)
    right = rounds.satisfied > 0.5
    group = np.where(right, 0, 1 + generator.integers(0, max(1, round(1 / equal)), right.shape))
    logprob = -np.exp(generator.normal(np.where(right, -2.0, -1.0), 0.7))
    logprob[generator.random(right.shape) >= known] = np.nan
    return replace(rounds, answers=Answers(group.astype(np.int64), logprob))


def with_reading_costs(rounds: Rounds, seed: int = 0) -> Rounds:
    """The same rounds with known reading costs: a part of each cost, at times more than the cost."""
    share = np.random.default_rng(seed).uniform(0.0, 1.1, rounds.cost.shape)
    return replace(rounds, prompt_cost=rounds.cost * share)


@st.composite
def arbitrary_rounds(draw: st.DrawFn, graded: bool = True, most: int = 40, models: int | None = None) -> Rounds:
    """Any rounds: few or many models, ties, zero costs, graded or binary satisfaction."""
    models = models or draw(st.integers(2, 5))
    n = draw(st.integers(1, most))
    level = st.sampled_from([0.0, 0.25, 0.5, 1.0]) if graded else st.sampled_from([0.0, 1.0])
    price = st.sampled_from([0.0, 0.1, 0.3, 1.0, 7.0])
    row = st.lists(level, min_size=models, max_size=models)
    costs = st.lists(price, min_size=models, max_size=models)
    satisfied = draw(st.lists(row, min_size=n, max_size=n))
    cost = draw(st.lists(costs, min_size=n, max_size=n))
    return make_rounds(satisfied, cost, prompts=prompts_for(n, draw(st.integers(0, 9))))


def write_trace(
    path: Path,
    rows: Sequence[Mapping[str, tuple[float | None, float | None]]],
    ids: Sequence[str] | None = None,
    models: Sequence[str] = ("a", "b"),
) -> Path:
    """A trace on disk; each row maps a model to (satisfied, cost)."""
    with TraceWriter(path, TraceMetadata(models=tuple(models), cost_unit="J", source="a test")) as writer:
        for index, row in enumerate(rows):
            outcomes = {model: Outcome(*pair) for model, pair in row.items()}
            writer.append(Row(ids[index] if ids else f"r{index}", f"prompt {index}", outcomes))
    return path
