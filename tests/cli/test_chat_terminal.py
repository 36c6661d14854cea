"""`messctl chat` at a terminal: a real process, real keys, and Ctrl-C as a terminal sends it."""

import os
import re
import signal
import time

import pytest
from backends_files import ANSWER, says, write_gguf
from live_making import Terminal, assert_sound, zoo_of

from messctl.cli import run
from messctl.state.store import Store

pytestmark = pytest.mark.usefixtures("state")

pytest.importorskip("llama_cpp")
if not hasattr(os, "openpty"):
    pytest.skip("no pseudo-terminals here", allow_module_level=True)

SUM = b"What is 7 + 8?"
PROMPT = rb"\x1b\[\?2004h.*?> ?\x08?.*?\x1b\[\?25h"
"""Bracketed paste is on and the prompt is shown: now the test may type."""
STYLE = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]|\r|\x08")
HOME, UP, INTERRUPT, END_OF_FILE = b"\x01", b"\x1b[A", b"\x03", b"\x04"


@pytest.fixture
def chatting(tmp_path):
    """Starts a chat at a terminal, and waits until somebody may type."""
    started = []

    def start(*arguments, **options):
        terminal = Terminal("chat", *arguments, **options)
        started.append(terminal)
        terminal.until(PROMPT)
        return terminal

    yield start
    for terminal in started:
        terminal.__exit__()


def answered(terminal, keys):
    """Type keys and Enter; return what is shown until the next prompt, without what was typed."""
    terminal.type(keys + b"\r")
    terminal.until(rb"\x1b\[\?2004l")
    shown = terminal.until(rb"(?=\x1b\[\?2004h)")
    terminal.until(PROMPT)
    return STYLE.sub(b"", shown).replace(b"\n", b"|")


def leave(terminal):
    terminal.type(END_OF_FILE)
    code, _ = terminal.end()
    return code


def prompts_in(state):
    with Store(state) as store:
        return [each.decision.request.prompt for each in store.requests.newest(99)]


def test_a_chat_with_answers_feedback_and_commands(chatting, state):
    terminal = chatting()
    shown = answered(terminal, SUM)
    assert re.fullmatch(
        rb"15\|[\w-]+ \xc2\xb7 [\d.e-]+ J, estimated \xc2\xb7 no feedback yet, 0.80 promised \xc2\xb7 [^|]*\|", shown
    ), shown
    assert re.fullmatch(rb"noted: [\w-]+ good \xc2\xb7 attained 1.00 of 0.80 over 1\|", answered(terminal, b"/good"))
    assert answered(terminal, b"/gud").startswith(b"messctl: unknown command '/gud' (did you mean '/good'?)")
    assert b"1 answered, 0 with pending feedback" in answered(terminal, b"/status")
    answered(terminal, b"/model pico-34k")
    assert b"your choice" in answered(terminal, b"Is 12 odd or even?")
    assert answered(terminal, b"/good").startswith(b"noted: pico-34k good")
    assert answered(terminal, b"/n") == b"noted: pico-34k bad \xc2\xb7 attained 0.50 of 0.80 over 2|"
    terminal.type(b"/quit\r")
    assert terminal.end()[0] == 0
    with Store(state) as store:
        assert [each.satisfied for each in store.requests.newest(9)] == [1.0, 0.0]
    assert_sound(state, requests=2)


@pytest.mark.slow
def test_the_line_is_edited_and_recalled(chatting, state):
    terminal = chatting()
    answered(terminal, b"is 7 + 8?" + HOME + b"What ")
    answered(terminal, b"Is 3 odd or even?")
    answered(terminal, UP + UP)
    assert leave(terminal) == 0
    answered(chatting(), UP + b"\x7f\x7f8?")
    assert prompts_in(state) == ["What is 7 + 8?", "Is 3 odd or even?", "What is 7 + 8?", "What is 7 + 8?"]
    history = state.with_name("state-chat")
    assert history.stat().st_mode & 0o777 == 0o600
    assert history.read_text().count("+What is 7 + 8?") == 2  # a repeated line is stored once


@pytest.mark.slow
def test_reset_forgets_what_was_typed(chatting, state):
    terminal = chatting()
    answered(terminal, SUM)
    leave(terminal)
    assert run(["reset", "--yes"]) == 0
    assert not state.with_name("state-chat").exists()
    assert run(["reset", "--yes"]) == 0


@pytest.mark.slow
def test_the_history_is_private_after_a_reset_elsewhere(chatting, state):
    before = os.umask(0o022)
    try:
        terminal = chatting()
    finally:
        os.umask(before)
    answered(terminal, SUM)
    assert run(["reset", "--yes"]) == 0
    assert not state.with_name("state-chat").exists()
    answered(terminal, b"Is 3 odd or even?")
    leave(terminal)
    history = state.with_name("state-chat")
    assert (history.stat().st_mode & 0o777, b"odd or even" in history.read_bytes()) == (0o600, True)


def test_commands_and_names_are_completed(chatting):
    terminal = chatting()
    assert answered(terminal, b"/mod\tmic\t") == b""
    assert answered(terminal, b"/model").startswith(b"micro-400k; known: ")
    terminal.type(b"/model m\t\t")
    assert b"micro-400k" in terminal.until(rb"mini-1m")
    terminal.until(PROMPT)
    terminal.type(INTERRUPT)
    terminal.until(PROMPT)
    assert leave(terminal) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "prompt"),
    [
        (b"one\x1b\rtwo", "one\ntwo"),
        (b"\x1b[200~one\r\ntwo\nthree\x1b[201~", "one\ntwo\nthree"),
        (b'"""one\r  two\r"""', "one\n  two"),
        (b"\x1b[200~ /good\nand more\x1b[201~", "/good\nand more"),
        (b"caf\xc3\xa9 \xf0\x9f\x99\x82", "café 🙂"),
        (b"a\xff\xfeb", "a��b"),
    ],
)
def test_a_turn_of_several_lines_and_of_any_characters(keys, prompt, chatting, state):
    terminal = chatting()
    answered(terminal, keys)
    assert leave(terminal) == 0
    assert prompts_in(state) == [prompt]


