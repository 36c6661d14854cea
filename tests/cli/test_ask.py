"""`messctl ask`: prompts, options and grades, with the models in the box and llama.cpp."""

import codecs
import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from backends_files import write_gguf
from live_making import MESSCTL, STATED, assert_one_line, assert_sound, process, typed, zoo_of

from messctl.backends import Scripted
from messctl.cli import run
from messctl.errors import BackendError
from messctl.records import Question
from messctl.state.store import Store
from messctl.zoo import PACKAGED_FILE, load_zoo

pytestmark = pytest.mark.usefixtures("state")

pytest.importorskip("llama_cpp")
SUM = "What is 17 + 25?"
KEYS = [
    "version", "request_id", "answer", "model", "explored", "cost", "cost_unit", "meter", "cost_quality", "tokens_in",
    "tokens_out", "latency_s", "load_s", "finish", "thinking", "satisfied", "attained", "judged", "queue",
    "certificate", "alpha", "queried", "believed", "forced", "propensity", "failures", "attempts",
]  # fmt: skip


@pytest.fixture
def ask(capsys):
    """Runs `messctl ask`, and returns the JSON document."""

    def run_ask(*arguments, code=0):
        assert run(["ask", *arguments, "--json"]) == code
        out, err = capsys.readouterr()
        assert err == ""
        return json.loads(out)

    return run_ask


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    """Two scripted models in ./zoo.yaml, of which one is right. Returns the list of their questions."""
    questions = []

    def answer(model, question):
        questions.append(question)
        return "forty-two" if model.name == "dear" else "no idea"

    (tmp_path / "zoo.yaml").write_text(STATED)
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: Scripted(answer))
    return questions


PROMPTS = [
    ([SUM], b"", SUM),
    ([], b"What is 17 + 25?\n", SUM),
    (["Reverse the word"], b"stone\n", "Reverse the word\n\nstone"),
    ([f"  {SUM} "], b" \n", SUM),
    ([], "Größe 🙂\r\n".encode(), "Größe 🙂"),
    ([], b"a\0b \xff", "a\0b �"),
    ([], codecs.BOM_UTF8 + b"What is 17 + 25?\r\n", SUM),
    ([], "\ufeffGröße 🙂\r\n".encode("utf-16-le"), "Größe 🙂"),
    ([], "\ufeffGröße 🙂\r\n".encode("utf-16-be"), "Größe 🙂"),
    ([], "\ufeffGröße 🙂\r\n".encode("utf-32-le"), "Größe 🙂"),
    (["Say"], codecs.BOM_UTF8 + b"stone\n", "Say\n\nstone"),
    (["--", "-3 + 5 = ?"], b"", "-3 + 5 = ?"),
]


@pytest.mark.parametrize(("arguments", "data", "prompt"), PROMPTS)
def test_the_prompt_comes_from_the_argument_and_standard_input(arguments, data, prompt, monkeypatch, state, capsys):
    typed(monkeypatch, data)
    assert run(["ask", *arguments]) == 0
    with Store(state) as store:
        logged = store.requests.find("last")
        answer = logged.answers[logged.decision.served].answer
    assert logged.decision.request.prompt == prompt
    assert capsys.readouterr() == (answer if answer.endswith("\n") else f"{answer}\n", "")


def test_a_real_process_prints_only_the_answer(state):
    done = process("ask", SUM, "--model", "mini-1m")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"42\n", b"")
    assert_sound(state, requests=1)


def test_each_piece_is_printed_before_the_next_comes(monkeypatch, capsys, scripted):
    """Every piece is out before the next comes."""
    seen = []

    def complete(self, model, question, on_text=None, on_thinking=None):
        for piece in ("one ", "two"):
            on_text(piece)
            seen.append(capsys.readouterr().out)
        return done

    done = Scripted({"dear": "one two"}).complete(load_zoo(None).model("dear"), Question("count"))
    monkeypatch.setattr("messctl.backends.Scripted.complete", complete)
    assert run(["ask", "count", "--model", "dear"]) == 0
    assert [*seen, *capsys.readouterr()] == ["one ", "two", "\n", ""]


