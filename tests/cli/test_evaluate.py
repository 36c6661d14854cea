"""`messctl evaluate` on exported logs, and on states that messctl itself wrote."""

import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from live_making import STATED, assert_one_line

from messctl.backends import Scripted
from messctl.cli import run
from messctl.learning.features import WordEncoder
from messctl.off_policy import read
from messctl.state.store import Store
from messctl.trace import Outcome, Row, TraceMetadata, TraceWriter

CHEAP, DEAR = "cheap[red]", "dear"


def write_log(path, n=400, seed=0, chance=(0.5, 0.9), odds=(0.7, 0.3), has_feedback=0.8):
    """Write a log of two models, a and b, at 1 and 5 J, drawn with these odds."""
    rng = np.random.default_rng(seed)
    metadata = TraceMetadata(models=("a", "b"), cost_unit="J", source="a test")
    with TraceWriter(path, metadata, ("satisfied", "cost"), ("propensity", "served")) as writer:
        for row in range(n):
            model = int(rng.random() >= odds[0])
            satisfied = float(rng.random() < chance[model]) if rng.random() < has_feedback else None
            outcome = Outcome(satisfied, (1.0, 5.0)[model] * rng.uniform(0.9, 1.1))
            writer.append(
                Row(f"r{row}", f"prompt {row}", {"ab"[model]: outcome}, propensity=odds[model], served="ab"[model])
            )
    return str(path)


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_log(tmp_path / "log.parquet")


