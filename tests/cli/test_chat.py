"""`messctl chat` without a terminal: a turn per line, commands, and what fails."""

import json
import os
import signal
import subprocess
import sys

import pytest
from live_making import MESSCTL, STATED, assert_one_line, assert_sound, process, typed

from messctl.backends import Scripted
from messctl.cli import run
from messctl.records import Question
from messctl.state.store import Store

pytestmark = pytest.mark.usefixtures("state")

SUM = "What is 17 + 25?"


@pytest.fixture
def questions(tmp_path, monkeypatch):
    """Two scripted models in ./zoo.yaml, which fail on the word break. Returns the list of their questions."""
    questions = []

    def answer(model, question):
        questions.append(question)
        if "break" in question.prompt:
            raise ZeroDivisionError if model.name == "none" else broken(model)
        return f"{model.name} {len(questions)}"

    def broken(model):
        from messctl.errors import BackendError

        return BackendError(f"model {model.name!r} broke\x1b[31m")

    (tmp_path / "zoo.yaml").write_text(STATED)
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: Scripted(answer))
    return questions


@pytest.fixture
def chat(monkeypatch, capsys):
    """Sends lines to a chat; returns the exit code, stdout and stderr."""

    def said(lines, *arguments):
        typed(monkeypatch, lines if isinstance(lines, bytes) else lines.encode())
        code = run(["chat", *arguments])
        return (code, *capsys.readouterr())

    return said


TURNS = [
    ("one\ntwo\n", ["one", "two"]),
    ("one", ["one"]),
    ("\n  one \r\n\n \t\ntwo\n\n", ["one", "two"]),
    (b"caf\xe9 \0\n", ["caf� \0"]),
    ("\ufeffone\r\ntwo\r\n".encode(), ["one", "two"]),
    ("\ufeff\none\n".encode(), ["one"]),
    ("\ufeffGröße 🙂 \u0a0a\r\n\ntwo".encode("utf-16-le"), ["Größe 🙂 \u0a0a", "two"]),
    ("\ufeffone\n\u0a0atwo\n".encode("utf-16-be"), ["one", "\u0a0atwo"]),
    ('\ufeff"""one\ntwo"""\nthree\n'.encode("utf-32-le"), ["one\ntwo", "three"]),
    (b"\xefone\n", ["\ufffdone"]),
    (b"\xff\n", ["\ufffd"]),
    ('"""one\n\n  two"""\nthree\n', ["one\n\n  two", "three"]),
    ('"""\none\n"""\n"""two"""\n', ["one", "two"]),
    ('""""""\n"""/good"""\n', ["/good"]),
    ('a """ b\n', ['a """ b']),
    (" /etc/hosts is what?\n//\n", ["/etc/hosts is what?"]),
    ("one\n/quit\ntwo\n", ["one"]),
    ("", []),
]


@pytest.mark.parametrize(("lines", "prompts"), TURNS)
def test_each_line_of_standard_input_is_a_turn(lines, prompts, chat, questions):
    code, out, err = chat(lines)
    assert [question.prompt for question in questions] == prompts
    assert len(out.splitlines()) == len(prompts)
    assert err.startswith("messctl: unknown command '//'") if b"//" in bytes(str(lines), "utf-8") else err == ""


def test_a_turn_is_sent_with_earlier_turns_and_the_options(chat, questions):
    options = ["--system", "be brief", "--max-tokens", "9", "--temperature", "0.5", "--seed", "3", "--model", "dear"]
    assert chat("one\ntwo\n", *options) == (0, "dear 1\ndear 2\n", "")
    turn = ("one", "dear 1")
    assert questions[1] == Question("two", "be brief", (turn,), max_tokens=9, temperature=0.5, seed=3)


