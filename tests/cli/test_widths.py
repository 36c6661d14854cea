"""Long lines at a terminal break at spaces, at every width and with every kind of terminal."""

import os
import re

import pytest
from live_making import Terminal, process
from rich.cells import cell_len

pytest.importorskip("llama_cpp")
if not hasattr(os, "openpty"):
    pytest.skip("no pseudo-terminals here", allow_module_level=True)

STYLE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
BOXES = re.compile("[─-╿]")
ZOO = """
grader: contain
defaults: {n_ctx: 0, max_tokens: 8, temperature: 0}
models:
- {name: a, path: "box:pico-34k.gguf"}
- {name: away, url: "http://127.0.0.1:9/v1", timeout_s: 1, retries: 0, parameters: 1.0e+9}
"""
COMMANDS = {
    "doctor": ["doctor"],
    "zoo check": ["zoo", "check"],
    "formats": ["import", "--formats"],
    "an error": ["ask", "hi", "--model", "nobody of this name, which is long enough to need several lines"],
    "status": ["status"],
}


def shown_at(width, term, *arguments):
    with Terminal(*arguments, env={"TERM": term}, size=(40, width)) as terminal:
        code, shown = terminal.end()
    return STYLE.sub("", shown.decode()).replace("\r\n", "\n")


@pytest.fixture(autouse=True)
def zoo(tmp_path, monkeypatch, state):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo.yaml").write_text(ZOO)


def assert_breaks_at_spaces(shown, whole, width):
    """Check that no line is too wide, but for a single long word, and that every word that fits a line is there."""
    for line in shown.splitlines():
        assert cell_len(line.rstrip()) <= width or len(line.split()) == 1, line
    words = {word for line in whole.splitlines() if not BOXES.search(line) for word in line.split()}
    words = {word for word in words if cell_len(word) <= width - 2}
    changing = re.compile(r"[\d.]+")  # as the free memory does
    assert {changing.sub("#", word) for word in words} <= {changing.sub("#", word) for word in shown.split()}


@pytest.mark.slow
@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
@pytest.mark.parametrize("width", [30, 61, 132])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_word_of_a_long_line_is_broken(command, width, term):
    done = process(*COMMANDS[command])
    assert_breaks_at_spaces(shown_at(width, term, *COMMANDS[command]), (done.stdout + done.stderr).decode(), width)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "term"), [(30, "xterm-256color"), (61, "dumb"), (40, "dumb")])
def test_the_help_of_a_chat_and_the_line_under_an_answer_break_at_spaces(width, term):
    whole = process("chat", "--model", "a", input=b"/help\n").stdout.decode()
    with Terminal("chat", "--model", "a", env={"TERM": term}, size=(40, width)) as terminal:
        terminal.until(rb">( |\x08)")
        terminal.type(b"/help\r")
        shown = terminal.until(rb'until\s+the\s+next\s+"""\.\r?\n')
        terminal.type(b"hi\r")
        footer = terminal.until(rb"choice(\x1b\[0m)?\r?\n")
        terminal.type(b"/quit\r")
        terminal.end()
    text = STYLE.sub("", shown.decode()).replace("\r", "\n")
    assert_breaks_at_spaces(text[text.index("/good") :], whole, width)
    line = footer.decode()[footer.decode().rindex("a ·") :]
    assert {"J,", "estimated", "attained", "choice"} <= set(STYLE.sub("", line).split())
    assert all(cell_len(each) <= width for each in STYLE.sub("", line).splitlines())


@pytest.mark.parametrize("width", [30, 50])
def test_the_help_of_a_command_fits_a_simple_terminal(width):
    shown = shown_at(width, "dumb", "feedback", "--help")
    assert max(cell_len(line) for line in shown.splitlines()) <= width
