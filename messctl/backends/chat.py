"""How a question becomes the text that a model reads: through its chat template, or as it is."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from messctl.display.text import plain
from messctl.records import Question


class TemplateError(Exception):
    """A chat template cannot be read, or refuses a question; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text that a model reads, and the strings that end its answer where it spells them out."""

    text: str
    stops: tuple[str, ...] = ()


class ChatTemplate:
    """A compiled Jinja template, run in the sandbox that llama-cpp-python sets up for templates from files."""

    def __init__(self, source: str, bos: str, eos: str) -> None:
        formats = importlib.import_module("llama_cpp.llama_chat_format")
        try:
            self._render: Any = formats.Jinja2ChatFormatter(template=source, eos_token=eos, bos_token=bos)
        except Exception as error:
            raise TemplateError(_why(error)) from error

    def prompt(self, question: Question, system: str | None) -> Prompt:
        """Return the prompt for a question. Raises TemplateError, whatever it is that the template does wrong."""
        try:
            made = self._render(messages=_messages(question, system))
        except Exception as error:
            raise TemplateError(_why(error)) from error
        stops = [made.stop] if isinstance(made.stop, str) else made.stop or []
        return Prompt(made.prompt, tuple(stops))


def as_it_is(question: Question, system: str | None) -> Prompt:
    """Return the prompt for a model without a chat template: every turn's text, a blank line between two."""
    return Prompt("\n\n".join(message["content"] for message in _messages(question, system)))


def _messages(question: Question, system: str | None) -> list[dict[str, str]]:
    turns = [] if system is None else [("system", system)]
    for asked, answered in question.history:
        turns += [("user", asked), ("assistant", answered)]
    turns.append(("user", question.prompt))
    return [{"role": role, "content": content} for role, content in turns]


def _why(error: Exception) -> str:
    """Return what an exception says, in one line; a template writes its own messages."""
    return plain(" ".join(str(error).split()))[:300] or type(error).__name__
