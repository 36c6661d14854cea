"""A state that something else has changed: every command works, or says in one line which part is damaged."""

import contextlib
import json
import shutil
import sqlite3
import struct
from contextlib import closing

import numpy as np
import pytest
from live_making import STATED, assert_one_line, assert_sound, typed
from typer.main import get_command

from messctl.backends import Scripted
from messctl.cli import app, run
from messctl.state.columns import COLUMNS
from messctl.state.store import check

CHEAP, DEAR = "cheap[red]", "dear"
COMMAND_LINE = get_command(app)
"""Made once: to make it takes longer than a command."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A state with a bit of everything: grades, feedback, pending answers, an outage and an empty answer."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "zoo.yaml").write_text(STATED)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MESSCTL_STATE", str(folder / "state"))
        patch.setattr("messctl.backends.LlamaCpp", lambda **_: Scripted({CHEAP: "maybe", DEAR: "yes"}))
        typed(patch)
        asked = [run(["ask", f"is it {row}", "--expect", "yes"]) for row in range(6)]
        asked += [run(["ask", "is it", "--model", CHEAP]), run(["feedback", "good"]), run(["ask", "is it so"])]
        patch.setattr("messctl.backends.LlamaCpp", lambda **_: Scripted({CHEAP: "", DEAR: ""}))
        asked += [run(["ask", "is it empty"]), run(["ask", "is it", "--model", DEAR])]
    assert asked == [0] * 9 + [2] * 2
    assert check(folder / "state") == []
    return folder / "state"


@pytest.fixture
def state(sound, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESSCTL_STATE", str(tmp_path / "state"))
    typed(monkeypatch)
    (tmp_path / "zoo.yaml").write_text(STATED)
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: Scripted({CHEAP: "maybe", DEAR: "yes"}))
    monkeypatch.setattr("messctl.cli.app", COMMAND_LINE)
    shutil.copy(sound, tmp_path / "state")
    return tmp_path / "state"


def damage(state, statement, *values):
    with closing(sqlite3.connect(state)) as database, database:
        return database.execute(statement, values).rowcount


COMMANDS = [
    ["status"],
    ["log", "--json"],
    ["export", "-o", "log.parquet"],
    ["ask", "is it"],
    ["ask", "is it so", "--expect", "yes"],
    ["feedback", "bad"],
    ["feedback", "good"],
]


def assert_nothing_tips_it_over(state, capsys):
    """Every command works or ends with one line about the state. Return what `doctor` finds."""
    capsys.readouterr()
    for command in COMMANDS:
        code, (_, err) = run(command), capsys.readouterr()
        if code:
            line = assert_one_line(code, "", err.splitlines(keepends=True)[-1])
            assert "MESSCTL_DEBUG" not in line, (command, line)
    found = check(state)
    capsys.readouterr()
    return found


DAMAGES = [
    ("ALTER TABLE requests DROP COLUMN alpha", "the table 'requests' has no column 'alpha'"),
    ("ALTER TABLE answers DROP COLUMN cost", "the table 'answers' has no column 'cost'"),
    ("DROP TABLE feedback", "there is no table 'feedback'"),
    ("DROP TABLE served_sums", "there is no table 'served_sums'"),
    ("UPDATE requests SET asked_at = 1e300", "row 1 of 'requests' has 'asked_at' = 1e+300"),
    ("UPDATE requests SET asked_at = 'noon'", "row 1 of 'requests' has 'asked_at' = 'noon'"),
    ("UPDATE requests SET alpha = 'high' WHERE id = 3", "row 3 of 'requests' has 'alpha' = 'high'"),
    ("UPDATE requests SET asked = 'x' WHERE id = 2", "row 2 of 'requests' has 'asked' that cannot be read (Expecting"),
    ("UPDATE requests SET prompt = X'00'", "row 1 of 'requests' has 'prompt' = b'\\x00'"),
    ("UPDATE requests SET prompt = CAST(X'ff41' AS TEXT)", "ould not decode to UTF-8"),
    ("UPDATE answers SET cost = 9e999", "row 1 of 'answers' has 'cost' = inf"),
    ("UPDATE answers SET tokens_in = 'many'", "row 1 of 'answers' has 'tokens_in' = 'many'"),
    ("UPDATE feedback SET satisfied = 'good'", "row 1 of 'feedback' has 'satisfied' = 'good'"),
    ("UPDATE feedback SET satisfied = 7", "row 1 of 'feedback' has 'satisfied' = 7.0"),
    ("UPDATE feedback SET satisfied = 1 - satisfied WHERE id = 1", "the queue is "),
    ("UPDATE router SET balance = balance + 1000", "the balance is "),
    ("UPDATE router SET queue = 'much'", "row 1 of 'router' has 'queue' = 'much'"),
    ("UPDATE router SET queue = -1", "row 1 of 'router' has 'queue' = -1.0"),
    ("UPDATE router SET decided = 9223372036854775807", "row 1 of 'router' has 'decided' = 9223372036854775807"),
    ("UPDATE router SET decided = decided + 1", "decisions are counted, but the last one in the log is number "),
    ("UPDATE models SET mean_cost = 'dear'", "row 1 of 'models' has 'mean_cost' = 'dear'"),
    ("UPDATE attempts SET outcome = '{' WHERE outcome IS NOT NULL", "has an outcome that cannot be read (Expecting"),
    (
        "UPDATE attempts SET outcome = '[1]' WHERE outcome IS NOT NULL",
        "(the outcome of an attempt has no 'answer')",
    ),
    ("UPDATE outages SET until = 'never'", "row 1 of 'outages' has 'until' = 'never'"),
    ("UPDATE served_sums SET requests = requests + 5", "the sum 'requests' of "),
    ("UPDATE answer_sums SET cost = cost * 2", "the sum 'cost' of "),
    ("UPDATE answer_sums SET cost = 'x'", "row 1 of 'answer_sums' has 'cost' = 'x'"),
    ("DELETE FROM feedback_sums", "the sum 'judged' of "),
    ("DELETE FROM attempt_sums", "are counted as 0, but the log has "),
    ("UPDATE request_sums SET requests = 0", "the sum 'requests' of "),
    ("UPDATE requests SET others = 3 WHERE id = 2", "1 requests have another count of the decisions"),
    (
        "UPDATE requests SET served = 'nobody' WHERE id = 2",
        "1 requests have answers, but none of the model that",
    ),
    (
        f"INSERT INTO checkpoints VALUES (2, X'{struct.pack('<4d', 2.0, 0.5, 0.0, 0.0).hex()}')",
        "1 checkpoints of the queue are not what its recursion gives",
    ),
    (
        f"INSERT INTO checkpoints VALUES (2, X'{struct.pack('<4d', 3.0, 0.5, 0.0, 0.0).hex()}')",
        "the checkpoints of the queue from feedback 2 on hold what they cannot",
    ),
    ("INSERT INTO checkpoints VALUES (2, X'00')", "the checkpoints of the queue from feedback 2 on have 1 bytes"),
    ("INSERT INTO steps VALUES (2, X'00')", "1 blocks of packed steps are not those of the feedback"),
    ("PRAGMA user_version = -3", "its version is -3"),
    ("PRAGMA user_version = 3", "table attempts already exists; it is damaged"),
]


@pytest.mark.parametrize(("statement", "problem"), DAMAGES)
def test_damage_is_told_in_one_line_and_found_by_the_check(statement, problem, state, capsys, document):
    damage(state, statement)
    found = check(state)
    assert any(problem in each for each in found), found
    assert_nothing_tips_it_over(state, capsys)
    if "version" not in statement:
        document("reset", "--yes")
        assert run(["ask", "is it"]) == 0
        assert_sound(state, requests=1)


LAST_CHECKPOINT = f"INSERT INTO checkpoints VALUES (2, X'{struct.pack('<4d', 3.0, 0.5, 0.0, 0.0).hex()}')"


@pytest.mark.parametrize("arguments", [[], ["--expect", "yes"], ["--model", DEAR]])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE served_sums SET explored = 'x'",
        "UPDATE answer_sums SET tokens_in = -1",
        "UPDATE feedback_sums SET alpha = 'x'",
        "UPDATE feedback_sums SET satisfied = 1e300",
        "UPDATE arrays SET shape = '-1'",
        "UPDATE models SET mean_cost = 'x'",
        LAST_CHECKPOINT,
    ],
)
def test_no_model_is_asked_and_paid_if_the_state_cannot_take_its_answer(
    statement, arguments, state, capsys, monkeypatch
):
    asked = []
    monkeypatch.setattr(Scripted, "complete", lambda *given: asked.append(given))
    damage(state, statement)
    assert "is damaged" in assert_one_line(run(["ask", "is it", *arguments]), *capsys.readouterr())
    assert asked == []


def test_an_error_about_a_damaged_row_is_short_whatever_the_row_holds(state, capsys):
    damage(state, "UPDATE arrays SET shape = ?", "7" * 100_000)
    assert len(assert_one_line(run(["ask", "is it"]), *capsys.readouterr())) < 1000
    assert all(len(problem) < 1000 for problem in check(state))


@pytest.mark.slow
def test_doctor_reports_a_damaged_state(state, capsys):
    (decided,) = cells(state, "router", "decided")
    damage(state, "UPDATE router SET balance = balance + 1000, decided = decided + 1")
    assert run(["doctor", "--json"]) == 2
    findings = json.loads(capsys.readouterr().out)["findings"]
    found = [each["text"] for each in findings if each["subject"] == "state"]
    assert [text.split(" is ")[0] for text in found] == [
        "the balance", f"{decided + 1} decisions are counted, but the last one in the log",
    ]  # fmt: skip


def test_an_array_that_holds_nan_is_found(state, capsys):
    with closing(sqlite3.connect(state)) as database, database:
        rows = database.execute("SELECT rowid, name, length(data) / 8 FROM arrays WHERE type = '<f8'").fetchall()
    sound = state.read_bytes()
    for rowid, name, length in rows:
        state.write_bytes(sound)
        values = np.ones(length)
        values[-1] = np.nan
        damage(state, "UPDATE arrays SET data = ? WHERE rowid = ?", values.tobytes(), rowid)
        (found,) = check(state)
        assert f"the array {name!r}" in found
        assert "is damaged (it holds what is not a number); restore a copy" in found
    capsys.readouterr()
    assert "it holds what is not a number" in assert_one_line(run(["ask", "is it"]), *capsys.readouterr())


@pytest.mark.parametrize("value", [-1e300, -1.0, 0.0, 1e300, np.inf, -np.inf])
def test_numbers_that_nobody_can_have_learned_do_not_tip_it_over(value, state, capsys):
    with closing(sqlite3.connect(state)) as database:
        rows = database.execute("SELECT rowid, length(data) / 8 FROM arrays WHERE type = '<f8'").fetchall()
    sound = state.read_bytes()
    for rowid, length in rows:
        state.write_bytes(sound)
        damage(state, "UPDATE arrays SET data = ? WHERE rowid = ?", np.full(length, value).tobytes(), rowid)
        assert_nothing_tips_it_over(state, capsys)


VALUES = ["x", b"\0", 1e300, -1, 0, 0.5]


def cells(state, table, column):
    """Return what a column holds."""
    with closing(sqlite3.connect(state)) as database:
        return [row[0] for row in database.execute(f"SELECT {column} FROM {table}")]


@pytest.mark.slow
@pytest.mark.parametrize("table", COLUMNS)
def test_no_value_in_any_column_tips_it_over(table, state, sound, capsys):
    """Also no dropped column, and no dropped table. What no column of this kind may hold, `doctor` finds."""
    for column, holds in COLUMNS[table].items():
        for value in VALUES:
            shutil.copy(sound, state)
            try:
                damage(state, f"UPDATE OR IGNORE {table} SET {column} = ?", value)
                stored = cells(state, table, column)
            except sqlite3.Error:
                continue
            found = assert_nothing_tips_it_over(state, capsys)
            assert found or all(map(holds, stored)), (table, column, value)
        with contextlib.suppress(sqlite3.Error):
            damage(state, f"UPDATE OR IGNORE {table} SET {column} = CAST(X'ff' AS TEXT)")
            assert_nothing_tips_it_over(state, capsys)
        shutil.copy(sound, state)
        try:
            damage(state, f"ALTER TABLE {table} DROP COLUMN {column}")
        except sqlite3.Error:  # part of a key
            continue
        assert assert_nothing_tips_it_over(state, capsys)
    shutil.copy(sound, state)
    damage(state, f"DROP TABLE {table}")
    assert assert_nothing_tips_it_over(state, capsys)
