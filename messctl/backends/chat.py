"""How a question becomes the messages of a chat, and these become the text that a local model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from messctl.backends.local_chat import text_messages
from messctl.backends.thinking import opened_by
from messctl.display.text import plain
from messctl.records import Question
from messctl.zoo import ModelSpec

Message = dict[str, str]
"""A chat message as OpenAI's API writes it: its `role` (system, user or assistant) and its `content`."""


class TemplateError(Exception):
    """A chat template is invalid, or fails on a question; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text that a model reads, and the strings that end its answer when the answer contains one of them.

    opened: the tag that the text opens at its end, so that the answer begins within the model's thinking.
    """

    text: str
    stops: tuple[str, ...] = ()
    opened: str | None = None


class ChatTemplate:
    """A compiled Jinja template, run in a sandbox: a template from a file can neither change nor reach anything.

    It sees what Hugging Face's Transformers give a template: `messages`, `add_generation_prompt`, `bos_token`,
    `eos_token`, `tools`, `raise_exception` and `strftime_now`, loop controls, `tojson`, and the tag `generation`.
    `bos` and `eos` are the texts of the vocabulary's begin and end marks. Raises TemplateError for source that is
    invalid or too long.
    """

    def __init__(self, source: str, bos: str, eos: str) -> None:
        from messctl.backends.sandbox import LONGEST_SOURCE, joined, sandbox  # noqa: PLC0415  # a model without one needs no Jinja

        self._given = {"bos_token": bos, "eos_token": eos, "add_generation_prompt": True, "tools": None}
        self._eos = eos
        self._joined = joined
        if len(source) > LONGEST_SOURCE:
            raise TemplateError(f"it has more than {LONGEST_SOURCE:,} characters")
        try:
            self._template = sandbox().from_string(source)
        except Exception as error:
            raise TemplateError(_reason(error)) from error

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        """Return the prompt for a chat. Raises TemplateError for any exception of the template."""
        try:
            text = self._joined(self._template.generate(messages=messages, **self._given))
        except Exception as error:
            raise TemplateError(_reason(error)) from error
        return Prompt(text, (self._eos,), opened_by(text))


def chat_messages(model: ModelSpec, question: Question) -> list[Message]:
    """Return a question as chat messages: the system message if there is one, the earlier turns, the prompt.

    The question's system message replaces the model's own. Of a whole request it is the text of its messages.
    """
    if question.chat is not None:
        given = text_messages(question.chat)
        return given if model.system is None or has_system(given) else [_system(model.system), *given]
    system = model.system if question.system is None else question.system
    turns = [] if system is None else [("system", system)]
    for prompt, answer in question.history:
        turns += [("user", prompt), ("assistant", answer)]
    turns.append(("user", question.prompt))
    return [{"role": role, "content": content} for role, content in turns]


def has_system(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a chat has a system message of its own."""
    return any(message["role"] in ("system", "developer") for message in messages)


def _system(text: str) -> Message:
    return {"role": "system", "content": text}


def without_template(messages: Sequence[Message]) -> Prompt:
    """Return the prompt for a model that has no chat template: the messages' texts with a blank line between two."""
    return Prompt("\n\n".join(message["content"] for message in messages))


def _reason(error: Exception) -> str:
    """Return an exception's text on one line; a template can raise exceptions with texts of its own."""
    return plain(" ".join(str(error).split()))[:300] or type(error).__name__
