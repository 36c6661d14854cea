"""Recording a whole zoo over a prompt file, with scripted backends and with real models in llama.cpp."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace

import backends_files
import numpy as np
import pyarrow.parquet as pq
import pytest
from live_making import MESSCTL, assert_one_line, process, zoo_of
from recordings import COST, METER, answers, plan_of, recorded, rows, spec

from messctl.backends import LlamaCpp, Scripted
from messctl.cli import run
from messctl.errors import BackendError, GradeError, OutputError, PromptError, RefusedError, UsageError
from messctl.record.journal import Journal, difference, journal_path
from messctl.record.judge import Judge
from messctl.record.recorder import CHUNK, DOUBTFUL, LOST, Plan, record, seed_of, write_trace
from messctl.records import Question
from messctl.trace import Outcome, TraceFile
from messctl.zoo import ModelSpec, load_zoo


def test_every_answer_becomes_an_outcome(tmp_path):
    path = tmp_path / "t.parquet"
    tallies = recorded(plan_of(CHUNK + 10), path)
    assert [prompt["request_id"] for prompt in rows(path)] == [f"r{number}" for number in range(CHUNK + 10)]
    first, second = rows(path)[:2]
    assert (first["satisfied/a"], first["satisfied/b"]) == (1.0, 0.0)
    assert (second["answer/b"], second["satisfied/b"], second["logprob/b"]) == ("1", 1.0, -0.5)
    assert second["cost/a"] == 2 * 1.0 + 1 * 2.0
    assert tallies["a"].satisfied == 1.0
    assert tallies["b"].satisfied == 0.5
    assert TraceFile(path).metadata.extra["recorded"]["grader"] == "exact"
    assert os.listdir(tmp_path) == ["t.parquet"]


@pytest.mark.parametrize("stops", [1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
def test_an_interrupted_recording_resumes_without_losing_or_repeating_a_row(tmp_path, stops):
    plan, whole, parts = plan_of(CHUNK + 20), tmp_path / "whole.parquet", tmp_path / "parts.parquet"
    recorded(plan, whole)
    requests = []

    def counted(model, question):
        requests.append((model.name, question.prompt))
        if len(requests) == stops:
            raise KeyboardInterrupt
        return answers(model, question)

    with pytest.raises(KeyboardInterrupt), Journal(journal_path(parts), plan.terms(METER)) as journal:
        record(plan, Scripted(counted, logprob=-0.5), METER, journal)
    recorded(plan, parts, Scripted(counted, logprob=-0.5))
    assert rows(parts) == rows(whole)
    assert len(requests) == plan.answers + 1  # the interrupted answer is requested again


def test_a_failed_answer_is_null_and_counted(tmp_path):
    def answering(model, question):
        if model.name == "b" and question.prompt.endswith("4"):
            raise BackendError("too long")
        return answers(model, question)

    tallies = recorded(plan_of(20), tmp_path / "t.parquet", Scripted(answering))
    assert (tallies["b"].answered, tallies["b"].failed, tallies["b"].failure) == (18, 2, "too long")
    assert [row["request_id"] for row in rows(tmp_path / "t.parquet") if row["cost/b"] is None] == ["r4", "r14"]


def test_a_model_that_never_answers_ends_the_recording(tmp_path):
    plan = plan_of(20)
    with pytest.raises(BackendError, match="gone"), Journal(tmp_path / "j", plan.terms(METER)) as journal:
        record(plan, Scripted(answers, failures={"b": "gone"}), METER, journal)
    for _ in range(2):  # a resumed recording fails again
        with Journal(tmp_path / "j", plan.terms(METER)) as journal:
            assert journal.count() == 20
            with pytest.raises(BackendError, match="gone"):
                record(plan, Scripted(answers, failures={"b": "gone"}), METER, journal)


@pytest.mark.parametrize("prompts", [1, 2])
def test_a_model_that_answers_none_of_few_prompts_ends_the_recording(tmp_path, prompts):
    plan = plan_of(prompts)
    with pytest.raises(BackendError, match="gone"), Journal(tmp_path / "j", plan.terms(METER)) as journal:
        record(plan, Scripted(answers, failures={"b": "gone"}), METER, journal)
    with Journal(tmp_path / "j", plan.terms(METER)) as journal:
        assert journal.count() == prompts


def test_timeouts_and_isolation_are_no_terms_of_a_recording(tmp_path):
    plan = plan_of(2)
    slower = replace(plan, models=[replace(model, isolate=True, timeout_s=600.0) for model in plan.models])
    assert slower.terms(METER) == plan.terms(METER)
    warmer = replace(plan, models=[replace(model, temperature=2.0) for model in plan.models])
    assert warmer.terms(METER) != plan.terms(METER)


def test_prompts_that_are_too_long_do_not_end_the_recording(tmp_path):
    def answering(model, question):
        if int(question.prompt.split()[1]) < 9:
            raise PromptError("too long")
        return answers(model, question)

    tallies = recorded(plan_of(20), tmp_path / "t.parquet", Scripted(answering))
    assert (tallies["b"].answered, tallies["b"].failed) == (11, 9)


@pytest.mark.parametrize("lost", [LOST - 1, LOST])
def test_a_model_that_stops_answering_is_retried_when_it_is_back(tmp_path, lost):
    plan, requests = plan_of(60), []

    def answering(model, question):
        requests.append(question.prompt)
        if 70 <= len(requests) < 70 + lost:
            raise BackendError("is down")
        return answers(model, question)

    with Journal(tmp_path / "j", plan.terms(METER)) as journal:
        if lost == LOST:
            with pytest.raises(BackendError, match="is down"):
                record(plan, Scripted(answering), METER, journal)
            assert journal.count() == 69
        record(plan, Scripted(answering), METER, journal)
        tallies = write_trace(plan, METER, journal, tmp_path / "t", "a test")
    assert tallies["b"].failed == (0 if lost == LOST else lost)


def test_a_failing_judge_ends_the_recording_but_an_unreadable_answer_stays_ungraded(tmp_path):
    def failing(_prompt, _answer):
        raise BackendError("the judge is down")

    plan = plan_of(5, grade=failing)
    with Journal(tmp_path / "j", plan.terms(METER)) as journal:
        with pytest.raises(BackendError, match="the judge is down"):
            record(plan, Scripted(answers), METER, journal)
        assert journal.count() == 0

    def too_long(_model, _question):
        raise PromptError("too long")

    def refused(_model, _question):
        raise RefusedError("no")

    for unable in (too_long, refused):
        judge = Judge(spec("a"), Scripted(unable))
        assert judge.grade("q", ("r",), "answer") is None
        assert (judge.unread, judge.undecided) == (1, 0)


def test_a_grader_that_accepts_nothing_causes_one_warning(tmp_path):
    warnings = []
    for n, times in ((DOUBTFUL - 1, 0), (DOUBTFUL, 1), (3 * CHUNK, 1)):
        plan = plan_of(n, ["a"], grade=lambda _prompt, _answer: 0.0)
        with Journal(tmp_path / f"j{n}", plan.terms(METER)) as journal:
            record(plan, Scripted(answers), METER, journal, on_warning=warnings.append)
        assert len(warnings) == times
        assert all(f"accepted none of {DOUBTFUL} answers" in warning for warning in warnings)
        warnings.clear()
    plan = plan_of(DOUBTFUL, grade=lambda _prompt, _answer: None)
    with Journal(tmp_path / "none", plan.terms(METER)) as journal:
        record(plan, Scripted(answers), METER, journal, on_warning=warnings.append)
    assert warnings == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed (0, not 1)"),
        ({"grading": "contains"}, 'grader ("exact", not "contains")'),
        ({"prompts": plan_of(5).prompts}, "prompts ("),
        ({"models": [spec("a")]}, "models.b ("),
        ({"judge": spec("a")}, "judge (null, not"),
    ],
)
def test_a_recording_does_not_resume_under_other_terms(tmp_path, change, message):
    plan = plan_of(6)
    with Journal(tmp_path / "j", plan.terms(METER)):
        pass
    with pytest.raises(UsageError) as raised, Journal(tmp_path / "j", replace(plan, **change).terms(METER)):
        pass
    assert message in str(raised.value)
    assert difference(plan.terms(METER), plan.terms(METER)) == "nothing"


@pytest.mark.parametrize(("first", "last"), [(0, 1), (2_000_000, 2_000_001), (900_000, 1_100_000)])
def test_a_changed_model_file_of_the_same_size_is_noticed(tmp_path, first, last):
    file = tmp_path / "m.gguf"
    data = bytearray(2_000_001)
    file.write_bytes(data)
    plan = Plan([], [ModelSpec("m", file, cost=COST)], "exact", lambda _prompt, _answer: None)
    before = plan.terms(METER)
    data[first:last] = b"x" * (last - first)
    file.write_bytes(data)
    assert "models.m.sampled" in difference(before, plan.terms(METER))


def test_a_journal_can_be_used_by_one_process_only(tmp_path):
    with Journal(tmp_path / "j", {}), pytest.raises(OutputError, match="another recording uses this journal"):
        Journal(tmp_path / "j", {})


def test_a_file_that_is_no_journal_is_refused(tmp_path):
    (tmp_path / "j").write_bytes(b"not a database, but something else" * 100)
    with pytest.raises(OutputError, match="not a database"):
        Journal(tmp_path / "j", {})


def test_outcomes_are_read_as_they_were_stored(tmp_path):
    outcome = Outcome(0.1, 1 / 3, 0.2, 3, 4, "ä\n\u2028'\x00", -1e-17)
    with Journal(tmp_path / "j", {}) as journal:
        journal.add(1, "b", outcome, None)
        journal.add(0, "a", None, "why")
        assert list(journal.outcomes()) == [(0, "a", None, "why"), (1, "b", outcome, None)]
        assert (journal.done("b", range(2)), journal.done("b", range(1)), journal.count()) == ({1}, set(), 2)


def test_the_seed_of_an_answer_depends_on_seed_request_and_model():
    seeds = {seed_of(seed, request, model) for seed in range(3) for request in "abc" for model in "xyz"}
    assert len(seeds) == 27
    assert seed_of(0, "a", "x") == seed_of(0, "a", "x")
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize(
    ("reply", "verdict", "undecided"),
    [("Yes", 1.0, 0), ("no.", 0.0, 0), ("**YES**", 1.0, 0), ("No, yes", 0.0, 0), ("Yesterday", 0.0, 1)],
)
def test_the_judge_s_reply_is_read_as_yes_or_no(reply, verdict, undecided):
    requests = []

    def replying(_model, question):
        requests.append(question)
        return reply

    judge = Judge(spec("a"), Scripted(replying))
    assert judge.grade("What is {2}?", ("4", "vier"), "four {answer}") == verdict
    assert judge.undecided == undecided
    for text in ("What is {2}?", "4\nor\nvier", "four {answer}"):
        assert text in requests[0].prompt
    assert requests[0].temperature == 0.0
    assert judge.grade("q", ("r",), " ") == 0.0
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("reply", "verdict", "silent", "asked"),
    [
        (f"<think>{'no ' * 20}</think>\n\nyes", 1.0, 0, 2),
        ("<think>no</think>yes", 1.0, 0, 1),
        (f"Let me say it: {'well, ' * 20} no", 0.0, 0, 2),
        (f"<think>{'yes ' * 1000}", None, 1, 2),
        ("<think>yes</think>", None, 1, 1),
        ("", None, 1, 1),
    ],
)
def test_a_judge_that_thinks_gets_the_tokens_for_it_and_an_empty_reply_is_no_grade(reply, verdict, silent, asked):
    limits = []

    def replying(_model, question):
        limits.append(question.max_tokens)
        return reply

    judge = Judge(spec("a"), Scripted(replying))
    assert (judge.grade("q", ("r",), "answer"), judge.silent, judge.undecided) == (verdict, silent, 0)
    assert limits == [8, None][:asked]


def test_the_log_probability_equals_that_of_llama_cpp_python():
    """The reference is llama-cpp-python's own class, which stores the logits of every position."""
    import llama_cpp

    model = spec("nano-109k")
    own = llama_cpp.Llama(str(model.path), n_ctx=256, logits_all=True, verbose=False)
    with LlamaCpp() as backend:
        for prompt in ("What is 17 + 25?", "Reverse the word stone."):
            got = backend.complete(model, Question(prompt, temperature=0.0, logprob=True))
            assert backend.complete(model, Question(prompt, temperature=0.0)).logprob is None
            text = backend._prompt(backend._loaded(model)[0], model, Question(prompt)).text
            tokens = own.tokenize(text.encode(), add_bos=False, special=True)
            own.reset()
            own.eval(tokens)
            drawn, sure = [], []
            for _ in range(got.tokens_out):
                logits = np.array(own.scores[own.n_tokens - 1], dtype=np.float64)
                drawn.append(int(logits.argmax()))
                sure.append(logits.max() - np.logaddexp.reduce(logits))
                own.eval([drawn[-1]])
            assert own.detokenize(drawn[:-1]).decode().strip() == got.answer.strip()
            assert got.logprob == pytest.approx(np.mean(sure), abs=2e-3)
            assert got.logprob < 0
    own.close()