@pytest.fixture
def endless(tmp_path):
    """A zoo of a model whose answer does not end, and of one that says a word."""
    write_gguf(tmp_path / "endless.gguf", {ANSWER: "a", "a": "b", "b": "a"}, n_ctx=80_000)
    write_gguf(tmp_path / "rote.gguf", says(b"hey"), n_ctx=80_000)
    zoo_of(tmp_path, "endless", "rote", defaults="max_tokens: 80000, n_ctx: 0, temperature: 0")


@pytest.mark.slow
def test_ctrl_c_ends_the_answer_and_not_the_chat(chatting, endless, state):
    terminal = chatting("--model", "endless")
    terminal.type(b"go on\r")
    said = terminal.until(rb"abab")
    terminal.type(INTERRUPT)
    shown = STYLE.sub(b"", said.rpartition(b"\x1b[?2004l")[2] + terminal.until(PROMPT))
    assert re.fullmatch(rb"[ab]+\^C[ab]*\nended; the part above stays in the conversation\n> ?", shown), shown[-200:]
    assert answered(terminal, b"/good").endswith(b"has no answer to give feedback on; wait for it, or ask again|")
    answered(terminal, b"/model rote")
    answered(terminal, b"hm")
    assert leave(terminal) == 0
    with Store(state) as store:
        ended, last = store.requests.newest(9)
    assert not ended.answers
    # `ab` is one token; the other model has read them all
    assert last.answers["rote"].tokens_in > len("go onhm") + shown.count(b"ab")
    assert_sound(state, requests=2)


def test_repeated_ctrl_c_never_ends_the_chat(chatting, endless, state):
    """Nobody's hand is as fast; none of them ends the chat, or shows its insides."""
    terminal = chatting("--model", "endless")
    for _ in range(3):
        terminal.type(b"go on\r")
        terminal.until(rb"abab")
        for _ in range(25):
            terminal.type(INTERRUPT)
            time.sleep(0.002)
        assert b"Traceback" not in terminal.until(rb"ended; the part above")
        terminal.type(b"/mo\t\r")
        assert b"Traceback" not in terminal.until(rb"endless; known: ")
    terminal.until(PROMPT)
    assert leave(terminal) == 0
    assert_sound(state, requests=3)


@pytest.mark.slow
def test_ctrl_c_at_the_prompt_clears_the_line(chatting, state):
    terminal = chatting()
    terminal.type(b"no, not this" + INTERRUPT)
    terminal.until(PROMPT)
    terminal.type(b'"""nor\rthat' + INTERRUPT)
    terminal.until(PROMPT)
    answered(terminal, SUM)
    assert leave(terminal) == 0
    assert prompts_in(state) == ["What is 7 + 8?"]


def test_a_signal_at_the_prompt_ends_nothing(chatting, state):
    terminal = chatting()
    terminal.type(b"What is ")
    terminal.until(rb"What is")
    terminal.running.send_signal(signal.SIGINT)
    assert answered(terminal, b"7 + 8?").startswith(b"15|")
    assert leave(terminal) == 0
    assert prompts_in(state) == ["What is 7 + 8?"]


def test_a_change_of_the_window_size_does_no_harm(chatting, state):
    terminal = chatting(size=(24, 30))
    terminal.type(b"What is the sum of " + b"1 " * 30)
    terminal.resize(10, 200)
    answered(terminal, b"!")
    assert leave(terminal) == 0
    assert prompts_in(state) == ["What is the sum of " + "1 " * 30 + "!"]


def test_escapes_in_an_answer_are_shown_and_not_obeyed(tmp_path, chatting):
    write_gguf(tmp_path / "evil.gguf", says(b"\x1b]0;x\x07\r"))
    zoo_of(tmp_path, "evil")
    terminal = chatting()
    terminal.type(b"hi\r")
    assert rb"\x1b]0;x\x07\r" in terminal.until(rb"promised")
    terminal.until(PROMPT)
    assert leave(terminal) == 0


def test_no_log_stores_no_history(chatting, state, tmp_path):
    terminal = chatting("--no-log")
    assert answered(terminal, SUM).startswith(b"15|")
    assert re.match(rb"\d+\|", answered(terminal, UP))  # another model may answer, and be wrong
    assert leave(terminal) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("breaks", ["a folder", "a loop"])
def test_a_chat_goes_on_without_a_history(breaks, chatting, state):
    history = state.with_name("state-chat")
    history.mkdir() if breaks == "a folder" else history.symlink_to(history)
    terminal = chatting()
    assert answered(terminal, SUM).startswith(b"15|")
    assert re.match(rb"\d+\|", answered(terminal, UP))  # another model may answer, and be wrong
    assert leave(terminal) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("env", "prompt"), [({"TERM": "dumb"}, rb"> "), ({"NO_COLOR": "1"}, PROMPT)])
def test_a_simple_terminal_gets_a_plain_prompt(env, prompt, state):
    with Terminal("chat", env=env) as terminal:
        terminal.until(prompt)
        terminal.type(SUM + b"\r")
        terminal.until(rb"15\r\n.*?\d J, estimated ")
        terminal.until(prompt)
        terminal.type(b"/quit\r")
        code, shown = terminal.end()
    assert code == 0
    assert not re.search(rb"\x1b\[[0-9;]*3[0-9]", shown)
    assert_sound(state, requests=1)
