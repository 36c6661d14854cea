"""Forecasts: what reading a question will cost each model, before any of them runs.

Its tokens are estimated from its characters, by what each model made of its recent questions that had no turns before
them (of those, a model may not read all), and priced by the meter, as calibrated: fixed + prompt price × tokens. Once
they are counted, the policy learns by what reading did cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from messctl.costs.meter import Meter
from messctl.errors import BackendError
from messctl.gguf import read_header
from messctl.records import Question
from messctl.zoo import ModelSpec
from messctl.zoo.models import MOST_TOKENS

LEAST_CONTEXT = 256
"""Tokens. Contexts are hardly shorter, and it takes 0.1 s to read that from the file of a large vocabulary."""


def characters(question: Question) -> int:
    """Return how long a question is, the system message and the turns before it included."""
    turns = sum(len(asked) + len(answered) for asked, answered in question.history)
    return len(question.system or "") + turns + len(question.prompt)


class Forecast:
    """What reading a question will cost each of `models`, by the prices of `meter`.

    No question is more tokens than the context holds that the model will run with. Where that depends on the model's
    file, its header is read, once, when a question of more than LEAST_CONTEXT tokens comes.
    """

    def __init__(self, models: Iterable[ModelSpec], meter: Meter) -> None:
        self._models = {model.name: model for model in models}
        self._meter = meter
        self._own: dict[str, int] = {}

    def of_characters(self, length: int, ratios: Mapping[str, float]) -> dict[str, float]:
        """Return what reading so many characters will cost, by model; `ratios` are tokens per character."""
        return self.of_tokens(self.tokens(length, ratios))

    def of_tokens(self, tokens: Mapping[str, float]) -> dict[str, float]:
        """Return what reading so many `tokens` costs, by model, those left out whose costs cannot be known."""
        costs = {}
        for name, count in tokens.items():
            try:
                price = self._meter.per_token(self._models[name])
            except BackendError:  # whether it can answer shows when it is asked
                continue
            costs[name] = price.of(count, 0)
        return costs

    def tokens(self, length: int, ratios: Mapping[str, float]) -> dict[str, float]:
        """Return how many tokens so many characters are, by model, at most what its context holds."""
        return {name: self._held(model, length * ratios[name]) for name, model in self._models.items()}

    def _held(self, model: ModelSpec, tokens: float) -> float:
        return min(tokens, model.context(self._own_context(model) if tokens > LEAST_CONTEXT else MOST_TOKENS))

    def _own_context(self, model: ModelSpec) -> int:
        """Return how many tokens the model's own context has, MOST_TOKENS where that is not known, or no matter."""
        if model.path is None or model.n_ctx:
            return MOST_TOKENS
        if model.name not in self._own:
            try:
                self._own[model.name] = read_header(model.path).context_length
            except BackendError:  # as above
                return MOST_TOKENS
        return self._own[model.name]
