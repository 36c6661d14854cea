"""Fitness: which models can serve a request at all, before the policy decides among these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from messctl.backends.local_chat import unsupported
from messctl.errors import UnfitError
from messctl.records import Chat, Question
from messctl.zoo import ModelSpec

SURELY = 2.0
"""A prompt is too long for a context if its estimated tokens are this many times as many; the estimate is rough."""
IMAGES, AUDIO = ("image_url", "input_image"), ("input_audio",)


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a model cannot serve a request: the field of the request, and the reason. `too_long`: it has no room."""

    field: str
    why: str
    too_long: bool = False


def unfit(model: ModelSpec, question: Question, tokens: float, context: int) -> Unfit | None:
    """Return why a model cannot serve a question; None if it may.

    `tokens` is the estimated length of the question, ≥ 0, and `context` that of the model's context.
    """
    if question.chat is None:  # one text fits every model, unless it is too long, and then the next one answers
        return None
    if tokens > SURELY * context:
        return Unfit(
            "messages", f"about {tokens:,.0f} tokens do not fit into its context of {context:,}", too_long=True
        )
    if model.url is None:
        found = unsupported(question.chat)
        return Unfit(*found) if found else None
    for feature, field in needs(question.chat).items():
        if feature in model.lacks:
            return Unfit(field, f"zoo.yaml says that it lacks {feature}")
    return None


def needs(chat: Chat) -> dict[str, str]:
    """Return what a request needs that not every server has, with the field that says so."""
    wanted = chat.parameters
    found = {name: name for name in ("tools", "response_format", "logprobs") if wanted.get(name)}
    if wanted.get("functions"):
        found["tools"] = "functions"
    if (wanted.get("response_format") or {}).get("type") == "text":
        del found["response_format"]
    if (wanted.get("n") or 1) != 1:
        found["n"] = "n"
    for message in chat.messages:
        parts = message.get("content")
        kinds = {part.get("type") for part in parts if isinstance(part, dict)} if isinstance(parts, list) else set()
        if kinds.intersection(IMAGES):
            found["images"] = "messages"
        if kinds.intersection(AUDIO):
            found["audio"] = "messages"
        if message.get("tool_calls") or message.get("role") == "tool":
            found.setdefault("tools", "messages")
    return found


def misfit(models: Mapping[str, ModelSpec], found: Mapping[str, Unfit], model: str | None) -> UnfitError | None:
    """Return the error if the named model, or else every model, cannot serve a request; None if one can."""
    asked = [model] if model is not None else list(models)
    if not all(name in found for name in asked):
        return None
    field = found[asked[0]].field
    reasons = "; ".join(f"{name!r}: {found[name].why}" for name in asked)
    too_long = all(found[name].too_long for name in asked)
    remedy = "shorten it" if too_long else f"change `{field}`, or add a model that can serve it to zoo.yaml"
    return UnfitError(f"no model can serve `{field}` of this request ({reasons}); {remedy}", field, too_long=too_long)
