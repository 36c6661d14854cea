"""`messctl feedback`, `status`, `log`, `export` and `reset` on scripted answers."""

import os
import random
import sqlite3
from contextlib import closing

import pyarrow.parquet as pq
import pytest
from live_making import STATED, assert_one_line, assert_sound, typed

from messctl.backends import Scripted
from messctl.cli import run
from messctl.state.store import Store, check

CHEAP, DEAR = "cheap[red]", "dear"


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """Two models with round costs in ./zoo.yaml: a prompt of two words and an answer of one, 3 USD or 40."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESSCTL_STATE", str(tmp_path / "state"))
    typed(monkeypatch)
    (tmp_path / "zoo.yaml").write_text(STATED)
    backend = Scripted({CHEAP: "maybe", DEAR: "yes", "new": "yes"})
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: backend)
    return tmp_path / "state"


@pytest.fixture
def ask(document):
    def ask(model=CHEAP, *arguments):
        return document("ask", "is it", "--model", model, *arguments)["request_id"]

    return ask


def test_feedback_changes_the_attainment_the_queue_and_what_is_learned(ask, document, state, policy):
    """By id, by the start of one, of the last; late and out of order; in words and numbers."""
    ids = [ask(model) for model in (CHEAP, DEAR, CHEAP, DEAR)]
    queue = 0.0
    for arguments, request_id, satisfied in (
        ((ids[2], "bad"), ids[2], 0.0),
        ((ids[0][:11], "0.25"), ids[0], 0.25),
        (("good",), ids[3], 1.0),
        ((ids[1], "1e0"), ids[1], 1.0),
    ):
        got = document("feedback", *arguments)
        queue = max(0.0, queue + 0.75 - satisfied)
        assert (got["request_id"], got["satisfied"], got["corrected"]) == (request_id, satisfied, None)
        assert got["queue"] == queue
    assert (got["judged"], got["attained"], got["certificate"]) == (4, 0.5625, 0.75 - queue / 4)
    assert got["model"] == DEAR
    assert_sound(state, requests=4)


def test_last_means_the_last_answered_request(ask, document, monkeypatch, capsys):
    answered = ask()
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: Scripted({}))
    assert run(["ask", "again"]) == 2
    capsys.readouterr()
    assert document("feedback", "last", "good")["request_id"] == answered


def test_second_feedback_replaces_the_first(ask, capsys, document, state, policy):
    first, second = ask(), ask(DEAR)
    document("feedback", first, "bad")
    document("feedback", second, "0.5")
    got = document("feedback", first, "good")
    assert (got["corrected"], got["judged"], got["attained"], got["queue"]) == (0.0, 2, 0.75, 0.25)
    assert run(["feedback", second, "good"]) == 0
    assert capsys.readouterr().out == (
        f"{second} (dear): 1, corrected from 0.5; attained 1.0000 over 2, virtual queue (debt) 0.000\n"
    )
    assert_sound(state, requests=2)


def test_feedback_replaces_a_grade(ask, document, state, policy):
    request_id = ask(CHEAP, "--expect", "yes")
    assert document("feedback", "last", "0.5")["corrected"] == 0.0
    assert document("status")["standing"] == {"judged": 1, "attained": 0.5, "queue": 0.25, "certificate": 0.5}
    assert document("log")[0]["request_id"] == request_id
    assert_sound(state, requests=1)


@pytest.mark.parametrize(("word", "satisfied"), [("y", 1), ("yes", 1), ("n", 0), ("no", 0), ("good", 1), ("bad", 0)])
def test_feedback_takes_the_words_of_the_question_too(word, satisfied, ask, document, state):
    ask()
    assert document("feedback", word)["satisfied"] == satisfied


BAD_FEEDBACK = [
    (["1.1"], "feedback is 1.1; it must lie in 0..1"),
    (["--", "-0.1"], "feedback is -0.1"),
    (["nan"], "feedback is nan"),
    (["inf"], "feedback is inf"),
    (["fine"], "feedback is 'fine'; it must be good, bad, or a number"),
    (["Y"], "feedback is 'Y'"),
    (["\x1b[31m"], "feedback is '\\x1b[31m'"),
    (["good", "last"], "feedback is 'last'"),
    (["zzz", "good"], "unknown request id 'zzz'; `messctl log` lists them"),
    (["\udcff", "good"], "unknown request id '�'"),
    (["\x1b[31m", "good"], "unknown request id '\\x1b[31m'"),
    (["%", "good"], "unknown request id"),
    (["", "good"], "the request's id is empty"),
    ([], "no feedback; give good, bad, or a number"),
    (["a", "b", "c"], "c"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_FEEDBACK)
def test_bad_feedback_is_refused(arguments, message, ask, capsys, state):
    ask()
    assert message in assert_one_line(run(["feedback", *arguments]), *capsys.readouterr())
    with Store(state) as store:
        assert store.requests.feedback_sums().count == 0


def test_feedback_on_no_request_or_several_requests_is_refused(ask, capsys, monkeypatch, state):
    Store(state).close()
    assert "no request has been answered yet" in assert_one_line(run(["feedback", "good"]), *capsys.readouterr())
    ids = [ask() for _ in range(17)]
    shared = next(one[0] for at, one in enumerate(ids) if any(one[0] == other[0] for other in ids[:at]))
    error = assert_one_line(run(["feedback", shared, "good"]), *capsys.readouterr())
    assert f"requests have an id that starts with {shared!r}; give more of the id" in error
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: Scripted({}))
    assert run(["ask", "is it"]) == 2
    with Store(state) as store:
        unanswered = store.requests.newest(1)[0].decision.request.request_id
    capsys.readouterr()
    error = assert_one_line(run(["feedback", unanswered, "good"]), *capsys.readouterr())
    assert "has no answer to give feedback on" in error


def test_status_agrees_with_numbers_computed_by_hand(ask, document, monkeypatch, capsys, state, policy):
    ask(CHEAP, "--expect", "yes")  # misses
    ask(DEAR, "--expect", "yes")
    ask(DEAR)
    document("feedback", "last", "0.5")
    ask(CHEAP)
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: Scripted({}))
    assert run(["ask", "is it"]) == 2
    capsys.readouterr()
    status = document("status")
    low, high = status.pop("interval")
    lost = status.pop("lost")
    assert {model: (each["attempts"], each["reason"].split(":")[0]) for model, each in lost.items()} == {
        model: (1, f"model {model!r} has no scripted answer") for model in (CHEAP, DEAR)
    }
    assert all(0 < each["again_at"] - each["at"] <= 5.01 for each in lost.values())
    assert 0.07 < low < 0.5 < high < 0.93
    assert status == {
        "version": 1,
        "state": str(state),
        "alpha": 0.75,
        "sla_met": False,
        "standing": {"judged": 3, "attained": 0.5, "queue": 0.75, "certificate": 0.5},
        "answered": 4,
        "pending": 1,
        "unanswered": 1,
        "explored": 0,
        "forced": 4,
        "asks": 1.0,
        "cost_total": 3 + 40 + 40 + 3,
        "cost_unit": "USD",
        "meters": ["stated: USD per prompt token and per generated token, from zoo.yaml"],
        "costliest": DEAR,
        "cost_vs_costliest": 86 / 160,
        "served": {CHEAP: 2, DEAR: 2},
        "model_share": {CHEAP: 0.5, DEAR: 0.5},
        "refused": {},
        "pruned": None,
    }
    assert run(["status"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for words in (
        str(state), f"broken: α = 0.75 is the least share of satisfying answers; policy {policy}",
        "4 requests: the user chose the model",
        f"0.5000 over 3 with feedback (95 %: {low:.4f} to {high:.4f})",
        "0.750: at most this many satisfying answers are missing from α",
        "0.5000: at least this share was attained, for certain",
        "4 answered, 1 with pending feedback, 1 unanswered",
        "86 USD, 0.537 of what dear alone would cost for the same tokens", "served by cheap[red]", "50.0%",
    ):  # fmt: skip
        assert words in out


@pytest.mark.parametrize(("judgements", "code"), [([], 1), (["bad"], 1), (["good"], 0), (["1", "0.5"], 0)])
def test_require_sla_exits_1_below_alpha_or_without_feedback(judgements, code, ask, document, capsys, state):
    Store(state).close()
    for judgement in judgements:
        ask()
        document("feedback", judgement)
    assert run(["status", "--require-sla"]) == code
    assert run(["status"]) == 0
    capsys.readouterr()
    assert document("status", "--require-sla", code=code)["sla_met"] == ((code == 0) if judgements else None)


@pytest.mark.parametrize("made", [True, False])
def test_an_empty_state_is_shown_and_not_created(made, capsys, document, monkeypatch, state, tmp_path):
    """Either an empty state, or the default path before the first request; looking creates no file."""
    if made:
        Store(state).close()
    else:
        monkeypatch.delenv("MESSCTL_STATE")
        monkeypatch.setattr("messctl.state.store.default_path", lambda: tmp_path / "own" / "state")
    assert run(["status"]) == 0
    assert "no feedback yet" in capsys.readouterr().out
    assert run(["log"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert document("log") == []
    status = document("status")
    assert status["standing"] == {"judged": 0, "attained": None, "queue": 0.0, "certificate": None}
    assert (status["answered"], status["interval"], status["cost_vs_costliest"]) == (0, None, None)
    for arguments in (["feedback", "good"], ["export", "-o", "x.parquet"]):
        assert "no request has been answered yet" in assert_one_line(run(arguments), *capsys.readouterr())
    path = state if made else tmp_path / "own" / "state"
    assert document("reset", "--yes") == {"version": 1, "state": str(path), "forgotten": 0}
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize("place", ["typo", "deep/below/typo"])
@pytest.mark.parametrize("by", ["option", "environment"])
@pytest.mark.parametrize(
    "command", [["status"], ["log"], ["export", "-o", "x.parquet"], ["feedback", "good"], ["reset", "--yes"]]
)
def test_a_named_state_that_does_not_exist_is_reported_and_not_created(
    command, by, place, capsys, monkeypatch, tmp_path
):
    """A mistyped path is reported, and creates neither file nor folder."""
    if by == "environment":
        monkeypatch.setenv("MESSCTL_STATE", place)
    code = run([*command, *(["--state", place] if by == "option" else [])])
    out, err = capsys.readouterr()
    missing = f"{place}: there is no state; correct --state or MESSCTL_STATE, or create it with `messctl ask`\n"
    if command[0] in ("export", "feedback"):
        assert (code, out, err) == (2, "", f"messctl: {missing}")
    else:  # nothing is as good as an empty one
        assert (code, bool(out), err) == (0, True, f"messctl: warning: {missing}")
    assert os.listdir(tmp_path) == ["zoo.yaml"]


def test_log_lists_the_newest_requests(ask, document, capsys):
    ids = [ask(), ask(DEAR, "--expect", "yes"), ask()]
    got = document("log", "-n", "2")
    assert [each["request_id"] for each in got] == ids[1:]
    assert got[0] | {"asked_at": None} == {
        "version": 1,
        "request_id": ids[1],
        "asked_at": None,
        "prompt": "is it",
        "model": DEAR,
        "asked": [DEAR],
        "explored": False,
        "forced": True,
        "lost": {},
        "satisfied": 1.0,
        "cost_unit": "USD",
        "answers": {
            DEAR: {"satisfied": 1.0, "cost": 40.0, "latency_s": 0.0, "tokens_in": 2, "tokens_out": 1, "answer": "yes",
                   "logprob": None, "cost_quality": "stated", "finish": "stop", "thinking": None}
        },
        "empty": {},
    }  # fmt: skip
    assert run(["log", "--count", "1"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.split()[0] for line in out.splitlines()] == ["id", ids[2]]
    assert CHEAP in out


@pytest.mark.parametrize("number", ["0", "-1", "1.5", str(10**20)])
def test_a_bad_count_is_refused(number, capsys):
    assert_one_line(run(["log", "-n", number]), *capsys.readouterr())


@pytest.mark.slow
@pytest.mark.parametrize("judged", [0, 12, 24])
def test_a_replay_of_the_export_agrees_with_status(judged, document, tmp_path, policy):
    """Chosen by the router and by the user, graded and judged late, corrected, and some never."""
    rng = random.Random(judged)
    ids = []
    for row in range(24):
        extra = ["--model", rng.choice((CHEAP, DEAR))] if row % 2 else []
        extra += ["--expect", "yes"] if judged and row % 8 == 0 else []
        ids.append(document("ask", f"is it {row}", *extra)["request_id"])
    for request_id in rng.sample(ids, judged):
        document("feedback", request_id, str(rng.choice((0, 0.3, 1))))
    assert document("export", "-o", "log.parquet") == {"version": 1, "output": "log.parquet", "rows": 24, "pruned": 0}
    status = document("status")
    (replayed,) = document("replay", "log.parquet", "--policy", "logged")["results"]
    standing = status["standing"]
    assert replayed["requests"] == status["answered"] == 24
    assert replayed["queue_final"] == standing["queue"]
    for ours, theirs in (("attained", standing["attained"]), ("certificate", standing["certificate"])):
        assert replayed[ours] == (None if theirs is None else pytest.approx(theirs, abs=1e-12))
    assert replayed["total_cost"] == pytest.approx(status["cost_total"])
    assert replayed["cost_vs_costliest"] == pytest.approx(status["cost_vs_costliest"])
    assert replayed["explored"] == pytest.approx(status["explored"] / 24)
    assert replayed["sla_met"] == status["sla_met"]
    assert {model: share for model, share in replayed["model_share"].items() if share} == pytest.approx(
        status["model_share"]
    )


def test_the_export_has_prompts_answers_costs_and_feedback(ask, document, tmp_path):
    ids = [ask(DEAR), ask()]
    document("feedback", ids[1], "0.5")
    document("export", "-o", "log.parquet")
    first, second = pq.read_table("log.parquet").to_pylist()
    assert (first["request_id"], first["served"], first["propensity"]) == (ids[0], DEAR, None)
    assert (first["judged"], first[f"satisfied/{DEAR}"], first[f"cost/{DEAR}"]) == (None, None, 40.0)
    assert (second["judged"], second[f"satisfied/{CHEAP}"], second[f"cost/{DEAR}"]) == (1, 0.5, None)
    assert second[f"answer/{CHEAP}"] == "maybe"


@pytest.mark.parametrize(
    ("output", "message"),
    [("x.parquet", "no request has been answered yet; nothing to export"), (".", "is a directory"),
     ("no/x.parquet", "the folder no does not exist")],
)  # fmt: skip
def test_an_export_that_cannot_be_written_is_refused(output, message, capsys, state, tmp_path):
    Store(state).close()
    assert message in assert_one_line(run(["export", "-o", output]), *capsys.readouterr())
    assert sorted(path for path in os.listdir(tmp_path) if not path.startswith("state")) == ["zoo.yaml"]


@pytest.mark.parametrize(
    ("output", "message"),
    [("state", "is read by the same command"), ("./state-wal", "is read by the same command"),
     ("state-shm", "is read by the same command"), ("NAMED-chat", "is read by the same command"),
     ("link", "is read by the same command"), ("zoo.yaml", "exists and is not a Parquet file")],
)  # fmt: skip
@pytest.mark.parametrize("named", ["state", "link"])
def test_an_export_does_not_replace_other_files(named, output, message, ask, capsys, state, tmp_path):
    ask()
    (tmp_path / "link").symlink_to("state")
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.suffix or path == state}
    assert message in assert_one_line(
        run(["export", "-o", output.replace("NAMED", named), "--state", named]), *capsys.readouterr()
    )
    assert {path: path.read_bytes() for path in before} == before
    assert (tmp_path / "link").is_symlink()


def test_an_export_replaces_an_older_export(ask, document):
    for requests in (1, 2):
        ask()
        assert document("export", "-o", "log.parquet")["rows"] == requests
    assert pq.read_table("log.parquet").num_rows == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "value", "why"),
    [("shape", "7,7", "its pieces do not fill its shape"), ("data", b"12345", "its pieces do not fill its shape"),
     ("type", "float65", "not understood"), ("type", "object", "not a type of numbers"),
     ("shape", "x", "invalid literal"),
     ("model", "gone", "nothing else is known of that model")],
)  # fmt: skip
def test_a_damaged_array_is_reported_and_reset_helps(column, value, why, ask, capsys, document, state, policy):
    """Every command that needs it reports it, and `doctor` too; the log can be exported, and a reset repairs it."""
    ask(CHEAP, "--expect", "maybe")
    with closing(sqlite3.connect(state)) as database, database:
        array = "(SELECT max(rowid) FROM arrays WHERE policy = ? AND model <> '')"
        changed = database.execute(f"UPDATE arrays SET {column} = ? WHERE rowid = {array}", (value, policy))
        assert changed.rowcount == 1
    error = assert_one_line(run(["ask", "is it"]), *capsys.readouterr())
    assert f"{state}: the array " in error
    assert why in error
    assert "restore a copy, or export the log with `messctl export` and start again with `messctl reset`" in error
    assert [why in problem for problem in check(state)] == [True]
    assert run(["doctor", "--state", str(state)]) == 2
    assert "✗ state: " in capsys.readouterr().out
    assert document("export", "-o", "log.parquet")["rows"] == 1
    document("reset", "--yes")
    ask()
    assert_sound(state, requests=1)


def test_reset_asks_first_and_forgets_everything(ask, capsys, document, state, policy):
    ask(CHEAP, "--expect", "maybe")
    error = assert_one_line(run(["reset"]), *capsys.readouterr())
    assert "standard input is not a terminal; give --yes" in error
    assert_sound(state, requests=1)
    assert document("reset", "--yes") == {"version": 1, "state": str(state), "forgotten": 1}
    with Store(state) as store:
        assert (store.policy.snapshot().decided, dict(store.policy.snapshot().models)) == (0, {})
    assert_sound(state, requests=0)
    ask()
    assert run(["reset", "-y"]) == 0
    assert capsys.readouterr().out == f"{state}: forgot 1 request\n"


def test_forgotten_prompts_are_not_left_in_the_file(document, state):
    secret = "the combination is 17-25-42"
    document("ask", secret * 1000, "--model", DEAR)
    document("ask", secret, "--model", DEAR)
    assert secret.encode() in state.read_bytes()
    document("reset", "--yes")
    assert not any(secret.encode() in path.read_bytes() for path in state.parent.glob("state*"))


def test_answers_of_a_removed_model_get_feedback_and_are_exported(ask, document, tmp_path, state, policy):
    """Answers of a model that is gone can still be judged, exported and listed."""
    gone = ask(DEAR)
    (tmp_path / "zoo.yaml").write_text(STATED.replace("name: dear", "name: new"))
    assert document("feedback", gone, "bad")["queue"] == 0.75
    got = document("ask", "is it", "--model", CHEAP)
    assert (got["queue"], got["judged"]) == (0.75, 1)
    assert document("status")["served"] == {CHEAP: 1, DEAR: 1}
    assert document("export", "-o", "log.parquet")["rows"] == 2
    assert_sound(state, requests=2)


@pytest.mark.slow
def test_a_model_that_returns_to_the_zoo_keeps_what_was_learned(document, tmp_path, state, policy):
    """zoo.yaml is edited while the state lives on: what was there before comes back as it was."""
    newcomer = STATED + "- {name: new, path: new.gguf, cost: {unit: USD, prompt: 2, generated: 2}}\n"
    alone = "".join(STATED.splitlines(keepends=True)[:-1])
    before = {}
    for round_, zoo in enumerate((STATED, newcomer, alone, STATED, newcomer)):
        (tmp_path / "zoo.yaml").write_text(zoo)
        for row in range(4):
            got = document("ask", f"is it {row}", "--expect", "yes")
            assert f"name: {got['model']}," in zoo or f'"{got["model"]}"' in zoo
        with Store(state) as store:
            snapshot = store.policy.snapshot(policy)
        assert snapshot.decided == 4 * (round_ + 1)
        if zoo in (STATED, alone) and "new" in snapshot.models:
            assert snapshot.models["new"].arrays.keys() == before["new"].arrays.keys()
            for name, array in snapshot.models["new"].arrays.items():
                assert array.tobytes() == before["new"].arrays[name].tobytes()
        before = dict(snapshot.models)
    assert set(before) == {CHEAP, DEAR, "new"}
    assert_sound(state, requests=20)