def test_the_json_document_has_all_keys_and_true_values(ask, policy):
    document = ask(SUM, "--model", "micro-400k")
    assert list(document) == KEYS
    expected = {
        "answer": "42", "model": "micro-400k", "explored": False, "cost_unit": "J", "satisfied": None, "attained": None,
        "judged": 0, "queue": 0.0, "certificate": None, "alpha": 0.8, "queried": ["micro-400k"], "believed": None,
        "forced": True, "propensity": None, "failures": {}, "attempts": ["micro-400k"], "tokens_out": 3,
        "finish": "stop",
    }  # fmt: skip
    assert document == document | expected
    assert document["cost"] == pytest.approx(2 * 402_688 * (document["tokens_in"] + 3) / 1e10)
    assert 0 < document["latency_s"] < 60
    assert 0 < document["load_s"] < 60


GRADES = [
    (["--expect", "42"], 1.0, 0),
    (["--expect", "43"], 0.0, 0),
    (["--expect", "4"], 0.0, 0),
    (["--expect-regex", r"^4\d$"], 1.0, 0),
    (["--expect-regex", "x"], 0.0, 0),
    (["--expect", "42", "--require-satisfied"], 1.0, 0),
    (["--expect", "43", "--require-satisfied"], 0.0, 1),
    (["--expect-regex", "x", "--require-satisfied"], 0.0, 1),
]


@pytest.mark.parametrize(("arguments", "satisfied", "code"), GRADES)
def test_grades_change_the_attainment_the_queue_and_what_is_learned(arguments, satisfied, code, ask, state, policy):
    document = ask(SUM, "--model", "mini-1m", *arguments, code=code)
    assert (document["satisfied"], document["attained"], document["judged"]) == (satisfied, satisfied, 1)
    assert document["queue"] == max(0.0, 0.8 - satisfied)
    assert document["certificate"] == pytest.approx(0.8 - document["queue"])
    with Store(state) as store:
        learned = store.policy.snapshot(policy).models["mini-1m"]
        assert learned.cost_count == 1
        if policy == "messplus":
            assert learned.arrays["steps"] == 1
            assert (learned.arrays["bias"] > 0) == bool(satisfied)
        else:
            assert (learned.arrays["answers"], learned.arrays["good"]) == (1, satisfied)
    assert_sound(state, requests=1)


def test_an_explored_request_pays_for_all_and_learns_from_all(ask, tmp_path, state):
    path = tmp_path / "exploring.yaml"
    path.write_text(
        PACKAGED_FILE.read_text().replace("\n  c: ", "\n  c: 9 #", 1).replace("policy: bandit", "policy: messplus")
    )
    document = ask(SUM, "--expect", "42", "--zoo", str(path))
    assert (document["explored"], document["model"], document["propensity"]) == (True, "mini-1m", 1.0)
    assert document["queried"] == ["micro-400k", "mini-1m", "nano-109k", "pico-34k"]
    with Store(state) as store:
        assert {int(model.arrays["steps"]) for model in store.policy.snapshot("messplus").models.values()} == {1}
        costs = [outcome.cost for outcome in store.requests.find("last").answers.values()]
    assert document["cost"] == pytest.approx(sum(costs))


OPTIONS = [
    (["--system", "Be brief."], {"system": "Be brief."}),
    (["--max-tokens", "1"], {"max_tokens": 1}),
    (["--temperature", "0.5"], {"temperature": 0.5}),
    (["--seed", "7"], {"seed": 7}),
    ([], {"system": None, "max_tokens": None, "temperature": None, "seed": None}),
]