COMMANDS = [
    ("hi\n/good\nhi\n/bad\n", [1.0, 0.0], ""),
    ("hi\n/bad\n/good\n", [1.0], ""),
    ("/good\n", [], "messctl: nothing was answered yet, so there is nothing to give feedback on; ask first\n"),
    ("hi\n/goood\n", [None], "messctl: unknown command '/goood' (did you mean '/good'?); /help lists them; "),
    ("hi\n/\n", [None], "messctl: unknown command '/'; /help lists them; "),
    ("hi\n/good 0.5\n", [None], "messctl: /good takes no argument; leave out '0.5'\n"),
    ("/model deer\nhi\n", [None], "messctl: unknown model 'deer' (did you mean 'dear'?); known: cheap[red], dear\n"),
    (f"/{'x' * 99999}\n", [], f"messctl: unknown command '/{'x' * 39}'; /help"),
    ("/\x1b[31m\n", [], r"messctl: unknown command '/\x1b[31m'"),
    ("break\n/good\n", [None], "messctl: no model could answer: "),
    ('hi\n"""break', [None], 'messctl: standard input ends in a turn that began with """; end it with """\n'),
]


@pytest.mark.parametrize(("lines", "judged", "error"), COMMANDS)
def test_commands_give_feedback_or_an_error(lines, judged, error, chat, questions, state):
    code, out, err = chat(lines)
    assert code == (2 if error else 0)
    assert err.startswith(error)
    assert all(line.isprintable() for line in err.splitlines())
    with Store(state) as store:
        assert [each.satisfied for each in store.requests.newest(9)] == judged
    assert_sound(state)


def test_a_failure_is_one_line_and_the_chat_goes_on(chat, questions, state):
    code, out, err = chat("one\nbreak\ntwo\n/bad\n", "--model", "dear")
    assert (code, out) == (2, "dear 1\ndear 3\n")
    assert err == "messctl: model 'dear' broke\\x1b[31m\n"
    assert questions[2].history == (("one", "dear 1"),)
    with Store(state) as store:
        assert [each.satisfied for each in store.requests.newest(9)] == [None, None, 0.0]


def test_the_model_command_chooses_a_model_until_auto(chat, questions, state):
    code, out, err = chat("/model\n/model dear\nhi\n/model\n/model cheap[red]\nhi\n/model auto\nhi\n")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[:4] == [
        "auto: the router chooses; known: cheap[red], dear", "dear 1", "dear; known: cheap[red], dear", "cheap[red] 2"
    ]  # fmt: skip
    with Store(state) as store:
        assert [each.circumstances.forced for each in store.requests.newest(9)] == [True, True, False]


def test_status_and_help_print_their_lines(chat, questions, state):
    code, out, err = chat("hi\n/good\n/status\n/help\n")
    assert (code, err) == (0, "")
    assert "1 answered, 0 with pending feedback" in out
    assert str(state) in "".join(out.split())
    for name in ("/good", "/bad", "/model NAME", "/status", "/help", "/quit"):
        assert f"\n{name} " in out


def test_json_prints_one_document_per_turn(chat, questions, capsys):
    code, out, err = chat("hi\n/good\nhi\n/status\n/help\n", "--json")
    first, second, status = (json.loads(line) for line in out.splitlines())
    assert (code, "/quit" in err) == (0, True)
    assert (first["judged"], second["judged"], second["attained"], second["failures"]) == (0, 1, 1.0, {})
    assert run(["status", "--json"]) == 0
    assert status == json.loads(capsys.readouterr().out)


def test_no_log_stores_nothing(chat, questions, state):
    assert chat("hi\n/good\n", "--no-log")[0] == 0
    assert not state.exists()
    assert chat("hi\n")[0] == 0
    before = state.read_bytes()
    code, out, err = chat("hi\n/bad\n/status\n", "--no-log")
    assert "2 answered" in out
    assert state.read_bytes() == before


def test_a_grader_of_the_zoo_judges_every_turn(chat, questions, tmp_path, state):
    (tmp_path / "zoo.yaml").write_text(STATED + "grader: '1$'\n")
    assert chat("one\ntwo\n")[0] == 0
    with Store(state) as store:
        assert [each.satisfied for each in store.requests.newest(9)] == [1.0, 0.0]


