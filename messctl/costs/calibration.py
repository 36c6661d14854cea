"""Calibration: the cost and the speed of a model's answers, measured over a range of lengths, and fitted.

Each measurement repeats one request until it is long enough for the counters. `messctl.costs.cost_line` has the fit.
"""

from __future__ import annotations

import platform
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date

from messctl.backends.base import Backend
from messctl.costs.cost_line import Line
from messctl.costs.meter import Meter
from messctl.errors import BackendError
from messctl.gguf import read_header
from messctl.records import Completion, Cost, Question
from messctl.zoo import CostPerToken, ModelSpec

WORDS = ("lamp", "river", "stone", "garden", "cloud", "window", "pencil", "seven")
FIRST_WORDS = 16
SHARES = (0.05, 0.3, 1.0)  # of the longest prompt and answer
LONGEST_PROMPT, LONGEST_ANSWER = 1024, 256  # tokens; the fitted line extends beyond them


@dataclass(frozen=True, slots=True)
class Trial:
    """One measurement: the mean cost and seconds of a request with these token counts."""

    tokens_in: int
    tokens_out: int
    cost: Cost
    seconds: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The measurements of one model.

    load_s: the seconds to load it. load: the cost of loading it; None if the meter does not measure that, or if the
    model was loaded already. cost, seconds: the fitted lines. trials: the measurements, in order.
    """

    model: str
    unit: str
    load_s: float
    cost: Line
    seconds: Line
    trials: tuple[Trial, ...]
    load: float | None = None

    @property
    def quality(self) -> str:
        """How the trials' costs are known: normally one quality, otherwise all, with commas."""
        return ", ".join(sorted({trial.cost.quality for trial in self.trials}))

    def cost_per_token(self, measured: str) -> CostPerToken:
        """Return the cost as zoo.yaml states it, in four digits. `measured` says how it was measured: see `origin`."""
        fixed, prompt, generated = (_rounded(part) for part in (self.cost.fixed, self.cost.prompt, self.cost.generated))
        load = None if self.load is None else _rounded(self.load)
        return CostPerToken(self.unit, prompt, generated, fixed, load, measured=measured)


def origin(meter: Meter, today: date | None = None) -> str:
    """Return the origin to write beside measured costs: the machine, the day, and the meter."""
    return f"{platform.node() or 'unknown machine'}, {(today or date.today()).isoformat()}, {meter.source}"


def calibrate_model(
    model: ModelSpec,
    backend: Backend,
    meter: Meter,
    *,
    repeats: int = 3,
    least_s: float = 0.25,
    longest_prompt: int = LONGEST_PROMPT,
    seed: int = 0,
    on_measured: Callable[[], None] = lambda: None,
) -> Calibration:
    """Measure a model with nine lengths of prompt and answer, each `repeats` ≥ 1 times, in an order drawn by `seed`.

    Each measurement lasts at least `least_s` seconds. Prompts have at most `longest_prompt` tokens. Answers have at
    most LONGEST_ANSWER tokens, the model's own limit, or half of its context. `on_measured` is called after each
    measurement. Raises BackendError if the model fails, UsageError if the costs cannot be fitted.
    """
    with meter.measuring() as reading:
        first = backend.complete(model, _question(FIRST_WORDS, 1))
    more = backend.complete(model, _question(2 * FIRST_WORDS, 1))
    per_word = max((more.tokens_in - first.tokens_in) / FIRST_WORDS, 0.1)
    around = max(0.0, first.tokens_in - per_word * FIRST_WORDS)  # the tokens of the chat template
    room = ((model.n_ctx or model.context(read_header(model.file).context_length)) - around) / 2
    prompt, answer = min(room, longest_prompt), min(room, model.answer_limit(), LONGEST_ANSWER)
    lengths = [(max(1, int(a * prompt / per_word)), max(1, int(b * answer))) for a in SHARES for b in SHARES] * repeats
    random.Random(seed).shuffle(lengths)
    trials = []
    for count, limit in lengths:
        trials.append(_trial(model, backend, meter, _question(count, limit), least_s))
        on_measured()
    tokens = [(trial.tokens_in, trial.tokens_out) for trial in trials]
    cost = Line.fitted(tokens, [trial.cost.amount for trial in trials])
    load = None
    if meter.includes_loads and first.load_s > 0.0:
        load = max(0.0, reading.cost(model, first).amount - cost.of(first.tokens_in, first.tokens_out))
    seconds = Line.fitted(tokens, [trial.seconds for trial in trials])
    return Calibration(model.name, meter.unit, first.load_s, cost, seconds, tuple(trials), load)


def _trial(model: ModelSpec, backend: Backend, meter: Meter, question: Question, least_s: float) -> Trial:
    done: list[Completion] = []
    with meter.measuring() as reading:
        while not done or sum(each.latency_s for each in done) < least_s:
            done.append(backend.complete(model, question))
            if len(done) == 10_000:
                raise BackendError(f"model {model.name!r}: {len(done):,} answers took no time; use another model")
    seconds = sum(each.latency_s for each in done)
    tokens_in, tokens_out = done[0].tokens_in, done[0].tokens_out
    every = replace(done[0], latency_s=seconds, tokens_in=tokens_in * len(done), tokens_out=tokens_out * len(done))
    cost = reading.cost(model, every)
    return Trial(tokens_in, tokens_out, Cost(cost.amount / len(done), cost.quality), seconds / len(done))


def _question(words: int, limit: int) -> Question:
    text = " ".join(WORDS[i % len(WORDS)] for i in range(words))
    return Question(text, max_tokens=limit, temperature=0.0, to_the_limit=True)


def _rounded(number: float) -> float:
    return float(f"{number:.4g}")