@pytest.mark.parametrize(("arguments", "expected"), OPTIONS)
def test_options_reach_the_model(arguments, expected, scripted, ask):
    ask("hi", *arguments)
    (question,) = scripted
    assert {name: getattr(question, name) for name in expected} == expected


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_an_answer_without_a_reader_is_stored_and_graded(state, arguments):
    """As in `messctl ask … | true`: the answer had a cost, and the exit code is that of the grade."""
    command = [*MESSCTL, "ask", SUM, "--model", "mini-1m", "--expect", "43", "--require-satisfied", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as asking:
        asking.stdout.close()
        assert (asking.stderr.read(), asking.wait()) == (b"", 1)
    with Store(state) as store:
        logged = store.requests.find("last")
    assert (logged.answers["mini-1m"].answer, logged.satisfied) == ("42", 0.0)


def test_require_satisfied_accepts_the_grader_of_the_zoo(scripted, tmp_path, capsys):
    (tmp_path / "zoo.yaml").write_text(STATED + 'grader: {regex: "forty"}\n')
    assert run(["ask", "hi", "--model", "dear", "--require-satisfied"]) == 0
    assert run(["ask", "hi", "--model", "cheap[red]", "--require-satisfied"]) == 1
    assert capsys.readouterr() == ("forty-two\nno idea\n", "")


def test_an_error_is_on_a_line_of_its_own(tmp_path, monkeypatch, capsys):
    class Breaking(Scripted):
        def complete(self, model, question, on_text=None, on_thinking=None):
            on_text("half of")
            raise BackendError("broke off")

    (tmp_path / "zoo.yaml").write_text(STATED)
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: Breaking({}))
    code = run(["ask", "hi"])
    out, err = capsys.readouterr()
    assert out == "half of\n"
    assert "broke off" in assert_one_line(code, "", err)


def test_a_prompt_without_quotes_is_refused_with_advice(scripted, capsys):
    line = assert_one_line(run(["ask", "What", "is", "1+1"]), *capsys.readouterr())
    assert "unexpected extra argument(s) (is 1+1); quote a text that has spaces (see `messctl ask --help`)" in line
    assert scripted == []


def test_max_tokens_limits_a_real_answer(ask):
    document = ask(SUM, "--model", "mini-1m", "--max-tokens", "1")
    assert (document["answer"], document["tokens_out"], document["finish"]) == ("4", 1, "length")


def test_the_same_seed_gives_the_same_answer(ask, tmp_path):
    write_gguf(tmp_path / "random.gguf")
    zoo_of(tmp_path, "random", defaults="max_tokens: 8, temperature: 1")

    def answers(seed):
        return [ask("Once upon a time", "--seed", str(seed))["answer"] for _ in range(2)]

    drawn = [answers(seed) for seed in range(6)]
    assert all(first == second for first, second in drawn)
    assert len({first for first, _ in drawn}) > 1


