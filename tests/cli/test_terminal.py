"""The live commands at a terminal, and data with control characters: real processes on pseudo-terminals."""

import json
import os
import re

import pytest
from backends_files import says, write_gguf
from live_making import STATED, assert_one_line, assert_sound, at_terminal, process, typed, zoo_of

from messctl.backends import Scripted
from messctl.cli import run
from messctl.state.store import Store
from messctl.zoo import PACKAGED_FILE

pytest.importorskip("llama_cpp")
if not hasattr(os, "openpty"):
    pytest.skip("no pseudo-terminals here", allow_module_level=True)

SUM = "What is 7 + 8?"
STYLE = re.compile(rb"\x1b\[[0-9;]*m")
FOOTER = re.compile(
    rb"micro-400k \xc2\xb7 0\.0015 J, estimated \xc2\xb7 no feedback yet, 0\.80 promised \xc2\xb7 your choice\r\n"
)
EVIL = "\x1b]0;x\x07\x1b[31m[red]\r[/]\u202e\u200f\x9b2J\0\x08🙂\t[bold]"
ESCAPES = b"\x1b]0;x\x07\r\xe2\x80\xae\xff"
"""An answer in which no byte occurs twice: terminal title, bell, return, right-to-left, and a byte not in UTF-8."""


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESSCTL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "160")
    typed(monkeypatch)
    return tmp_path / "state"


NEITHER = b"messctl: warning: '%s' is neither y nor n; give feedback later with `messctl\r\n  feedback`\r\n"
NOTED = "noted: micro-400k {} · attained {} of 0.80 over 1\r\n"
GOOD, BAD = (NOTED.format(*said).encode() for said in (("good", "1.00"), ("bad", "0.00")))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reply", "satisfied", "echo"),
    [
        (b"y\n", 1.0, b"y\r\n" + GOOD),
        (b"No\n", 0.0, b"No\r\n" + BAD),
        (b"good\n", 1.0, b"good\r\n" + GOOD),
        (b"bad\n", 0.0, b"bad\r\n" + BAD),
        (b"\n", None, b"\r\n"),
        (b"\x04", None, b"\r\n"),
        (b"maybe\n", None, b"maybe\r\n" + NEITHER % b"maybe"),
        (b"\xff\n", None, b"\xff\r\n" + NEITHER % b"\\xff"),
    ],
)
def test_the_reply_to_the_question_is_stored_as_feedback(reply, satisfied, echo, state):
    code, out, err = at_terminal(["ask", SUM, "--model", "micro-400k"], reply)
    footer, question, rest = STYLE.sub(b"", err).partition(b"Was the answer good? [y/n, Enter to skip] ")
    assert (code, out, rest) == (0, b"15\r\n", echo)
    assert FOOTER.fullmatch(footer)
    assert question
    with Store(state) as store:
        assert store.requests.find("last").satisfied == satisfied
        assert store.policy.snapshot().queue == pytest.approx(0.0 if satisfied is None else max(0.0, 0.8 - satisfied))
    assert_sound(state, requests=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ("messplus", "cheapest likely to satisfy"),
        ("bandit", "cheapest likely to satisfy|a trial, to learn about it"),
    ],
)
def test_the_footer_explains_the_decision(policy, why, tmp_path):
    (tmp_path / "zoo.yaml").write_text(PACKAGED_FILE.read_text().replace("policy: bandit", f"policy: {policy}"))
    _, _, err = at_terminal(["ask", SUM], b"\n")
    footer = STYLE.sub(b"", err).decode().partition("Was the answer")[0]
    footer = " ".join(footer.split())
    assert re.fullmatch(rf"[\w-]+ · [\d.e-]+ J, estimated · no feedback yet, 0.80 promised · ({why})", footer)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--expect", "15"], ["--no-log"]])
def test_no_question_is_asked_if_no_reply_is_needed(arguments):
    code, out, err = at_terminal(["ask", SUM, *arguments])
    assert (code, out) == (0, b"15\r\n")
    assert b"good?" not in err
    footer = " ".join(STYLE.sub(b"", err).decode().split())
    assert footer.endswith(("cheapest likely to satisfy", "a trial, to learn about it"))


