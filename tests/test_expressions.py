"""Regular expressions of users: valid or one line, and never longer than their time."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from messctl import expressions
from messctl.errors import GradeError
from messctl.expressions import check, found

EVIL = "a" * 50 + "!"


@pytest.mark.parametrize(
    ("expression", "text", "matches"),
    [
        (r"^\d+$", "42", True),
        (r"^\d+$", "42 ", False),
        ("", "", True),
        ("(?i)YES|no", "yes", True),
        ("é\n\u2028", "é\n\u2028", True),
        ("\udcff", "x\udcff", True),
        ("[[a]", "a", True),  # of which Python warns
        ("a{2}", "b" * 10**6, False),
    ],
)
def test_a_match_is_found_anywhere_in_a_text(expression, text, matches):
    assert check(expression) is None
    assert found(expression, text) == matches


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("(", "unterminated subpattern"),
        ("a{4294967295}", "the repetition number is too large"),
        ("(" * 5000, "nested too deeply"),
        ("(?i)" + r"[\x00-\U0010ffff]" * 1000, "takes longer than 1 s"),
        ("(?:" * 2000 + "a" + ")*" * 2000, "nested too deeply"),
        ("a{" + "9" * 5000 + "}", "4300 digits"),
        ("(?<=a*)b", "look-behind requires fixed-width"),
        ("\\" + "9" * 90, "invalid group reference"),
        ("a(?i)b", "global flags"),
        ("(?i)" + "[\0-\U0010ffff]" * 1000, "takes longer than 1 s"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_reason(expression, problem):
    assert problem in check(expression)
    with pytest.raises(GradeError) as error:
        found(expression, "text")
    assert problem in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("expression", ["(a+)+$", "(a|aa)+$", r"(a*)*\1b", "(.*a){30}$"])
def test_an_expression_without_end_is_stopped_and_the_next_is_searched(expression):
    with pytest.raises(GradeError, match=r"takes longer than 1 s on this answer; simplify it"):
        found(expression, EVIL)
    assert found("a+", EVIL)


def test_a_search_that_python_cannot_interrupt_is_stopped():
    with pytest.raises(GradeError, match="takes longer"):
        found("x*y", "x" * 10**6)


def test_a_search_that_takes_all_memory_is_stopped():
    with pytest.raises(GradeError, match="takes more memory than 1 GB|takes longer"):
        found("(a|b)*c", "ab" * 10**7)
    assert found("a", "a")


def test_threads_take_turns():
    results = {}

    def search(number):
        results[number] = found(f"^{number}$", str(number)) and not found(f"^{number}$", f"{number}x")

    threads = [threading.Thread(target=search, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(20), True)


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_a_process_that_was_killed_is_replaced():
    assert found("a", "a")
    expressions._process._running.kill()
    expressions._process._running.wait()
    with pytest.raises(GradeError):
        found("a", "a")
    assert found("a", "a")


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_ctrl_c_ends_a_search_at_once_and_the_next_is_right():
    code = (
        "import signal, sys\n"
        "from messctl import expressions\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "expressions._SERVES = expressions._SERVES.replace('limit(1.0)', 'limit(60.0)')\n"
        "assert expressions.found('a', 'a')\n"
        "try:\n"
        "    print('ready', flush=True)\n"
        "    expressions.found('(a+)+$', 'a' * 50 + '!')\n"
        "except KeyboardInterrupt:\n"
        "    print(expressions.found('a', 'a'), expressions.found('a', 'b'))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "True False\n"
    assert process.returncode == 0


def test_where_no_process_can_be_started_the_reason_is_given(monkeypatch):
    def refuse(*_arguments, **_named):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(expressions._process, "_running", None)
    monkeypatch.setattr("subprocess.Popen", refuse)
    with pytest.raises(GradeError, match="no process can be started .*unavailable"):
        found("a", "a")


def test_a_short_expression_is_checked_without_a_process(monkeypatch):
    monkeypatch.setattr(expressions._process, "reply", None)
    assert check(r"^-?[0-9]+$") is None
    assert check("a{4294967295}") == "the repetition number is too large"
    assert check("(") == "missing ), unterminated subpattern at position 0"
    with pytest.raises(TypeError):
        check(r"[\u0000-\U0010ffff]")
