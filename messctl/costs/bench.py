"""A model on the bench: its loads and its answers are measured, one after the other."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from messctl.backends.base import Backend
from messctl.costs.meter import Meter
from messctl.errors import BackendError
from messctl.gguf import read_header
from messctl.records import Completion, Cost, Question
from messctl.zoo import ModelSpec

WORDS = ("lamp", "river", "stone", "garden", "cloud", "window", "pencil", "seven")
FIRST_WORDS = 16
LENGTHS = ((0.1, 0.0), (0.4, 0.0), (1.0, 0.0), (0.1, 0.3), (0.1, 0.6), (0.1, 1.0))
"""The lengths of a round: shares of the longest prompt and of the longest answer. 0: an answer of one token."""
LONGEST_PROMPT, LONGEST_ANSWER = 1024, 128
"""In tokens; the fitted line extends beyond them."""
SHORTEST_PROMPT, SHORTEST_ANSWER = 32, 4
"""The least that is the longest of a round, in tokens, if the context has room for it."""
_MOST_REPEATS = 10_000


class LoadingBackend(Backend, Protocol):
    """A backend whose models can be loaded, and freed by `close`, without a question."""

    def load(self, model: ModelSpec) -> None:
        """Load a model if it is not loaded. Raises BackendError."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One measurement: the mean cost and seconds of a request with these token counts."""

    tokens_in: int
    tokens_out: int
    cost: Cost
    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """One measurement of loading: the mean seconds, and the mean cost; None if the meter does not measure it."""

    seconds: float
    cost: float | None


class Bench:
    """One model, its backend and the meter. Each measurement lasts at least `least_s` seconds.

    longest_prompt: the longest prompt, in tokens. rng draws the order within a round. Prompts and answers leave half
    of the context free. parameters: the model's active ones. Raises BackendError if the model fails, as all methods do.
    """

    def __init__(
        self,
        model: ModelSpec,
        backend: LoadingBackend,
        meter: Meter,
        least_s: float,
        longest_prompt: int,
        rng: random.Random,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model, self._backend, self._meter = model, backend, meter
        self._least_s, self._rng, self._clock = least_s, rng, clock
        first, more = (
            backend.complete(model, _question(words, 1)).tokens_in for words in (FIRST_WORDS, 2 * FIRST_WORDS)
        )
        self._per_word = max((more - first) / FIRST_WORDS, 0.1)
        around = max(0.0, first - self._per_word * FIRST_WORDS)  # the tokens of the chat template
        header = read_header(model.file)
        self.parameters = header.active_parameters
        room = (model.context(header.context_length) - around) / 2
        self._prompt = min(room, longest_prompt)
        self._answer = max(2.0, min(room, model.answer_limit(), LONGEST_ANSWER))

    def load(self) -> Load:
        """Free the model and load it again, and measure the loading alone."""
        loading = freeing = 0.0
        count = 0
        with self._meter.measuring() as reading:
            while not count or (loading < self._least_s and count < _MOST_REPEATS):
                began = self._clock()
                self._backend.close()
                freed = self._clock()
                self._backend.load(self._model)
                freeing, loading, count = freeing + freed - began, loading + self._clock() - freed, count + 1
        if not self._meter.includes_loads or loading <= 0.0:
            return Load(loading / count, None)
        done = Completion(self._model.name, "", 0, 0, latency_s=freeing, load_s=loading, finish="stop")
        try:
            cost = reading.cost(self._model, done).amount * loading / (loading + freeing)
        except BackendError:  # the loading was too short for the counter
            return Load(loading / count, None)
        return Load(loading / count, cost / count)

    def round(self, share: float) -> list[Trial]:
        """Measure each of LENGTHS once. share: of the longest prompt and answer, 0..1."""
        prompt = max(self._prompt * share, min(self._prompt, SHORTEST_PROMPT))
        answer = max(self._answer * share, min(self._answer, SHORTEST_ANSWER))
        lengths = [(max(1, int(a * prompt / self._per_word)), max(1, math.ceil(b * answer))) for a, b in LENGTHS]
        self._rng.shuffle(lengths)
        return [self._trial(_question(words, limit)) for words, limit in lengths]

    def _trial(self, question: Question) -> Trial:
        done: list[Completion] = []
        with self._meter.measuring() as reading:
            while not done or sum(each.latency_s for each in done) < self._least_s:
                done.append(self._backend.complete(self._model, question))
                if len(done) == _MOST_REPEATS:
                    name = self._model.name
                    raise BackendError(f"model {name!r}: {len(done):,} answers took no time; use another model")
        cost = reading.cost(self._model, _sum(done))
        seconds = sum(each.latency_s for each in done) / len(done)
        each = Cost(cost.amount / len(done), cost.quality)
        return Trial(done[0].tokens_in, done[0].tokens_out, each, seconds)


def _sum(done: Sequence[Completion]) -> Completion:
    """Return equal answers as one: all their tokens and seconds."""
    first, count = done[0], len(done)
    seconds = sum(each.latency_s for each in done)
    return replace(first, latency_s=seconds, tokens_in=first.tokens_in * count, tokens_out=first.tokens_out * count)


def _question(words: int, limit: int) -> Question:
    text = " ".join(WORDS[i % len(WORDS)] for i in range(words))
    return Question(text, max_tokens=limit, temperature=0.0, to_the_limit=True)
