"""Calibration: the cost and the speed of a model's answers, measured until they are known well, or the time is up.

Loading is measured by itself. Then follow rounds of requests with prompts and answers of growing length.
`messctl.costs.measured_line` fits them.
"""

from __future__ import annotations

import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from messctl.costs.bench import LONGEST_PROMPT, Bench, Load, LoadingBackend, Trial
from messctl.costs.intervals import Estimate, median
from messctl.costs.measured_line import MeasuredLine
from messctl.costs.meter import Meter
from messctl.zoo import CostPerToken, ModelSpec

NARROW, TOO_WIDE = 0.1, 0.2
"""Half the width of an interval as a share of its value: up to NARROW is known well, above TOO_WIDE not well enough."""
LEAST_ROUNDS = 4
USUAL_ROUNDS = 8
"""For how many rounds there should be time; on a quiet machine fewer are enough."""
USUAL_LOADS = 9
LOADS_SHARE = 0.25
"""The share of the time that loading may take at first. If its cost stays wide, each round measures it again."""
PER_ANSWER, PER_LOAD = ("per request", "per prompt token", "per generated token"), "per load"
FIRST_SHARE = 1 / 16
"""The first round has this share of the longest lengths. They double as long as the time allows USUAL_ROUNDS."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The measurements of one model.

    load_s: the seconds to load it. load: the cost of loading it; None if the meter does not measure that. cost,
    seconds: the fitted lines. rounds: the measurements from which they come. parameters: the model's active ones.
    """

    model: str
    unit: str
    load_s: Estimate
    cost: MeasuredLine
    seconds: MeasuredLine
    rounds: tuple[tuple[Trial, ...], ...]
    load: Estimate | None = None
    parameters: int = 0

    @property
    def quality(self) -> str:
        """How the trials' costs are known: normally one quality, otherwise all, with commas."""
        return ", ".join(sorted({trial.cost.quality for each in self.rounds for trial in each}))

    @property
    def widths(self) -> dict[str, float]:
        """Half the width of the interval of each cost as a share of it, by what the cost is per; inf: unknown."""
        parts = (self.cost.fixed, self.cost.prompt, self.cost.generated, self.load)
        names = (*PER_ANSWER, PER_LOAD)
        return {name: part.share for name, part in zip(names, parts, strict=True) if part is not None}

    def wider_than(self, limit: float) -> dict[str, float]:
        """Return those `widths` that are above `limit`."""
        return {name: width for name, width in self.widths.items() if width > limit}

    def cost_per_token(self, measured: str) -> CostPerToken:
        """Return the cost as zoo.yaml states it, in four digits. `measured` says how it was measured: see `origin`."""
        parts = (self.cost.fixed, self.cost.prompt, self.cost.generated)
        fixed, prompt, generated = (_rounded(part.value) for part in parts)
        load = None if self.load is None else _rounded(self.load.value)
        return CostPerToken(self.unit, prompt, generated, fixed, load, measured=measured)


def origin(meter: Meter, today: date | None = None) -> str:
    """Return the origin to write beside measured costs: the machine, the day, and the meter."""
    return f"{platform.node() or 'unknown machine'}, {(today or date.today()).isoformat()}, {meter.source}"


def calibrate_model(
    model: ModelSpec,
    backend: LoadingBackend,
    meter: Meter,
    *,
    limit_s: float = 60.0,
    least_s: float = 0.25,
    longest_prompt: int = LONGEST_PROMPT,
    most_rounds: int | None = None,
    seed: int = 0,
    on_round: Callable[[Calibration], None] = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Calibration:
    """Measure a model until all its costs are NARROW, or until another round would end after `limit_s` > 0 seconds.

    Each measurement lasts at least `least_s` seconds. Prompts have at most `longest_prompt` tokens. `most_rounds` ≥ 1
    ends it earlier. `on_round` gets what is known after each round. `seed` draws the order within a round. Raises
    BackendError if the model fails, UsageError if the costs cannot be fitted.
    """
    began = clock()
    bench = Bench(model, backend, meter, least_s, longest_prompt, random.Random(seed), clock)
    loads = [bench.load()]
    while len(loads) < USUAL_LOADS and clock() < began + LOADS_SHARE * limit_s:
        loads.append(bench.load())
    share, first, took_s = _longest(bench, began + limit_s, most_rounds or USUAL_ROUNDS, clock)
    rounds = [first]
    while True:
        found = _calibration(model, meter, loads, rounds, bench.parameters)
        on_round(found)
        wide = found.wider_than(NARROW)
        loading = wide.pop(PER_LOAD, None) is not None
        answering = bool(wide) or len(rounds) < LEAST_ROUNDS
        over = len(rounds) == most_rounds or clock() - began + took_s > limit_s
        if over or not (loading or answering):
            return found
        before = clock()
        if answering:
            rounds.append(bench.round(share))
        if loading:
            loads.append(bench.load())
        took_s = clock() - before


def _longest(bench: Bench, until: float, wanted: int, clock: Callable[[], float]) -> tuple[float, list[Trial], float]:
    """Return the longest lengths for which there is time for `wanted` rounds, as a share; a round, and its seconds."""
    share = FIRST_SHARE
    while True:
        before = clock()
        measured = bench.round(share)
        took_s = clock() - before
        if share >= 1.0 or clock() + 2.0 * took_s * wanted > until:
            return share, measured, took_s
        share *= 2.0


def indistinct(found: Sequence[Calibration]) -> list[tuple[str, str, str]]:
    """Return pairs of models of which the smaller seems to cost more per token, while their intervals overlap.

    Each is the smaller model, the larger one, and what the cost is per.
    """
    ordered = sorted(found, key=lambda each: each.parameters)
    return [
        (small.model, large.model, per)
        for at, large in enumerate(ordered)
        for small in ordered[:at]
        for per, part in (("per prompt token", "prompt"), ("per generated token", "generated"))
        if small.parameters < large.parameters and _by_noise(getattr(small.cost, part), getattr(large.cost, part))
    ]


def _by_noise(small: Estimate, large: Estimate) -> bool:
    return small.value > large.value and small.meets(large)


def _calibration(
    model: ModelSpec, meter: Meter, loads: Sequence[Load], rounds: Sequence[Sequence[Trial]], parameters: int
) -> Calibration:
    costs = [[(each.tokens_in, each.tokens_out, each.cost.amount) for each in trials] for trials in rounds]
    seconds = [[(each.tokens_in, each.tokens_out, each.seconds) for each in trials] for trials in rounds]
    paid = [load.cost for load in loads if load.cost is not None]
    return Calibration(
        model.name,
        meter.unit,
        median([load.seconds for load in loads]),
        MeasuredLine.fitted(costs),
        MeasuredLine.fitted(seconds),
        tuple(tuple(each) for each in rounds),
        median(paid) if paid else None,
        parameters,
    )


def _rounded(number: float) -> float:
    return float(f"{number:.4g}")
