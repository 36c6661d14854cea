"""Real processes that ask several models: killed between two asks, interrupted, two at once, and in a chat."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from live_making import assert_sound

from messctl.state.store import Store

pytestmark = pytest.mark.slow

LONGEST_WAIT_S = 600
"""The first process of all compiles what a second look needs."""
PROGRAM = """
import pathlib, time
import messctl.backends
from messctl.backends.scripted import Scripted
asked = []
def answers(model, question):
    asked.append(model.name)
    pathlib.Path("asked").write_text(" ".join(asked))
    if len(asked) == {stop}:
        time.sleep(600)
    return f"{{model.name}} says {{len(question.prompt)}}"
messctl.backends.LlamaCpp = lambda **_: Scripted(answers, logprob=-0.5)
from messctl.__main__ import main
main()
"""
ZOO = """
sla: {alpha: 0.85}
router: {asks: 3}
models:
- {name: small, path: small.gguf, cost: {unit: USD, prompt: 0, generated: 1}}
- {name: middle, path: middle.gguf, cost: {unit: USD, prompt: 0, generated: 4}}
- {name: large, path: large.gguf, cost: {unit: USD, prompt: 0, generated: 20}}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "zoo.yaml").write_text(ZOO)
    return tmp_path


def started(folder, *arguments, stop=0, lines=None):
    """Start a messctl whose models are stand-ins; the answer number `stop` never comes."""
    command = [sys.executable, "-c", PROGRAM.format(stop=stop), *arguments]
    running = subprocess.Popen(
        command, cwd=folder, env={**os.environ, "MESSCTL_STATE": str(folder / "state")}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    if lines is not None:
        running.stdin.write(lines)
    running.stdin.close()
    running.stdin = None
    return running


def ended(running):
    out, err = running.communicate(timeout=LONGEST_WAIT_S)
    return running.returncode, out, err


def asked(folder, *arguments, **more):
    code, out, err = ended(started(folder, "ask", *arguments, "--json", **more))
    assert code == 0, err
    return json.loads(out)


def until_two_are_asked(folder):
    for _ in range(10 * LONGEST_WAIT_S):
        if (folder / "asked").exists() and len((folder / "asked").read_text().split()) == 2:
            return (folder / "asked").read_text().split()
        time.sleep(0.1)
    raise AssertionError("no second model was asked")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_stopped_between_two_asks_keeps_the_answer_that_was_paid(folder, how):
    running = started(folder, "ask", "What is 1 + 1?", stop=2)
    first, _ = until_two_are_asked(folder)
    running.send_signal(how)
    code, out, _ = ended(running)
    assert code != 0
    assert out == ""
    assert_sound(folder / "state", 1)
    with Store(folder / "state") as store:
        (logged,) = store.requests
    assert (logged.decision.served, logged.asked, logged.satisfied) == (first, (first,), None)
    assert logged.answers[first].cost > 0
    assert ended(started(folder, "feedback", "last", "good"))[0] == 0
    assert asked(folder, "What is 2 + 2?")["queried"]
    assert_sound(folder / "state", 2)


def test_two_processes_at_once_lose_nothing(folder):
    with ThreadPoolExecutor(2) as pool:
        work = [pool.submit(asked, folder, f"What is {at} + 1?", "--expect", "says") for at in range(8)]
        answers = [each.result() for each in work]
    assert_sound(folder / "state", 8)
    with Store(folder / "state") as store:
        logged = {each.decision.request.request_id: each for each in store.requests}
    for answer in answers:
        assert list(logged[answer["request_id"]].asked) == answer["queried"]
        assert logged[answer["request_id"]].satisfied == 1.0
    assert max(len(answer["queried"]) for answer in answers) > 1


def test_a_chat_asks_several_models_and_remembers_the_shown_answer_alone(folder):
    code, out, err = ended(started(folder, "chat", "--asks", "3", "--json", lines="hello\n/good\nhow are you?\n"))
    assert code == 0, err
    turns = [json.loads(line) for line in out.splitlines()]
    assert len(turns) == 2
    assert len(turns[0]["queried"]) > 1
    assert turns[0]["answer"] == f"{turns[0]['model']} says 5"
    assert_sound(folder / "state", 2)


def test_log_and_status_tell_how_many_models_were_asked(folder):
    answer = asked(folder, "What is 1 + 1?")
    assert len(answer["queried"]) > 1
    _, out, _ = ended(started(folder, "log"))
    assert f"{answer['model']} ({len(answer['queried'])} asked)" in out
    (document,) = json.loads(ended(started(folder, "log", "--json"))[1])
    assert document["asked"] == answer["queried"]
    assert {each["logprob"] for each in document["answers"].values()} == {-0.5}
    assert json.loads(ended(started(folder, "status", "--json"))[1])["asks"] == len(answer["queried"])
    assert f"{len(answer['queried'])}.00 models per request" in ended(started(folder, "status"))[1]


def test_an_export_is_read_by_validate_replay_and_evaluate(folder):
    for at in range(6):
        asked(folder, f"What is {at} + 1?", "--expect", "says")
    for command in (
        ("export", "-o", "live.parquet"),
        ("trace", "validate", "live.parquet"),
        ("replay", "live.parquet", "--policy", "logged"),
        ("evaluate", "live.parquet", "--policy", "always:small"),
    ):
        code, _, err = ended(started(folder, *command))
        assert code in (0, 1), err
        assert "Traceback" not in err
