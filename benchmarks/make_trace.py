"""Makes a synthetic trace of any length; the same seed makes the same trace.

    python benchmarks/make_trace.py synthetic.parquet
    python benchmarks/make_trace.py /tmp/large.parquet --rows 10000000 --words 80

No model answered any of it. Prompts are random words of eight topics. Each request has a hidden difficulty, which some
of its words give away. Each model satisfies with a probability that rises with its skill, more in the topics that it is
good at. Costs follow the prompt's length and the model's price.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from messctl.outputs import atomic_write
from messctl.trace import TraceMetadata, schema

ROWS_PER_BATCH = 50_000
MODELS = ("small-1b", "medium-4b", "large-14b", "giant-70b")
SKILL = np.array([-0.3, 0.9, 2.0, 3.2])
PRICE_J = np.array([1.0, 3.5, 12.0, 60.0])
TOPICS = {
    "arithmetic": "sum product fraction digits remainder ratio percent decimal divide multiply average count",
    "history": "treaty empire century dynasty revolution parliament king colony voyage siege republic archive",
    "biology": "cell protein enzyme membrane species genome tissue neuron habitat predator mutation vaccine",
    "law": "contract tort statute liability plaintiff clause evidence appeal tenant licence verdict remedy",
    "code": "function loop array pointer compile thread socket recursion regex module exception queue",
    "cooking": "flour simmer oven garlic dough whisk roast vinegar season butter marinade knife",
    "music": "chord melody tempo rhythm octave sonata harmony choir bass scale fugue concerto",
    "travel": "harbour border ticket mountain visa ferry museum island luggage railway market valley",
}
EASY = ["name", "list", "define", "recall", "give", "which"]
HARD = ["prove", "derive", "reconcile", "optimise", "refute", "generalise"]
FILLER = [
    "the",
    "a",
    "of",
    "in",
    "for",
    "with",
    "and",
    "to",
    "that",
    "about",
    "from",
    "on",
    "by",
    "as",
    "is",
    "are",
    "how",
    "what",
    "why",
    "when",
    "please",
    "explain",
]
VOCABULARY = [*EASY, *HARD, *FILLER, *" ".join(TOPICS.values()).split()]


def batches(rows: int, words: int, seed: int) -> Iterator[pa.RecordBatch]:
    """Yield the trace's record batches; every batch has random numbers of its own, so memory stays flat."""
    kind = schema(metadata(seed))
    for first in range(0, rows, ROWS_PER_BATCH):
        rng = np.random.default_rng([seed, first])
        count = min(ROWS_PER_BATCH, rows - first)
        topic = rng.integers(len(TOPICS), size=count)
        hard = rng.random(count) < 0.35
        length = rng.integers(words // 2, words + words // 2 + 1, size=count)
        difficulty = 1.6 * hard + 0.5 * (topic % 3) + rng.normal(0.0, 0.7, size=count)
        affinity = np.where((topic[:, None] + np.arange(len(MODELS))) % 4 == 0, 1.0, 0.0)
        logit = SKILL - difficulty[:, None] + affinity
        satisfied = (rng.random(logit.shape) < 1.0 / (1.0 + np.exp(-logit))).astype(np.float64)
        tokens = 20.0 + 1.4 * length + rng.gamma(2.0, 20.0, size=count)
        cost = PRICE_J * tokens[:, None] / 100.0 * rng.lognormal(0.0, 0.15, size=logit.shape)
        columns = [
            pa.array([f"synthetic-{row}" for row in range(first, first + count)], pa.large_string()),
            prompts(rng, topic, hard, length),
            pa.array(np.array(list(TOPICS))[topic], pa.large_string()),
        ]
        order = [MODELS.index(model) for model in sorted(MODELS)]
        columns += [pa.array(table[:, index]) for table in (satisfied, cost.round(4)) for index in order]
        yield pa.record_batch(columns, schema=kind)


def prompts(rng: np.random.Generator, topic: np.ndarray, hard: np.ndarray, length: np.ndarray) -> pa.LargeStringArray:
    """Return prompts of `length` words: an opening that hints at the difficulty, topic words among filler."""
    ends = np.concatenate([[0], np.cumsum(length)])
    row = np.repeat(np.arange(len(length)), length)
    on_topic = rng.random(ends[-1]) < 0.4
    opening = np.zeros(ends[-1], dtype=bool)
    opening[ends[:-1]] = True
    word = len(EASY) + len(HARD) + rng.integers(len(FILLER), size=ends[-1])
    of_topic = len(EASY) + len(HARD) + len(FILLER) + 12 * topic[row] + rng.integers(12, size=ends[-1])
    word = np.where(on_topic, of_topic, word)
    word = np.where(opening, rng.integers(6, size=ends[-1]) + len(EASY) * hard[row], word)
    text = pa.array(VOCABULARY, pa.large_string()).take(pa.array(word))
    return pc.binary_join(pa.LargeListArray.from_arrays(pa.array(ends), text), pa.scalar(" ", pa.large_string()))


def metadata(seed: int) -> TraceMetadata:
    """Return what the trace says of itself: plainly, that it is made up."""
    return TraceMetadata(
        models=tuple(sorted(MODELS)),
        cost_unit="J",
        meter="made up",
        source=f"synthetic: benchmarks/make_trace.py, seed {seed}; no model was ever asked",
    )


def write(path: Path, rows: int, words: int, seed: int) -> None:
    """Write the trace to `path`."""
    with (
        atomic_write(path) as aside,
        pq.ParquetWriter(aside, schema(metadata(seed)), compression="zstd") as writer,
    ):
        for batch in batches(rows, words, seed):
            writer.write_batch(batch)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--words", type=int, default=16, help="mean words per prompt; 80 make about 500 characters")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write(arguments.output, arguments.rows, arguments.words, arguments.seed)
