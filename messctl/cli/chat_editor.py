"""The line editor of a chat at a terminal: editing, history and completion, by prompt_toolkit.

Importing this module loads prompt_toolkit, so import it only if there is a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import create_output
from prompt_toolkit.shortcuts import CompleteStyle
from prompt_toolkit.utils import is_dumb_terminal

from messctl.cli.arguments import valid_utf8
from messctl.cli.chat_turns import is_open
from messctl.cli.output import warn
from messctl.outputs import make_private_file

Completions = Callable[[str], Iterable[str]]
"""Takes the beginning of a line, and returns the lines that complete it."""


class LineEditor:
    """Turns that a user types at the terminal; prompts go to stderr. See `messctl.cli.chat_turns.Turns`.

    Enter ends a turn, Alt-Enter begins a new line in it; a pasted text keeps its lines. The file `history` stores what
    was typed, and only its owner can read it. None stores nothing.
    """

    interactive = True

    def __init__(self, history: Path | None, completions: Completions) -> None:
        self._session: PromptSession[str] = PromptSession(
            history=InMemoryHistory() if history is None else _History(history),
            completer=_Completer(completions),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            multiline=Condition(lambda: is_open(self._session.default_buffer.text)),
            key_bindings=_keys(),
            output=None if is_dumb_terminal() else create_output(stdout=sys.stderr),  # None: a plain prompt
        )

    def read(self, prompt: str = "> ") -> str:
        """Return the next turn. Raises EOFError at Ctrl-D, and KeyboardInterrupt at Ctrl-C, which drops the line.

        At the prompt Ctrl-C is a key, not a signal: prompt_toolkit can fail if it gets both.
        """
        return valid_utf8(self._session.prompt(prompt, handle_sigint=False))


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    return keys


class _Completer(Completer):
    def __init__(self, completions: Completions) -> None:
        self._completions = completions

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:  # noqa: ARG002
        """Offer whole lines; the list shows only their last word."""
        typed = document.text_before_cursor
        for line in self._completions(typed):
            yield Completion(line, start_position=-len(typed), display=line.rpartition(" ")[2])


class _History(FileHistory):
    """A history that only its owner can read. If it cannot be read or written, the chat goes on without it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._path = path
        self._broken = False

    def load_history_strings(self) -> Iterable[str]:
        try:
            self._create()
            return list(super().load_history_strings())
        except OSError as error:
            self._give_up(error)
            return []

    def store_string(self, string: str) -> None:
        if not self._broken:
            try:
                self._create()  # `messctl reset` may have removed the file
                super().store_string(valid_utf8(string))
            except OSError as error:
                self._give_up(error)

    def _create(self) -> None:
        make_private_file(self._path)

    def _give_up(self, error: OSError) -> None:
        self._broken = True
        warn(f"{self._path}: what you type is not stored ({error.strerror or error})")