def test_alpha_of_one_request_counts_when_it_gets_feedback_later(ask, state, capsys, policy):
    """The promise at the time of the request counts."""
    document = ask(SUM, "--alpha", "0.5", "--expect", "no", "--model", "mini-1m")
    assert (document["alpha"], document["queue"], document["certificate"]) == (0.5, 0.5, 0.0)
    ask(SUM, "--alpha", "0.25", "--model", "mini-1m")
    assert run(["feedback", "bad", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["queue"] == 0.75
    assert_sound(state, requests=2)


def test_no_log_shows_right_numbers_and_stores_nothing(ask, state, policy):
    """The numbers are right, and nothing is stored; a missing state is not created."""
    fresh = ask(SUM, "--no-log", "--expect", "no", "--model", "mini-1m")
    assert (fresh["judged"], fresh["attained"], fresh["queue"]) == (1, 0.0, 0.8)
    assert not state.exists()
    ask(SUM, "--expect", "no", "--model", "mini-1m")
    with Store(state) as store:
        before = store.policy.snapshot()
    document = ask(SUM, "--no-log", "--expect", "no", "--model", "mini-1m")
    assert (document["judged"], document["attained"], document["queue"]) == (2, 0.0, 1.6)
    with Store(state) as store:
        after = store.policy.snapshot()
        assert (after.decided, after.queue) == (before.decided, before.queue) == (0, 0.8)
    assert_sound(state, requests=1)


EXPLAINED = {
    "messplus": ("Q = 0, V = 0.2, α = 0.75\n", "V·cost", "Q·(α − predicted)", "0.500"),
    "bandit": ("λ = ", ", balance = 0, Q = 0, α = 0.75\n", "expected cost", "−λ·(ŝ + b)", "0.821"),
}


def test_explain_prints_the_figures_and_a_table_of_models(capsys, scripted, policy, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert run(["ask", "hi", "--explain", "--expect", "42"]) == 0
    out, err = capsys.readouterr()
    assert out in ("no idea\n", "forty-two\n")
    for word in (*EXPLAINED[policy], "predicted", "mean cost", "sum", "cheap[red]", "dear", "served"):
        assert word in re.sub(" +\n", "\n", err)
    assert run(["ask", "hi", "--explain", "--model", "dear"]) == 0
    assert capsys.readouterr().err == "one model was named, so nothing was weighed\n"
    assert run(["ask", "hi", "--explain", "--json"]) == 0
    document, err = capsys.readouterr()
    assert json.loads(document)["judged"] == 1
    assert err.count("served") == 1
    assert ("not exploring: nobody grades all answers" in err) == (policy == "messplus")
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["ask", "hi", "--explain"]) == 0
    assert "…" not in capsys.readouterr().err


def test_explain_shows_an_unknown_cost_as_a_dash(capsys, scripted, policy, monkeypatch):
    """The table has a dash for it; the decision weighs the sums in the table."""
    monkeypatch.setenv("COLUMNS", "80")
    capsys.readouterr()
    shown = []
    for prompt in ("one", "two"):
        assert (
            run(["ask", prompt, "--explain", "--model" if not shown else "--seed", "dear" if not shown else "1"]) == 0
        )
        shown.append(capsys.readouterr().err)
    _, err = shown
    rows = {line.split()[0]: line.split() for line in err.splitlines() if line.startswith(("cheap", "dear"))}
    assert rows["cheap[red]"][2:4] == ["–", "–"]
    assert all(re.fullmatch(r"-?[\d.e-]+", number) for number in (*rows["dear"][1:6], rows["cheap[red]"][5]))
    assert "–: unknown before the model's first answer" in err
    assert max(map(len, err.splitlines())) <= 80
    assert run(["ask", "three", "--model", "cheap[red]"]) == 0
    capsys.readouterr()
    assert run(["ask", "four", "--explain"]) == 0
    assert "–" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("hindsight", "policy 'hindsight' cannot serve live; use 'messplus' or 'bandit' or 'always:<model>'"),
        ("badnit", "did you mean 'bandit'"),
    ],
)
def test_a_policy_that_cannot_serve_live_is_refused(chosen, message, scripted, tmp_path, capsys):
    (tmp_path / "zoo.yaml").write_text(STATED.replace("v: 0.2", f"v: 0.2, policy: {chosen}"))
    assert message in assert_one_line(run(["ask", "hi"]), *capsys.readouterr())


def test_zoo_option_reads_another_zoo_file(ask, scripted, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    document = ask("hi", "--zoo", "../zoo.yaml", "--model", "dear")
    assert (document["alpha"], document["cost_unit"], document["cost"]) == (0.75, "USD", 10 * 1 + 20 * 1)
    monkeypatch.chdir(tmp_path)
    assert ask("hi", "--model", "dear")["alpha"] == 0.75


def test_the_grader_of_the_zoo_grades_unless_expect_does(ask, scripted, tmp_path):
    (tmp_path / "zoo.yaml").write_text("grader: {regex: forty}" + STATED)
    assert ask("hi", "--model", "dear")["satisfied"] == 1.0
    assert ask("hi", "--model", "cheap[red]")["satisfied"] == 0.0
    assert ask("hi", "--model", "cheap[red]", "--expect", "no idea")["satisfied"] == 1.0


@pytest.mark.parametrize(
    ("grader", "answer", "expected", "satisfied"),
    [
        ("numeric", "It is 42.0 km", "42", 1.0),
        ("exact", "forty-two", "forty-two", 1.0),
        ("exact", "It is forty-two", "forty-two", 0.0),
        ("contains", "It is forty-two", "forty-two", 1.0),
        ("choice", "The answer is (B).", "B", 1.0),
        ("regex", "forty-two", "^forty", 1.0),
        ("none", "It is forty-two", "forty-two", 1.0),
        ("{regex: '^x'}", "It is forty-two", "forty-two", 1.0),
    ],
)
def test_what_is_expected_is_the_reference_of_the_grader_that_the_zoo_names(
    grader, answer, expected, satisfied, ask, monkeypatch, tmp_path
):
    (tmp_path / "zoo.yaml").write_text(f"grader: {grader}\n{STATED}")
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: Scripted({"dear": answer}))
    assert ask("hi", "--model", "dear", "--expect", expected)["satisfied"] == satisfied