def test_a_grader_that_needs_a_reference_grades_no_turn_and_says_so_once(chat, questions, tmp_path, state):
    (tmp_path / "zoo.yaml").write_text(STATED + "grader: numeric\n")
    code, _, err = chat("one\ntwo\n")
    assert code == 0
    assert err.count("the zoo's grader 'numeric' needs a reference, so turns are not graded") == 1
    with Store(state) as store:
        assert [each.satisfied for each in store.requests.newest(9)] == [None, None]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_a_command_behind_a_byte_order_mark_is_obeyed(encoding, chat, questions):
    code, out, err = chat("\ufeff/model dear\r\nhi\r\n".encode(encoding))
    assert (code, out, err) == (0, "dear 1\n", "")


def test_a_turn_that_is_too_long_is_an_error(chat, questions, monkeypatch):
    for module in ("chat_turns", "standard_input"):
        monkeypatch.setattr(f"messctl.cli.{module}.MOST_BYTES", 100)
    assert chat(f"{'x' * 99}\n") == (0, "cheap[red] 1\n", "")
    for lines in (f"{'x' * 250}\nhi\n", f'"""{"x" * 90}\n{"x" * 90}"""\nhi\n'):
        code, out, err = chat(lines)
        assert (code, questions[-1].prompt) == (2, "hi")
        assert_one_line(code, "", err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "deer"], "unknown model 'deer' (did you mean 'dear'?)"),
        (["--alpha", "2"], "alpha is 2"),
        (["--zoo", "absent.yaml"], "absent.yaml"),
        (["--max-tokens", "0"], "max-tokens"),
        (["hello"], "unexpected extra argument(s) (hello) (see"),
    ],
)
def test_wrong_options_are_refused(arguments, message, chat, questions):
    assert message in assert_one_line(*chat("hi\n", *arguments))
    assert questions == []


def test_escapes_in_an_answer_reach_a_pipe_unchanged(chat, monkeypatch, questions):
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: Scripted({"dear": "\x1b[2J[red]"}))
    assert chat("hi\n", "--model", "dear") == (0, "\x1b[2J[red]\n", "")


def test_the_line_editor_is_not_loaded_without_a_terminal():
    code = "import sys; from messctl.cli import run; run(['chat']); print('prompt_toolkit' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert done.stdout == b"False\n"


def test_a_real_process_prints_the_answers(state):
    pytest.importorskip("llama_cpp")
    done = process("chat", "--model", "mini-1m", input=f"{SUM}\n/good\nReverse the word stone.\n".encode())
    assert (done.returncode, done.stdout, done.stderr) == (0, b"42\nenots\n", b"")
    assert_sound(state, requests=2)


def test_ctrl_c_ends_a_chat_without_a_terminal(tmp_path, state):
    pytest.importorskip("llama_cpp")
    with subprocess.Popen(
        [*MESSCTL, "chat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    ) as running:  # fmt: skip
        running.stdin.write(f"{SUM}\n".encode())
        running.stdout.readline()
        running.send_signal(signal.SIGINT)
        err = running.stderr.read()
    assert_one_line(running.returncode, b"", err, expected=130)
    assert_sound(state, requests=1)


@pytest.mark.slow
@pytest.mark.parametrize("turns", range(1, 5))
def test_a_killed_chat_loses_nothing_that_was_acknowledged(turns, state):
    """Every answer that was read, and every judgement after which another answer was read, is in the state."""
    pytest.importorskip("llama_cpp")
    with subprocess.Popen([*MESSCTL, "chat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as running:
        for turn in range(turns):
            running.stdin.write(f"What is {turn} + 1?\n".encode())
            assert running.stdout.readline()
            running.stdin.write(b"/good\n" if turn % 2 else b"/bad\n")
        os.kill(running.pid, signal.SIGKILL)
    assert_sound(state, requests=turns)
    with Store(state) as store:
        logged = list(store.requests.newest(99))
    assert all(each.answers or each is logged[-1] for each in logged)
    assert [each.satisfied for each in logged][:-1] == [float(turn % 2) for turn in range(turns - 1)]
    assert run(["chat"]) == 0
