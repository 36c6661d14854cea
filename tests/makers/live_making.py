"""Makers for the tests of the live commands: zoos, puzzles, real processes, and a terminal to run them in."""

from __future__ import annotations

import io
import os
import random
import re
import select
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from messctl.state.store import Store, check

try:
    import fcntl
    import termios
except ModuleNotFoundError:  # no terminals of this kind here; who needs one skips
    pass

HEEDING = (
    "import signal; from messctl.__main__ import main\n"
    "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # whatever was inherited
    "main()"
)
LONGEST_WAIT_S = 60
"""After this long without a word, a process hangs."""
MESSCTL = [sys.executable, "-m", "messctl"]

STATED = """
sla: {alpha: 0.75}
router: {v: 0.2, c: 0}
models:
- {name: "cheap[red]", path: cheap.gguf, cost: {unit: USD, prompt: 1, generated: 1}}
- {name: dear, path: dear.gguf, cost: {unit: USD, prompt: 10, generated: 20}}
"""
"""Two models whose costs are round numbers; for a scripted backend, no file needs to be there."""

CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Egypt": "Cairo"}
WORDS = ("stone", "lamp", "banana", "river", "garden", "cloud", "pencil", "window")


def puzzle(rng: random.Random) -> tuple[str, str]:
    """Draw a puzzle and its answer: six families, of one to three digits, from what all models can to what few can."""
    digits = rng.choice((1, 1, 2, 2, 3))
    left, right = sorted(rng.sample(range(10 ** (digits - 1), 10**digits), 2))
    word, country = rng.choice(WORDS), rng.choice(sorted(CAPITALS))
    return rng.choice(
        (
            (f"What is {left} + {right}?", str(left + right)),
            (f"Take {left} from {right}.", str(right - left)),
            (f"Which is larger, {left} or {right}?", str(right)),
            (f"Is {left} odd or even?", "odd" if left % 2 else "even"),
            (f"Reverse the word {word}.", word[::-1]),
            (f"What is the capital of {country}?", CAPITALS[country]),
        )
    )


def zoo_of(folder: Path, *models: str, defaults: str = "max_tokens: 64, n_ctx: 0, temperature: 0") -> Path:
    """Write a zoo.yaml of GGUF files that lie in `folder`."""
    path = folder / "zoo.yaml"
    lines = [f"- {{name: {model}, path: {model}.gguf}}" for model in models]
    path.write_text("\n".join((f"defaults: {{{defaults}}}", "models:", *lines)) + "\n")
    return path


def typed(monkeypatch, data: bytes = b"") -> None:
    """Put `data` on standard input; it is no terminal."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def process(*arguments: str | bytes, **options) -> subprocess.CompletedProcess[bytes]:
    """Run a real messctl to its end; nothing on standard input unless `input` is given."""
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run([*MESSCTL, *arguments], check=False, **options)


def at_terminal(
    arguments: Sequence[str], reply: bytes = b"", before: bytes = b"good? ", env: Mapping[str, str] | None = None
) -> tuple[int, bytes, bytes]:
    """Run a real messctl at a pseudo-terminal; when `before` has been shown, type `reply`, until it ends.

    Returns the exit code, what stdout was sent and what stderr was sent, two terminals.
    """
    out, out_end = os.openpty()
    err, err_end = os.openpty()
    shown = bytearray()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    with subprocess.Popen(
        [*MESSCTL, *arguments],
        stdin=err_end,
        stdout=out_end,
        stderr=err_end,
        env={**environment, "TERM": "xterm-256color", **(env or {})},
    ) as running:
        os.close(out_end)
        os.close(err_end)
        waiting = bool(reply)
        while piece := _read(err):
            shown += piece
            if waiting and before in shown:
                os.write(err, reply)
                waiting = False
        said = bytearray()
        while piece := _read(out):
            said += piece
    os.close(out)
    os.close(err)
    return running.returncode, bytes(said), bytes(shown)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux says so when the last program has left
        return b""


def assert_one_line(code: int, out: str | bytes, err: str | bytes, expected: int = 2) -> str:
    """Check that an error is one line on stderr that moves nobody's cursor, and return that line."""
    out, err = (text.decode() if isinstance(text, bytes) else text for text in (out, err))
    assert (code, out) == (expected, ""), err
    assert err.startswith("messctl: "), err
    assert err.count("\n") == 1, err
    assert err.endswith("\n")
    assert err[:-1].isprintable(), err
    return err


def assert_sound(state: Path, requests: int | None = None) -> None:
    """Check that the state is sound, and holds this number of requests."""
    assert check(state) == []
    if requests is not None:
        with Store(state) as store:
            assert sum(1 for _ in store.requests) == requests


class Terminal:
    """A real messctl that runs at a pseudo-terminal of its own, as in a window: what is typed may be Ctrl-C."""

    def __init__(
        self, *arguments: str, env: Mapping[str, str] | None = None, size: tuple[int, int] = (40, 160)
    ) -> None:
        self._terminal, end = os.openpty()
        self.resize(*size)
        self.shown = b""
        environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
        self.running = subprocess.Popen(
            [*MESSCTL, *arguments],
            stdin=end,
            stdout=end,
            stderr=end,
            env={**environment, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", **(env or {})},
            preexec_fn=_own_terminal,  # noqa: PLW1509
        )
        os.close(end)

    def resize(self, rows: int, columns: int) -> None:
        """Give the window another size."""
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._terminal, keys)

    def until(self, pattern: bytes) -> bytes:
        """Wait until what was shown since the last call matches, and return all of that up to the match's end."""
        while not (found := re.search(pattern, self.shown, re.DOTALL)):
            assert self._goes_on(), f"it ended, and had shown {self.shown!r}"
        seen, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return seen

    def end(self) -> tuple[int, bytes]:
        """Wait for the process to end, and return its exit code and what else it showed."""
        while self._goes_on():
            pass
        return self.running.wait(), self.shown

    def _goes_on(self) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], LONGEST_WAIT_S)
        assert ready, f"nothing comes any more; it had shown {self.shown!r}"
        piece = _read(self._terminal)
        self.shown += piece
        return bool(piece)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.running.kill()
        self.running.wait()
        os.close(self._terminal)


def _own_terminal() -> None:
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