@pytest.fixture
def puzzles(tmp_path):
    pairs = [(left, right) for left in range(4) for right in range(5)]
    lines = [{"prompt": f"What is {left} + {right}?", "reference": str(left + right)} for left, right in pairs]
    path = tmp_path / "puzzles.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_recorded_trace_can_be_validated_and_replayed(puzzles, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ["record", str(puzzles), "-o", "t.parquet", "--grader", "exact"]
    assert run([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["requests"], document["skipped"], document["cost_unit"]) == (20, [], "J")
    models = document["models"]
    assert models["mini-1m"]["satisfied"] > models["pico-34k"]["satisfied"]
    assert models["mini-1m"]["answered"] == 20
    first = rows("t.parquet")
    assert all(row["logprob/mini-1m"] < 0 for row in first)
    assert run(["trace", "validate", "t.parquet"]) == 0
    assert run(["replay", "t.parquet", "--alpha", "0.5", "--require-sla"]) in (0, 1)
    capsys.readouterr()
    assert run([*command, "--overwrite"]) == 0
    assert "t.parquet: 20 requests, 4 models" in capsys.readouterr().out
    assert rows("t.parquet") == first


def test_the_same_seed_gives_the_same_answers(puzzles, tmp_path, capsys):
    zoo = tmp_path / "zoo.yaml"
    zoo.write_text(
        "defaults: {temperature: 5, max_tokens: 8, n_ctx: 0}\nmodels:\n"
        + "".join(f"- {{name: {name}, path: 'box:{name}.gguf'}}\n" for name in ("pico-34k", "nano-109k"))
    )
    command = ["record", str(puzzles), "--grader", "exact", "--zoo", str(zoo), "-o"]
    for name, more in (("a", []), ("b", []), ("c", ["--seed", "1"]), ("d", ["--model", "nano-109k"])):
        assert run([*command, str(tmp_path / name), *more]) == 0
    capsys.readouterr()
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert rows(tmp_path / "a") != rows(tmp_path / "c")
    drawn = [[row["answer/nano-109k"] for row in rows(tmp_path / name)] for name in "ad"]
    assert drawn[0] == drawn[1]  # with or without other models


BAD = [
    ([], "give --grader exact"),
    (["--grader", "exakt"], "did you mean 'exact'"),
    (["--grader", "judge"], "--judge MODEL go together"),
    (["--grader", "exact", "--judge", "mini-1m"], "--judge MODEL go together"),
    (["--grader", "judge", "--judge", "mini"], "unknown model 'mini'"),
    (["--grader", "exact", "--model", "mini"], "unknown model 'mini'"),
    (["--grader", "exact", "--resume", "--overwrite"], "choose one"),
    (["--grader", "choice"], "line 1, column 'reference': the reference '0' is no option letter"),
    (["--grader", "exact", "-o", "no/t.parquet"], "the folder no does not exist"),
    (["--grader", "exact", "-o", "PUZZLES"], "is read by the same command"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_usage_prints_one_line_and_writes_nothing(puzzles, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    arguments = [str(puzzles) if argument == "PUZZLES" else argument for argument in arguments]
    code = run(["record", str(puzzles), "-o", "t.parquet", *arguments])
    assert message in assert_one_line(code, *capsys.readouterr())
    assert os.listdir(tmp_path) == ["puzzles.jsonl"]


def test_an_existing_trace_or_journal_is_replaced_only_with_overwrite(puzzles, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["record", str(puzzles), "-o", "t.parquet", "--grader", "exact", "--model", "pico-34k"]
    (tmp_path / "t.parquet").write_text("precious")
    for more, message in (([], "exists already"), (["--resume"], "not a Parquet file")):
        assert message in assert_one_line(run([*command, *more]), *capsys.readouterr())
    assert (tmp_path / "t.parquet").read_text() == "precious"
    assert run([*command, "--overwrite"]) == 0
    with Journal(journal_path(tmp_path / "t.parquet"), {}):
        pass
    capsys.readouterr()
    assert "was interrupted; add --resume" in assert_one_line(run(command), *capsys.readouterr())
    assert "started with another" in assert_one_line(run([*command, "--resume"]), *capsys.readouterr())
    assert run([*command, "--overwrite"]) == 0
    assert sorted(os.listdir(tmp_path)) == ["puzzles.jsonl", "t.parquet"]


def test_a_finished_recording_is_resumed_by_doing_nothing(puzzles, tmp_path, monkeypatch, capsys, document):
    monkeypatch.chdir(tmp_path)
    command = ["record", str(puzzles), "-o", "t.parquet", "--grader", "exact", "--model", "pico-34k", "--limit", "5"]
    first = document(*command)
    before = (tmp_path / "t.parquet").read_bytes()
    again = document(*command, "--resume")
    assert (first.pop("resumed_from"), again.pop("resumed_from")) == (0, 5)
    assert again == first
    assert run([*command, "--resume"]) == 0
    assert capsys.readouterr().out.endswith("it was complete, so nothing was left to record\n")
    for change, message in (
        (["--seed", "1"], "t.parquet: was recorded with another seed (0, not 1); use the same again, or --overwrite"),
        (["--grader", "contains"], "another grader"),
        (["--limit", "6"], "another prompts"),
    ):
        assert message in assert_one_line(run([*command, "--resume", *change]), *capsys.readouterr())
    assert run(["import", "routerdc", str(scores(tmp_path)), "-o", "other.parquet"]) == 0
    capsys.readouterr()
    other = [*command[:2], "-o", "other.parquet", *command[4:], "--resume"]
    assert "is not a recording" in assert_one_line(run(other), *capsys.readouterr())
    assert (tmp_path / "t.parquet").read_bytes() == before


def scores(folder):
    path = folder / "scores.json"
    path.write_text('[{"question": "q", "scores": {"pico-34k": 1}}]')
    return path


def test_the_table_says_what_its_columns_are(puzzles, tmp_path, capsys):
    command = ["record", str(puzzles), "-o", str(tmp_path / "t"), "--grader", "exact", "--model", "pico-34k"]
    assert run(command) == 0
    heading, _, means, _ = capsys.readouterr().out.splitlines()
    assert heading.split() == ["model", "answers", "empty", "failed", "satisfied", "cost,", "J", "time,", "ms"]
    assert means == "cost and time are means per answer, from the request to the last token, without loading the model"


@pytest.mark.parametrize(
    ("grader", "satisfied", "named"),
    [("numeric", 1.0, "numeric"), ("exact", 0.0, "exact"), ("contains", 1.0, "contains")],
)
def test_the_grader_that_the_zoo_names_compares_with_the_references(tmp_path, document, grader, satisfied, named):
    zoo = zoo_of(tmp_path, "says")
    backends_files.write_gguf(tmp_path / "says.gguf", backends_files.says(b"42 km"))
    zoo.write_text(f"{zoo.read_text()}grader: {grader}\n")
    (tmp_path / "p.jsonl").write_text('{"prompt": "x", "reference": ["41", "42"]}\n')
    found = document("record", str(tmp_path / "p.jsonl"), "--zoo", str(zoo), "-o", str(tmp_path / "t"))
    assert (found["grader"], found["models"]["says"]["satisfied"]) == (named, satisfied)


def test_recording_with_the_grader_of_the_zoo_or_none_and_with_bad_lines_skipped(puzzles, tmp_path, capsys):
    zoo = zoo_of(tmp_path, "says")
    backends_files.write_gguf(tmp_path / "says.gguf", backends_files.says(b"ok"))
    zoo.write_text(zoo.read_text() + "grader: '^ok$'\n")
    puzzles.write_text(puzzles.read_text() + "{\n")
    command = ["record", str(puzzles), "--zoo", str(zoo), "--json", "-o"]
    assert "line 21: is not JSON" in assert_one_line(run([*command, str(tmp_path / "a")]), *capsys.readouterr())
    assert run([*command, str(tmp_path / "a"), "--skip-bad", "--limit", "5"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["requests"], len(document["skipped"])) == (5, 1)
    assert document["models"]["says"]["satisfied"] == 1.0
    assert document["grader"] == "zoo ^ok$"
    assert run([*command, str(tmp_path / "b"), "--skip-bad", "--grader", "none"]) == 0
    assert json.loads(capsys.readouterr().out)["models"]["says"]["satisfied"] is None
    assert {row["satisfied/says"] for row in rows(tmp_path / "b")} == {None}


def test_a_model_of_the_zoo_can_be_the_judge(puzzles, tmp_path, capsys):
    zoo = zoo_of(tmp_path, "player", "judge", defaults="max_tokens: 8, n_ctx: 512, temperature: 0")
    backends_files.write_gguf(tmp_path / "player.gguf", backends_files.says(b"42"))
    backends_files.write_gguf(tmp_path / "judge.gguf", backends_files.says(b"yes"), n_ctx=512)
    command = ["record", str(puzzles), "--zoo", str(zoo), "--model", "player", "--grader", "judge", "--judge", "judge"]
    assert run([*command, "-o", str(tmp_path / "t"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["models"]["player"]["satisfied"] == 1.0
    assert document["grader"] == "judge judge"


def test_a_model_that_cannot_be_loaded_prints_one_line(puzzles, tmp_path, capsys):
    zoo = zoo_of(tmp_path, "gone")
    line = assert_one_line(
        run(["record", str(puzzles), "--zoo", str(zoo), "--grader", "exact", "-o", str(tmp_path / "t")]),
        *capsys.readouterr(),
    )
    assert "there is no such model file" in line
    assert "0 of 20 answers are stored" in line


def test_a_recording_resumes_after_the_zoo_entry_of_a_silent_model_was_corrected(puzzles, tmp_path, capsys):
    zoo = zoo_of(tmp_path, "first", "gone")
    backends_files.write_gguf(tmp_path / "first.gguf", backends_files.says(b"1"))
    command = ["record", str(puzzles), "--zoo", str(zoo), "--grader", "exact", "-o", str(tmp_path / "t"), "--json"]
    assert "20 of 40 answers are stored" in assert_one_line(run(command), *capsys.readouterr())
    backends_files.write_gguf(tmp_path / "there.gguf", backends_files.says(b"2"))
    zoo.write_text(zoo.read_text().replace("gone.gguf", "there.gguf"))
    assert run([*command, "--resume", "--limit", "20"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["resumed_from"] == 20
    assert {name: model["answered"] for name, model in document["models"].items()} == {"first": 20, "gone": 20}
    assert TraceFile(tmp_path / "t").metadata.extra["recorded"]["models"]["gone"]["path"] == "there.gguf"


def start(arguments, folder):
    return subprocess.Popen([*MESSCTL, *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def many(tmp_path, count):
    pairs = [(n % 97, n % 89) for n in range(count)]
    lines = [{"prompt": f"What is {left} + {right}?", "reference": str(left + right)} for left, right in pairs]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ["record", "many.jsonl", "--grader", "exact", "--model", "pico-34k", "--model", "nano-109k", "-o"]


def stored_answers(journal):
    """Return the number of answers in a journal while no process writes to it."""
    if not journal.exists():
        return 0
    with closing(sqlite3.connect(journal)) as database:
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master")}
        return database.execute("SELECT count(*) FROM answers").fetchone()[0] if "answers" in tables else 0


@pytest.mark.slow
def test_a_recording_killed_twenty_times_and_resumed_equals_an_uninterrupted_one(tmp_path):
    """It is killed at random instants: while it starts, while it works and while it writes the trace."""
    command, started = many(tmp_path, 4000), time.monotonic()
    assert process(*command, "whole.parquet", cwd=tmp_path).returncode == 0
    longest = 0.22 * (time.monotonic() - started)  # twenty such pieces are too few, even on a busy machine
    coin, parts, cut = np.random.default_rng(), tmp_path / "parts.parquet", []
    journal = journal_path(parts)
    while len(cut) < 20:
        before = stored_answers(journal)
        running = start([*command, "parts.parquet", *(["--resume"] if journal.exists() else [])], tmp_path)
        time.sleep(coin.uniform(0, longest))
        running.send_signal(signal.SIGKILL)
        stderr = running.communicate()[1]
        if parts.exists() and not journal.exists():  # it finished before it was killed: start again
            assert running.returncode in (0, -signal.SIGKILL), stderr
            assert rows(parts) == rows(tmp_path / "whole.parquet")
            parts.unlink()
            continue
        assert running.returncode == -signal.SIGKILL, stderr
        cut.append(stored_answers(journal))
        assert cut[-1] >= before
    assert 0 < max(cut) <= 8000
    assert process(*command, "parts.parquet", "--resume", cwd=tmp_path).returncode == 0
    assert rows(parts) == rows(tmp_path / "whole.parquet")
    there = {
        name for name in os.listdir(tmp_path) if not name.endswith(".part")
    }  # left by a process killed while writing
    assert there == {"many.jsonl", "parts.parquet", "whole.parquet"}


def test_ctrl_c_stores_the_answers_so_far_and_says_how_to_resume(tmp_path):
    command, journal = many(tmp_path, 3000), journal_path(tmp_path / "t.parquet")
    code = (
        "import signal; from messctl.__main__ import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "main()"
    )
    whole, pipes = [sys.executable, "-c", code, *command, "t.parquet"], {"stdout": -1, "stderr": -1}
    with subprocess.Popen(whole, cwd=tmp_path, **pipes) as running:
        written = journal.with_name(f"{journal.name}-wal")
        while running.poll() is None and not (written.exists() and written.stat().st_size > 200_000):
            time.sleep(0.01)  # each answer is a page of 4 kB or more, and its tables are a few pages
        running.send_signal(signal.SIGINT)
        out, err = running.communicate()
    assert "continue with --resume" in assert_one_line(running.returncode, out, err, 130)
    assert 0 < stored_answers(journal) < 6000
    assert not (tmp_path / "t.parquet").exists()


@pytest.mark.slow
def test_the_packaged_trace_can_be_recorded_again(root, tmp_path, capsys):
    """The trace is recorded again from its own prompts. Another processor may round a few answers differently."""
    stored = pq.read_table(root / "traces" / "box.parquet").slice(0, 150).to_pylist()
    lines = [{name: row[name] for name in ("request_id", "prompt", "source")} for row in stored]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    zoo, again = root / "zoo.yaml", tmp_path / "again.parquet"
    assert run(["record", str(tmp_path / "p.jsonl"), "-o", str(again), "--grader", "none", "--zoo", str(zoo)]) == 0
    capsys.readouterr()
    for model in load_zoo(zoo).names:
        pairs = list(zip(stored, pq.read_table(again).to_pylist(), strict=True))
        same = [(one[f"answer/{model}"], one[f"cost/{model}"]) for one, other in pairs if one == one | _but_time(other)]
        assert len(same) >= 0.95 * len(pairs)


def _but_time(row):
    compared = ("answer/", "cost/", "tokens_", "request_id", "prompt")
    return {name: value for name, value in row.items() if name.startswith(compared)}


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_answer_that_cannot_be_graded_is_stored_without_a_grade_and_warned_of_once(jobs, tmp_path):
    told = []

    def grade(prompt, answer):
        if prompt.prompt.endswith("4"):
            raise GradeError("it takes too long")
        return 1.0

    plan = replace(plan_of(20), grade=grade)
    with Journal(tmp_path / "j", plan.terms(METER)) as journal:
        record(plan, Scripted(answers), METER, journal, on_warning=told.append, jobs=jobs)
        tallies = write_trace(plan, METER, journal, tmp_path / "t.parquet", "a test")
    assert told == ["an answer has no grade: it takes too long"]
    ungraded = [row["request_id"] for row in rows(tmp_path / "t.parquet") if row["satisfied/a"] is None]
    assert ungraded == ["r4", "r14"]
    assert (tallies["a"].answered, tallies["a"].satisfied) == (20, 1.0)