def test_json_prints_no_footer_and_no_question():
    code, out, err = at_terminal(["ask", SUM, "--json"])
    assert (code, err) == (0, b"")
    assert json.loads(out)["answer"] == "15"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_turned_off(name, value):
    code, out, err = at_terminal(["ask", SUM, "--explain", "--expect", "15"], env={name: value})
    assert (code, out) == (0, b"15\r\n")
    styles = {number for style in STYLE.findall(err) for number in style[2:-1].split(b";")}
    assert styles <= ({b"0", b"1", b"2"} if name == "NO_COLOR" else set())


def test_a_missing_prompt_is_one_line():
    code, out, err = at_terminal(["ask"])
    assert "no prompt" in assert_one_line(code, out, b" ".join(err.split()) + b"\n")


@pytest.mark.parametrize(("reply", "left"), [(b"y\n", 0), (b"\x04", 1)])
def test_reset_asks_before_it_forgets(reply, left, monkeypatch, tmp_path, state):
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: Scripted({"dear": "yes"}))
    (tmp_path / "zoo.yaml").write_text(STATED)
    assert run(["ask", "hi", "--model", "dear"]) == 0
    code, out, err = at_terminal(["reset", "--json"], reply, before=b"[y/N] ")
    assert (code, json.loads(out)["forgotten"]) == (0, 1 - left)
    assert b" ".join(err.split()).startswith(b"Forget 1 request and all that was learned, in ")
    assert_sound(state, requests=left)


def test_escapes_in_an_answer_do_not_reach_a_terminal(tmp_path, capsys, state):
    """A real model answers with escapes. A terminal shows them as text; a pipe and JSON get the answer itself."""
    write_gguf(tmp_path / "evil.gguf", says(ESCAPES))
    zoo_of(tmp_path, "evil")
    shown = rb"\x1b]0;x\x07\r\u202e" + "�".encode() + b"\r\n"
    code, out, err = at_terminal(["ask", EVIL.replace("\0", "")], b"\n")
    assert (code, out) == (0, shown)
    assert STYLE.sub(b"", err).count(b"\x1b") == 0
    code, out, err = at_terminal(["log"])
    assert (code, err) == (0, b"")
    assert STYLE.sub(b"", out).decode().replace("\r\n", "").isprintable()
    assert run(["ask", "hi"]) == 0
    assert capsys.readouterr() == (ESCAPES.decode("utf-8", "replace") + "\n", "")
    assert run(["ask", "hi", "--json"]) == 0
    out, _ = capsys.readouterr()
    assert json.loads(out)["answer"] == ESCAPES.decode("utf-8", "replace")
    assert out.isascii()
    assert out.replace("\n", "").isprintable()
    assert_sound(state, requests=3)


def test_log_and_status_show_control_characters_as_text(tmp_path, monkeypatch, capsys, state):
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: Scripted({"dear": EVIL}))
    (tmp_path / "zoo.yaml").write_text(STATED)
    typed(monkeypatch, EVIL.encode() + b"\xff\xed\xa0\x80")
    assert run(["ask", "--model", "dear"]) == 0
    capsys.readouterr()
    for command in ("log", "status"):
        assert run([command, "--state", "state"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert all(line.isprintable() for line in out.splitlines())
        if command == "log":
            assert out.count("[red]") == 2
            assert r"\x1b]0;x\x07\x1b[31m[red]" in out
    assert run(["log", "--json"]) == 0
    (logged,) = json.loads(capsys.readouterr().out)
    assert logged["prompt"] == (EVIL + "\ufffd" * 4)
    assert logged["answers"]["dear"]["answer"] == EVIL
    assert run(["export", "-o", "evil.parquet"]) == 0
    assert run(["replay", "evil.parquet", "--policy", "logged"]) == 0
    out, _ = capsys.readouterr()
    assert all(line.isprintable() for line in out.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize(
    "prompt", [b"caf\xe9 \xed\xa0\x80 \xff\xfe \x1b[2J[bold]\x9b", "a\u202eb\u2067 👩\u200d👧 \U0010ffff".encode()]
)
def test_hostile_arguments_are_stored_as_text(prompt, state):
    done = process("ask", prompt, "--system", prompt, "--expect", prompt, "--json", input=prompt)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["judged"] == 1
    with Store(state) as store:
        text = prompt.decode("utf-8", "replace")
        assert store.requests.find("last").decision.request.prompt == f"{text}\n\n{text}"
    assert_sound(state, requests=1)
