"""An empty answer is a lost one: the model answered, and there is nothing to read."""

from __future__ import annotations

from messctl.display.text import counted, plain
from messctl.errors import EmptyAnswerError
from messctl.records import FILTER, LIMIT, Completion, Question, cut_by, is_blank
from messctl.zoo import ModelSpec


def refuse_empty(model: ModelSpec, question: Question, completion: Completion) -> None:
    """Raise EmptyAnswerError if an answer has no text and calls no tool; the error knows what was paid for it."""
    if is_blank(completion.answer) and not completion.calls:
        why = _why(model, question, completion)
        error = EmptyAnswerError(f"the answer of model {plain(repr(model.name))} is empty: {why}")
        error.paid = completion.cost.amount if completion.cost else 0.0
        raise error


def _why(model: ModelSpec, question: Question, completion: Completion) -> str:
    """Return why an answer is empty, and what to do."""
    after = f"{counted(completion.tokens_out, 'token')}, finish: {plain(completion.finish)}"
    cut = cut_by(completion.finish)
    if cut == LIMIT:
        how = "all tokens went into thinking" if completion.thinking else "it was cut before its first word"
        return f"{how} ({after}): {_more_tokens(model, question, completion)}"
    if cut == FILTER:
        return f"a filter cut it ({after}): change the prompt, or the filter of its server"
    if completion.thinking:
        return f"the model thought, and ended without an answer ({after}): ask again, or ask another model"
    return f"the model ended at once ({after}): check its chat template, or ask another model"


def _more_tokens(model: ModelSpec, question: Question, completion: Completion) -> str:
    if model.url is None and completion.tokens_out < model.answer_limit(question.max_tokens):
        return "raise n_ctx in zoo.yaml"  # the context was full before
    return "raise max_tokens in zoo.yaml" if question.max_tokens is None else "raise --max-tokens"