def test_the_help_fits_one_screen_in_panels(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["evaluate", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (len(lines) <= 60, max(map(len, lines)) <= 80) == (True, True)
    text = "\n".join(lines)
    assert all(f"─ {panel} ─" in text for panel in ("Promise", "Policy", "Requests", "Output"))
    assert "[x<=" not in text


def test_the_table_fits_any_width_and_has_the_verdicts(log, capsys, monkeypatch):
    policies = ["--policy", "always:b", "--policy", "always:a", "--policy", "bandit"]
    for width in ("160", "80", "40"):
        monkeypatch.setenv("COLUMNS", width)
        assert run(["evaluate", log, "--alpha", "0.7", *policies]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        for words in ("IPS", "SNIPS", "DM", "DR", "attained", "J/request", "95 %"):
            assert words in out
        assert max(map(len, out.splitlines())) <= int(width)
        assert "…" not in out
        text = " ".join(out.split())
        assert "always:b would keep the promise: attains 0." in text
        assert "always:a would miss the promise: attains 0." in text
        assert "bandit: learned from imputed feedback when it chose another model than the log" in text
    assert run(["evaluate", log, "--policy", "bandit", "--no-impute"]) == 0
    assert "bandit: learned only when it chose the log's model" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("odds", "covered", "warned"), [((0.7, 0.3), "covers all of its", False), ((1.0, 0.0), "at most 0.0% of its", True)]
)
def test_it_says_how_many_of_a_policys_choices_the_log_covers(log, tmp_path, capsys, odds, covered, warned):
    write_log(tmp_path / "log.parquet", odds=odds)
    assert run(["evaluate", log, "--policy", "always:b"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert covered in out
    assert ("always:b: nothing is known of the rest" in out) == warned


def test_json_has_the_figures_of_the_log(log, document):
    got = document("evaluate", log, "--policy", "always:b", "--policy", "logged", "--alpha", "0.7")
    table = pq.read_table(log)
    has_feedback = [
        value for name in ("satisfied/a", "satisfied/b") for value in table[name].to_pylist() if value is not None
    ]
    costs = [value for name in ("cost/a", "cost/b") for value in table[name].to_pylist() if value is not None]
    assert got["log"] == {
        "path": log,
        "requests": 400,
        "judged_requests": len(has_feedback),
        "forced_left_out": 0,
        "models": ["a", "b"],
        "reference": "b",
        "cost_unit": "J",
        "propensity_floor": 0.3,
        "attained": pytest.approx(np.mean(has_feedback)),
        "mean_cost": pytest.approx(np.mean(costs)),
    }
    assert (got["alpha"], got["judged"], got["judged_by"], got["imputed"]) == (0.7, "always:b", "DR", True)
    always, logged = got["results"]
    assert (always["sla_met"], logged["matched"]) == (True, 1.0)
    assert logged["estimates"][0]["mean_cost"] == pytest.approx(np.mean(costs))
    assert logged["estimates"][0]["attained_effective_sample_size"] == pytest.approx(len(has_feedback))
    assert logged["estimates"][0]["mean_cost_effective_sample_size"] == pytest.approx(400)
    for each in always["estimates"]:
        assert each["attained"] == pytest.approx(0.9, abs=0.25)
        assert each["mean_cost"] == pytest.approx(5.0, abs=1.3)
    # SNIPS of a policy that always serves one model is that model's mean, since the propensity is always the same.
    assert always["estimates"][1]["attained"] == pytest.approx(np.nanmean(table["satisfied/b"].to_numpy()))


@pytest.mark.parametrize(
    ("policy", "alpha", "code", "met"),
    [
        ("always:b", "0.7", 0, True),
        ("always:a", "0.7", 1, False),
        ("always:a", "0.5", 0, None),  # within the interval: not surely missed
        ("always:b", "1", 1, False),
        ("random", "0.2", 0, True),
    ],
)
def test_require_sla_exits_1_if_the_promise_is_surely_missed(log, policy, alpha, code, met, document):
    arguments = ["evaluate", log, "--policy", policy, "--alpha", alpha]
    assert document(*arguments, "--require-sla", code=code)["results"][0]["sla_met"] is met
    assert run(arguments) == 0


def test_the_policy_of_zoo_yaml_is_the_default_and_decides(log, document, tmp_path):
    assert [each["policy"] for each in document("evaluate", log)["results"]] == ["bandit"]
    (tmp_path / "zoo.yaml").write_text("sla: {alpha: 0.6}\nrouter: {policy: messplus, margin: 0.05, v: 3}\n")
    got = document("evaluate", log)
    assert (got["alpha"], got["judged"]) == (0.6, "messplus")
    got = document("evaluate", log, "--policy", "random", "--policy", "messplus")
    assert got["judged"] == "messplus"


def test_every_router_option_changes_the_estimates(log, document):
    common = ["evaluate", log, "--policy", "messplus", "--alpha", "0.6"]

    def estimates(*options):
        return document(*common, *options)["results"][0]["estimates"]

    plain = estimates()
    assert estimates() == plain
    for options in (["--v", "5"], ["--margin", "0.3"], ["--alpha", "0.9"], ["--cost-scale", "0.01"], ["--no-impute"]):
        assert estimates(*options) != plain, options
    assert estimates("--reference", "a") == plain  # it serves only when all answers are graded, which a log never has


@pytest.mark.parametrize(
    ("policies", "judged"),
    [(["always:b", "bandit", "messplus"], "messplus"), (["always:b", "bandit"], "bandit"), (["always:b"], "always:b")],
)
def test_a_router_decides_before_a_yardstick(log, document, tmp_path, policies, judged):
    (tmp_path / "zoo.yaml").write_text("router: {policy: messplus}\n")
    words = [word for name in policies for word in ("--policy", name)]
    assert document("evaluate", log, "--alpha", "0.5", *words)["judged"] == judged


BAD = [
    (
        ["--policy", "hindsight"],
        "'hindsight' needs outcomes that a log does not hold; choose one of always, random",
    ),
    (["--policy", "clairvoyant"], "messplus, bandit, logged"),
    (["--policy", "mess"], "did you mean 'messplus'"),
    (["--policy", "always:c"], "unknown model in policy 'always:c'"),
    (["--policy", "always"], "policy 'always' needs a model: always:a"),
    (["--reference", "c"], "unknown reference model 'c'"),
    (["--alpha", "2"], "alpha is 2"),
    *(
        ([option], f"No such option: {option}")
        for option in (
            "--c",
            "--csv",
            "--exponent",
            "--holdout",
            "--replicas",
            "--seeds",
            "--shuffle",
            "--steps",
        )
    ),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_usage_is_one_line_and_exit_code_2(log, arguments, message, capsys, tmp_path):
    assert message in assert_one_line(run(["evaluate", log, *arguments]), *capsys.readouterr())
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]


def edited(log, **columns):
    """Rewrite the log with one row of some columns changed; None drops the column."""
    table = pq.read_table(log)
    for key, change in columns.items():
        name = key.replace("__", "/")
        at = table.schema.get_field_index(name)
        if change is None:
            table = table.remove_column(at)
            continue
        row, value = change
        values = table[name].to_pylist()
        values[row] = value
        table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
    pq.write_table(table, log)
    return log


BAD_ROWS = [
    ({"propensity": (2, 0.0)}, "row 3 (r2): propensity is 0; it must lie in (0, 1], 1e-12 at least; correct it"),
    ({"propensity": (2, 1e-320)}, "row 3 (r2): propensity is 9.99989e-321; it must lie in (0, 1], 1e-12 at least"),
    ({"propensity": (2, -0.5)}, "row 3 (r2): propensity is -0.5; it must lie in (0, 1]"),
    ({"propensity": (399, 1.5)}, "row 400 (r399): propensity is 1.5; it must lie in (0, 1]"),
    ({"propensity": (2, float("nan"))}, "row 3 (r2): propensity is NaN or infinite; it must lie in (0, 1]"),
    ({"propensity": (2, None)}, "row 3 (r2): no propensity, because the user chose the model; leave such rows out"),
    ({"served": (4, None)}, "row 5 (r4): 'served' names no model of the log; export the log again"),
    ({"served": (4, "c")}, "row 5 (r4): 'served' names no model of the log"),
    ({"cost__a": (0, None), "cost__b": (0, None)}, "row 1 (r0): the cost of the served answer is missing; remove"),
    ({"satisfied__a": (1, 1.5)}, "row 2, column 'satisfied/a': is 1.5, but satisfaction must be in 0..1"),
    ({"propensity": None}, "no column 'propensity'; `messctl evaluate` needs a live log: `messctl export` writes one"),
    ({"served": None}, "no column 'served'; `messctl evaluate` needs a live log"),
    ({"request_id": (1, "r0")}, "row 2, column 'request_id': 'r0' is already the id of row 1"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "message"), BAD_ROWS)
def test_an_invalid_log_is_refused_with_its_row(log, columns, message, capsys):
    edited(log, **columns)
    assert f"{log}: {message}" in assert_one_line(run(["evaluate", log]), *capsys.readouterr())


def test_skip_forced_leaves_out_requests_whose_model_the_user_chose(log, document, capsys):
    edited(log, propensity=(2, None))
    got = document("evaluate", log, "--policy", "random", "--skip-forced")
    assert (got["log"]["requests"], got["log"]["forced_left_out"]) == (399, 1)
    assert run(["evaluate", log, "--policy", "random", "--skip-forced"]) == 0
    assert "(1 row left out: the user chose the model)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("name", "message"),
    [("absent.parquet", "absent.parquet: no such file"), (".", "not a file"), ("text", "`messctl export` live logs"),
     ("cut.sqlite", "it is no messctl state; give a state of messctl, or an exported log"),
     ("other.sqlite", "another program's database"), ("box", "no column 'served'")],
)  # fmt: skip
def test_a_file_that_is_not_a_log_is_refused(name, message, capsys, tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("it is")
    with sqlite3.connect("other.sqlite") as database:
        database.execute("CREATE TABLE things (name TEXT)")
    (tmp_path / "cut.sqlite").write_bytes(b"SQLite format 3\0 and no more")
    shutil.copy(root / "traces" / "box.parquet", "box")
    before = (tmp_path / "other.sqlite").read_bytes()
    error = assert_one_line(run(["evaluate", name]), *capsys.readouterr())
    assert message in error
    assert "--state" not in error
    assert not (tmp_path / "absent.parquet").exists()
    assert (tmp_path / "other.sqlite").read_bytes() == before


# States that messctl has written


@pytest.fixture
def state(state, monkeypatch):
    """A state beside a zoo.yaml of two models with round costs; the cheap model is always wrong."""
    state.with_name("zoo.yaml").write_text(STATED)
    backend = Scripted({CHEAP: "maybe", DEAR: "yes"})
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: backend)
    return state


@pytest.mark.slow
def test_a_state_and_its_export_give_the_same_estimates(state, document, policy, capsys):
    """With real routing: some requests have feedback, some a forced model, and one no answer."""
    for row in range(60):
        graded = ["--expect", "yes"] if row % 3 else []
        document("ask", f"is it {row}", *graded)
    assert document("export", "-o", "log.parquet")["rows"] == 60
    of_state = document("evaluate", str(state), "--policy", "logged", "--policy", "always:dear")
    of_export = document("evaluate", "log.parquet", "--policy", "logged", "--policy", "always:dear")
    assert of_state["log"].pop("path") == str(state)
    assert of_export["log"].pop("path") == "log.parquet"
    assert of_state == of_export
    status = document("status")
    logged = of_state["results"][0]
    assert of_state["log"]["attained"] == pytest.approx(status["standing"]["attained"])
    assert logged["estimates"][0]["attained"] == pytest.approx(status["standing"]["attained"])
    if policy == "bandit":  # MESS+ pays for what it explores besides
        assert logged["estimates"][0]["mean_cost"] * 60 == pytest.approx(status["cost_total"])
    assert of_state["log"]["judged_requests"] == 40
    one, other = (read(path, WordEncoder()) for path in (state, state.parent / "log.parquet"))
    for name in ("served", "propensity", "satisfied", "cost"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
    assert (one.prompts, one.request_ids, one.zoo) == (other.prompts, other.request_ids, other.zoo)
    # Add a request whose model the user chose.
    document("ask", "is it 60", "--model", DEAR)
    message = assert_one_line(run(["evaluate", str(state)]), *capsys.readouterr())
    assert "row 61 (" in message
    assert "--skip-forced" in message
    got = document("evaluate", str(state), "--policy", "logged", "--skip-forced")
    assert (got["log"]["requests"], got["log"]["forced_left_out"]) == (60, 1)


@pytest.mark.slow
def test_the_logged_policy_matches_its_own_decisions(state, document, tmp_path):
    """Under the same settings, MESS+ repeats every decision of its own log."""
    (tmp_path / "zoo.yaml").write_text(STATED.replace("router: {", "router: {policy: messplus, "))
    served = []
    for row in range(40):
        served.append(document("ask", f"is it {row}")["model"])
        document("feedback", "good" if served[-1] == DEAR else "bad")
    assert {CHEAP, DEAR} == set(served)
    got = document("evaluate", str(state))
    (result,) = got["results"]
    assert (result["policy"], result["matched"], result["mean_weight"]) == ("messplus", 1.0, 1.0)
    for name, mean in (("attained", served.count(DEAR) / 40), ("mean_cost", got["log"]["mean_cost"])):
        assert result["estimates"][0][name] == pytest.approx(mean)


def test_a_request_that_one_model_answered_counts_as_such(state, document):
    document("ask", "is it", "--expect", "yes")
    assert read(state, WordEncoder()).alone.tolist() == [True]


def test_a_state_without_answers_is_refused(state, capsys):
    Store(state).close()
    message = assert_one_line(run(["evaluate", str(state)]), *capsys.readouterr())
    assert "no request was routed by a policy, so nothing can be estimated; ask without" in message


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_reading_a_state_changes_no_file(state, document):
    """Neither the state nor a file beside it, whether it is in use or not, with either journal mode."""
    for row in range(4):
        document("ask", f"is it {row}", "--expect", "yes")
    alone = state.parent / "alone"
    alone.mkdir()
    shutil.copy(state, alone / "wal.sqlite")
    shutil.copy(state, alone / "delete.sqlite")
    with closing(sqlite3.connect(alone / "delete.sqlite")) as database:
        database.execute("PRAGMA journal_mode = DELETE")
    before = files(alone)
    for name in sorted(before):
        got = document("evaluate", str(alone / name), "--policy", "logged")
        assert got["log"]["requests"] == 4
    assert files(alone) == before
    # One that another process has just written to: what is not yet in the file itself is read too.
    with closing(sqlite3.connect(alone / "wal.sqlite")) as writer:
        writer.execute("UPDATE requests SET prompt = 'changed'")
        writer.commit()
        assert (alone / "wal.sqlite-wal").stat().st_size > 0
        assert set(read(alone / "wal.sqlite", WordEncoder()).prompts) == {"changed"}


def test_a_state_of_a_newer_messctl_is_named_by_its_given_path(state, document, capsys):
    document("ask", "is it", "--expect", "yes")
    with closing(sqlite3.connect(state)) as database:
        database.execute("PRAGMA user_version = 999")
    message = assert_one_line(run(["evaluate", str(state)]), *capsys.readouterr())
    assert f"{state}: made by a newer messctl" in message


def test_costs_in_two_units_are_refused(state, document, capsys):
    for row in range(2):
        document("ask", f"is it {row}", "--expect", "yes")
    with closing(sqlite3.connect(state)) as database, database:
        database.execute("UPDATE requests SET cost_unit = 'J' WHERE id = 1")
    message = assert_one_line(run(["evaluate", str(state)]), *capsys.readouterr())
    assert "cannot be added up; give each zoo its own --state" in message


def test_replay_of_a_log_or_a_state_names_evaluate(log, state, document, capsys):
    message = assert_one_line(run(["replay", log]), *capsys.readouterr())
    assert "for a live log, add --policy logged, or use `messctl evaluate`" in message
    message = assert_one_line(run(["replay", log, "--stream"]), *capsys.readouterr())
    assert "for a live log, add" in message
    document("ask", "is it", "--expect", "yes")
    message = assert_one_line(run(["replay", str(state)]), *capsys.readouterr())
    assert f"{state}: a state, not a trace; use `messctl evaluate`, or `messctl export` it" in message