@pytest.mark.parametrize("grader", ["exact", "contains", "regex", "numeric", "choice"])
def test_without_a_reference_a_named_grader_grades_nothing_and_says_so(grader, scripted, tmp_path, capsys):
    (tmp_path / "zoo.yaml").write_text(f"grader: {grader}\n{STATED}")
    assert run(["ask", "hi", "--model", "dear", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["satisfied"] is None
    assert err == (
        f"messctl: warning: the zoo's grader '{grader}' compares with a reference, so the answer is not graded; "
        "add --expect\n"
    )
    assert run(["ask", "hi", "--model", "dear", "--require-satisfied"]) == 2
    assert "--require-satisfied needs a grade, and the zoo's grader" in assert_one_line(2, *capsys.readouterr())
    assert len(scripted) == 1


def test_a_reference_that_the_named_grader_cannot_use_is_refused_before_a_model_is_asked(scripted, tmp_path, capsys):
    (tmp_path / "zoo.yaml").write_text(f"grader: numeric\n{STATED}")
    assert run(["ask", "hi", "--expect", "forty"]) == 2
    assert "`numeric` needs exactly one" in assert_one_line(2, *capsys.readouterr())
    assert scripted == []


def test_a_regular_expression_that_looks_like_a_name_causes_a_warning(scripted, tmp_path, capsys):
    (tmp_path / "zoo.yaml").write_text("grader: contain" + STATED)
    assert run(["ask", "hi", "--model", "dear"]) == 0
    assert capsys.readouterr() == (
        "forty-two\n",
        "messctl: warning: zoo.yaml, line 1: grader 'contain' is taken for a regular expression (did you mean "
        "'contains'?); write {regex: 'contain'} if it is one, or a grader's name: exact, contains, regex, numeric, "
        "choice\n",
    )


def test_the_document_names_a_queried_model_that_fails(ask, monkeypatch, tmp_path):
    (tmp_path / "zoo.yaml").write_text(STATED.replace("c: 0", "c: 9, policy: messplus"))
    failing = Scripted({"dear": "42"}, failures={"cheap[red]": "it is out of order"})
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: failing)
    document = ask("hi", "--expect", "42")
    assert (document["model"], document["failures"]) == ("dear", {"cheap[red]": "it is out of order"})


BAD = [
    ([], b"", "no prompt"),
    (["  "], b" \n", "no prompt"),
    (["hi", "--expect", "a", "--expect-regex", "b"], b"", "exclude each other"),
    (["hi", "--expect", " "], b"", "--expect is empty"),
    ([], SUM.encode("utf-16-le"), "standard input is UTF-16 without a byte order mark; convert it to UTF-8"),
    ([], SUM.encode("utf-16-be"), "standard input is UTF-16 without a byte order mark; convert it to UTF-8"),
    (["hi", "--expect-regex", "("], b"", "not a regular expression"),
    (["hi", "--require-satisfied"], b"", "--require-satisfied needs a grade; add --expect"),
    (["hi", "--model", "mini-2m"], b"", "did you mean 'mini-1m'"),
    (["hi", "--model", "\x1b[31m"], b"", "unknown model '\\x1b[31m'"),
    (["hi", "--alpha", "1.5"], b"", "alpha is 1.5"),
    (["hi", "--alpha", "nan"], b"", "alpha is nan"),
    (["hi", "--max-tokens", "0"], b"", "--max-tokens"),
    (["hi", "--temperature", "-1"], b"", "--temperature"),
    (["hi", "--temperature", "nan"], b"", "--temperature"),
    (["hi", "--seed", "-1"], b"", "--seed"),
    (["hi", "--zoo", "absent.yaml"], b"", "absent.yaml: cannot be read"),
    (["hi", "--zoo", "."], b"", "cannot be read"),
    (["hi", "--polcy", "x"], b"", "--polcy"),
    (["-3 + 5 = ?"], b"", "see `messctl ask --help`"),
    (["hi", "there"], b"", "there"),
    ([], b"x" * (8 * 10**6 + 1), "larger than 8 MB"),
    (["hi"], b"long " * 2000, "the context holds"),
]


@pytest.mark.parametrize(("arguments", "data", "message"), BAD)
def test_bad_usage_is_one_line_and_exit_code_2(arguments, data, message, capsys, monkeypatch, state):
    typed(monkeypatch, data)
    assert message in assert_one_line(run(["ask", *arguments]), *capsys.readouterr())
    assert_sound(state)


@pytest.mark.parametrize("command", ["status", "log"])
def test_looking_at_the_state_imports_no_compiler_and_no_parquet(command, state):
    Store(state).close()
    code = (
        f"import sys; from messctl.cli import run; run(['{command}'])\n"
        "heavy = {'numba', 'pyarrow', 'sklearn', 'scipy', 'llama_cpp', 'gguf', 'urllib3', 'pydantic'}\n"
        "sys.exit(f'imported: {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_of_models_without_a_zoo_gets_a_hint(tmp_path, monkeypatch, capsys, state):
    monkeypatch.chdir(tmp_path)
    typed(monkeypatch)
    assert run(["ask", "What is 1 + 1?"]) == 0
    assert "zoo init" not in capsys.readouterr().err
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    assert run(["ask", "What is 1 + 1?"]) == 0
    assert "`messctl zoo init` writes one" in capsys.readouterr().err


def test_an_answer_imports_neither_a_compiler_nor_what_it_does_not_use(state):
    code = (
        "import sys; from messctl.cli import run; run(['ask', 'What is 7 + 8?', '--expect', '15'])\n"
        "run(['feedback', 'last', 'good'])\n"
        "heavy = {'numba', 'pyarrow', 'sklearn', 'scipy', 'httpx', 'urllib3', 'llama_cpp.llama', 'pydantic'}\n"
        "heavy |= {'psycopg', 'messctl.state.postgres'}\n"
        "sys.exit(f'imported: {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "15"), done.stderr


@pytest.mark.parametrize("command", ["ask", "status", "log", "feedback", "export", "reset", "warm"])
def test_help_imports_nothing_heavy(command, capsys):
    code = (
        f"import sys; from messctl.cli import run; run(['{command}', '--help'])\n"
        "heavy = {'numpy', 'numba', 'pyarrow', 'sklearn', 'scipy', 'yaml', 'llama_cpp', 'gguf', 'jinja2', 'sqlite3'}\n"
        "sys.exit(f'imported: {heavy & set(sys.modules)}' if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Example: messctl" in done.stdout


def test_a_state_of_the_earlier_bandit_says_once_that_it_learns_of_prompts_anew(capsys, scripted, state):
    """As version 2 left it: the requests, the debt and the means stay."""
    assert run(["ask", "hi", "--expect", "42"]) == 0
    with closing(sqlite3.connect(state)) as stored, stored:
        stored.execute("UPDATE policies SET version = 2")
        stored.execute("DELETE FROM arrays WHERE name IN ('own_weight', 'own_covariance', 'shared_weight', 'trust')")
    capsys.readouterr()
    for said in (1, 0):
        assert run(["ask", "hi", "--expect", "42"]) == 0
        assert capsys.readouterr().err.count("is learned anew by this version of the bandit") == said
    with Store(state) as store:
        assert store.requests.feedback_sums().count == 3
