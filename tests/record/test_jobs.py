"""Several prompts at once: the same trace, stored answer by answer, whatever the number of requests."""

import json
import signal
import subprocess
import threading
import time

import pytest
from live_making import MESSCTL, process
from recordings import COST, METER, answers, recorded, rows, spec
from servers import misbehaving, streamed

from messctl.backends import Scripted
from messctl.errors import BackendError
from messctl.record.jobs import results
from messctl.record.journal import Journal, journal_path
from messctl.record.prompts import Prompt
from messctl.record.recorder import Plan, record
from messctl.zoo import ModelSpec

LONGEST_WAIT_S = 20


def served(name):
    return ModelSpec(name, url="http://127.0.0.1:9/v1", cost=COST)


def plan_of(n, *models, grade=None):
    prompts = [Prompt(f"r{number}", f"question {number}", (str(number % 3),)) for number in range(n)]
    by_reference = lambda prompt, answer: float(answer in prompt.references)  # noqa: E731
    return Plan(prompts, models, "exact", grade or by_reference)


def written(plan, path, jobs, answering=answers):
    with Journal(journal_path(path), plan.terms(METER)) as journal:
        record(plan, Scripted(answering, logprob=-0.5), METER, journal, jobs=jobs)
        return list(journal.outcomes())


@pytest.mark.parametrize("jobs", [1, 2, 7, 64])
def test_any_number_of_jobs_gives_the_same_trace(tmp_path, jobs):
    plan = plan_of(40, served("a"), spec("b"))
    recorded(plan, tmp_path / "whole")

    def slower_for_early_ones(model, question):
        time.sleep(0.002 if question.prompt.endswith("0") else 0.0)
        return answers(model, question)

    found = written(plan, tmp_path / "t", jobs, slower_for_early_ones)
    assert [(number, model) for number, model, _, _ in found] == [(n, m) for n in range(40) for m in "ab"]
    recorded(plan, tmp_path / "t")
    assert rows(tmp_path / "t") == rows(tmp_path / "whole")


def test_a_server_gets_as_many_prompts_at_once_as_there_are_jobs(tmp_path):
    together = threading.Barrier(3)

    def answering(model, question):
        together.wait(LONGEST_WAIT_S)  # breaks if fewer than three ask at once
        return answers(model, question)

    written(plan_of(9, served("a")), tmp_path / "t", 3, answering)


def test_a_model_on_this_machine_answers_one_prompt_at_a_time(tmp_path):
    threads = set()

    def answering(model, question):
        threads.add(threading.current_thread())
        return answers(model, question)

    written(plan_of(9, spec("a"), spec("b")), tmp_path / "t", 4, answering)
    assert threads == {threading.current_thread()}


def test_no_more_prompts_are_under_way_than_there_are_jobs():
    running, most = [], []

    def work(item):
        running.append(item)
        most.append(len(running))
        time.sleep(0.001)
        running.remove(item)
        return -item

    assert sorted(results(work, range(30), 4)) == [(item, -item) for item in range(30)]
    assert max(most) <= 4


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_error_of_the_work_is_raised_and_ends_it(jobs):
    done = []

    def work(item):
        if item == 5:
            raise ZeroDivisionError
        done.append(item)
        return item

    with pytest.raises(ZeroDivisionError):
        list(results(work, range(1000), jobs))
    assert len(done) < 20


@pytest.mark.parametrize("stops", [1, 10, 25])
def test_an_interrupted_recording_with_jobs_resumes_without_losing_a_row(tmp_path, stops):
    plan = plan_of(30, served("a"), served("b"))
    recorded(plan, tmp_path / "whole")
    asked = []

    def counted(model, question):
        asked.append(question)
        if len(asked) == stops:
            raise KeyboardInterrupt
        return answers(model, question)

    with pytest.raises(KeyboardInterrupt):
        written(plan, tmp_path / "t", 4, counted)
    written(plan, tmp_path / "t", 4, counted)
    assert len(asked) <= plan.answers + 4  # only those that were under way are asked again
    recorded(plan, tmp_path / "t")
    assert rows(tmp_path / "t") == rows(tmp_path / "whole")


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_failing_judge_and_a_server_that_never_answers_end_a_recording_with_jobs(tmp_path, jobs):
    def failing(_prompt, _answer):
        raise BackendError("the judge is down")

    with pytest.raises(BackendError, match="the judge is down"):
        written(plan_of(9, served("a"), grade=failing), tmp_path / "judged", jobs)

    def gone(_model, _question):
        raise BackendError("is gone")

    with pytest.raises(BackendError, match="is gone"):
        written(plan_of(9, served("a")), tmp_path / "t", jobs, gone)


@pytest.fixture
def server(tmp_path):
    """A server that takes 20 ms for an answer, its zoo, and 60 prompts."""

    def slowly(handler):
        time.sleep(0.02)
        handler.answer(streamed("42"))

    with misbehaving(slowly) as running:
        cost = "cost: {unit: USD, prompt: 1, generated: 1}"
        (tmp_path / "zoo.yaml").write_text(f"models:\n- {{name: m, url: '{running.url}', {cost}}}\n")
        lines = (json.dumps({"prompt": f"question {n}", "reference": ["42", "forty-two"]}) + "\n" for n in range(60))
        (tmp_path / "p.jsonl").write_text("".join(lines))
        yield running


@pytest.mark.slow
def test_a_recording_with_jobs_that_is_killed_again_and_again_is_complete_in_the_end(tmp_path, server):
    command = ["record", tmp_path / "p.jsonl", "--zoo", tmp_path / "zoo.yaml", "--grader", "exact", "--jobs", "4"]
    whole, parts = tmp_path / "whole.parquet", tmp_path / "parts.parquet"
    assert process(*command, "-o", whole).returncode == 0
    server.requests.clear()
    journal, kills = journal_path(parts), 0
    while not parts.exists():
        with subprocess.Popen([*MESSCTL, *command, "-o", parts, "--resume"], stderr=subprocess.PIPE) as running:
            begun = len(server.requests)
            while running.poll() is None and (kills == 4 or len(server.requests) < begun + 10):
                time.sleep(0.005)
            if running.poll() is None:
                running.send_signal(signal.SIGKILL)
                kills += 1
        assert parts.exists() or journal.exists()
    assert kills == 4
    assert rows(parts) == rows(whole)
    assert len(server.requests) <= 60 + kills * 8


@pytest.mark.slow
def test_ctrl_c_ends_a_recording_with_jobs_in_one_line(tmp_path, server):
    command = ["record", tmp_path / "p.jsonl", "--zoo", tmp_path / "zoo.yaml", "--grader", "exact", "--jobs", "4"]
    with subprocess.Popen([*MESSCTL, *command, "-o", tmp_path / "t.parquet"], stderr=subprocess.PIPE) as running:
        while len(server.requests) < 10:
            time.sleep(0.005)
        running.send_signal(signal.SIGINT)
        said = running.stderr.read().decode()
    assert running.returncode == 130
    assert "interrupted; " in said
    assert said.count("\n") == 1
