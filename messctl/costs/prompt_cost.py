"""The predicted cost of reading a question, per model, before a model runs.

The tokens are estimated from the characters, with each model's ratio on its recent questions without earlier turns. (A
model may not read all earlier turns.) The meter then prices them: fixed + prompt price × tokens. Once the tokens are
counted, the policy learns from the real cost of reading.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from messctl.backends.local_chat import text_of
from messctl.costs.meter import Meter
from messctl.errors import BackendError
from messctl.gguf import read_header
from messctl.records import Completion, Decision, Question
from messctl.zoo import CostPerToken, ModelSpec
from messctl.zoo.models import MOST_TOKENS

LEAST_CONTEXT = 256
"""In tokens. Few contexts are shorter, and reading the context from a file with a large vocabulary takes 0.1 s."""
MOST_PER_CHARACTER = 4.0
"""More tokens per character than any model has on its recent questions, with what its template adds."""


def characters(question: Question) -> int:
    """Return the length of a question, including the system message, the earlier turns and the tools."""
    if question.chat is not None:
        tools = question.chat.parameters.get("tools")
        described = json.dumps(tools) if tools else ""
        return len(described) + sum(len(text_of(message)) for message in question.chat.messages)
    turns = sum(len(prompt) + len(answer) for prompt, answer in question.history)
    return len(question.system or "") + turns + len(question.prompt)


def is_alone(question: Question) -> bool:
    """Return whether no earlier turns, tools or files come with a question, so that its length tells its tokens."""
    if question.chat is None:
        return not question.history
    roles = [message["role"] for message in question.chat.messages]
    plain = all(isinstance(message.get("content"), str) for message in question.chat.messages)
    return plain and roles.count("user") == 1 and "assistant" not in roles and "tools" not in question.chat.parameters


class Forecast:
    """The predicted cost of reading a question, for each of `models`, at the prices of `meter`.

    No question has more tokens than the model's context. If the context depends on the model's file, its header is
    read once, for the first question of more than LEAST_CONTEXT tokens.
    """

    def __init__(self, models: Iterable[ModelSpec], meter: Meter) -> None:
        self._models = {model.name: model for model in models}
        self._meter = meter
        self._own: dict[str, int] = {}
        self._prices: dict[str, CostPerToken] = {}
        self._priced = False

    def of_characters(self, length: int, ratios: Mapping[str, float]) -> dict[str, float]:
        """Return the cost of reading `length` characters, per model. `ratios` are tokens per character."""
        return self.of_tokens(self.tokens(length, ratios))

    def ready(self, length: int) -> bool:
        """Return whether nothing is to be read from a model's file for `length` characters that was not read before."""
        short = length * MOST_PER_CHARACTER <= LEAST_CONTEXT
        return self._priced and (short or all(map(self._is_known, self._models.values())))

    def of_tokens(self, tokens: Mapping[str, float]) -> dict[str, float]:
        """Return the cost of reading `tokens`, per model. Models without a known cost are left out."""
        costs = {}
        for name, count in tokens.items():
            if name not in self._prices:
                try:
                    self._prices[name] = self._meter.per_token(self._models[name])
                except BackendError:  # if it cannot answer either, the request will show that
                    continue
            costs[name] = self._prices[name].of(count, 0)
        self._priced = self._priced or tokens.keys() >= self._models.keys()
        return costs

    def context(self, model: ModelSpec, tokens: float) -> int:
        """Return a model's context in tokens; MOST_TOKENS if it is unknown, or surely longer than `tokens`."""
        stated = model.context_tokens if model.url is not None else model.n_ctx
        return stated or model.context(self._own_context(model) if tokens > LEAST_CONTEXT else MOST_TOKENS)

    def corrected(self, decision: Decision, answers: Mapping[str, Completion]) -> Decision:
        """Return the decision with the real cost of reading, for the models whose `answers` counted the tokens."""
        counted = {name: answer.tokens_in for name, answer in answers.items() if answer.tokens_in > 0}
        prompt_cost = {**decision.request.prompt_cost, **self.of_tokens(counted)}
        return replace(decision, request=replace(decision.request, prompt_cost=prompt_cost))

    def tokens(self, length: int, ratios: Mapping[str, float]) -> dict[str, float]:
        """Return the tokens of `length` characters, per model, limited to the model's context."""
        return {name: self._limited(model, length * ratios[name]) for name, model in self._models.items()}

    def _limited(self, model: ModelSpec, tokens: float) -> float:
        return min(tokens, model.context(self._own_context(model) if tokens > LEAST_CONTEXT else MOST_TOKENS))

    def _is_known(self, model: ModelSpec) -> bool:
        """Return whether the context that a model's file states is known, or not needed."""
        return model.path is None or bool(model.n_ctx) or model.name in self._own

    def _own_context(self, model: ModelSpec) -> int:
        """Return the context that the model's file states, in tokens; MOST_TOKENS if it is unknown or not needed."""
        if model.path is None or model.n_ctx:
            return MOST_TOKENS
        if model.name not in self._own:
            try:
                self._own[model.name] = read_header(model.path).context_length
            except BackendError:  # as above
                return MOST_TOKENS
        return self._own[model.name]
