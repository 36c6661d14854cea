"""`messctl state`, and the key `state` of zoo.yaml."""

import os
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from live_making import STATED, assert_one_line, assert_sound, typed

from messctl.backends import Scripted
from messctl.cli import run
from messctl.state.store import Store, check


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """Two models in ./zoo.yaml, whose answers are scripted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESSCTL_STATE", str(tmp_path / "state"))
    typed(monkeypatch)
    (tmp_path / "zoo.yaml").write_text(STATED)
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: Scripted({"cheap[red]": "maybe", "dear": "yes"}))
    return tmp_path / "state"


@pytest.fixture
def asked(document, state):
    """Ask and judge as many requests, some days apart, the oldest first; return their ids."""

    def ask(count):
        ids = [document("ask", f"secret {number}", "--model", "dear")["request_id"] for number in range(count)]
        for request_id in ids[::2]:
            document("feedback", request_id, "good")
        aged(state, count)
        return ids

    return ask


def refused(capsys, line, complaint):
    """See that a command ends with one line on stderr, which says what is wrong."""
    code = run(line)
    out, err = capsys.readouterr()
    assert complaint in assert_one_line(code, out, err)


def aged(state, count):
    with closing(sqlite3.connect(state)) as opened:
        for number in range(count):
            at = time.time() - 86_400 * (count - number) + 3600
            opened.execute("UPDATE requests SET asked_at = ? WHERE id = ?", (at, number + 1))
        opened.commit()


def test_a_backup_is_the_state_in_one_file_that_only_its_owner_may_read(asked, document, state, tmp_path):
    asked(3)
    got = document("state", "backup", "copy")
    assert (got["requests"], got["bytes"]) == (3, (tmp_path / "copy").stat().st_size)
    assert sorted(each.name for each in tmp_path.iterdir() if each.name.startswith("copy")) == ["copy"]
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    assert check(tmp_path / "copy") == []
    before = document("status") | {"state": ""}
    assert document("status", "--state", "copy") | {"state": ""} == before
    document("ask", "more", "--state", "copy")
    assert document("status") | {"state": ""} == before


def test_a_backup_replaces_a_file_only_if_it_is_told_to(asked, capsys, tmp_path, state):
    asked(1)
    (tmp_path / "copy").write_text("mine")
    refused(capsys, ["state", "backup", "copy"], "copy: exists already; add --overwrite to replace it")
    assert (tmp_path / "copy").read_text() == "mine"
    assert run(["state", "backup", "copy", "--overwrite"]) == 0
    assert check(tmp_path / "copy") == []


@pytest.mark.parametrize("log", ["copy-wal", "copy-journal"])
def test_a_backup_is_not_put_beside_the_log_of_another_file(log, asked, capsys, tmp_path, state):
    asked(1)
    (tmp_path / log).write_text("pages of another file")
    refused(capsys, ["state", "backup", "copy", "--overwrite"], "belongs to an older file 'copy'")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["backup", "state", "--overwrite"], "is read by the same command"),
        (["backup", "no/such/folder"], "does not exist; create it"),
        (["backup", "copy", "--state", "nowhere"], "there is no state"),
        (["prune", "--keep", "90"], "must be a number and a unit"),
        (["prune", "--keep", "-1d"], "must be a number and a unit"),
        (["prune", "--keep", "nan"], "must be a number and a unit"),
        (["prune", "--keep", "99999999d"], "at most 36500d"),
        (["prune"], "nothing says how long to keep requests"),
        (["prune", "--keep", "90d", "--state", "nowhere"], "there is no state"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(asked, capsys, arguments, complaint, state):
    asked(1)
    before = state.read_bytes()
    refused(capsys, ["state", *arguments], complaint)
    assert state.read_bytes() == before


@pytest.mark.parametrize("arguments", [["copy", "state", "loop"], ["copy", "loop", "x"], ["backup", "loop"]])
def test_a_link_that_leads_to_itself_is_one_line(asked, capsys, tmp_path, arguments):
    asked(1)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    code = run(["state", *arguments])
    line = assert_one_line(code, *capsys.readouterr())
    assert "loop" in line
    assert "MESSCTL_DEBUG" not in line


def test_a_damaged_state_is_not_backed_up(asked, capsys, state, tmp_path):
    asked(2)
    with closing(sqlite3.connect(state)) as opened:
        opened.execute("UPDATE router SET queue = 99.5")
        opened.commit()
    refused(capsys, ["state", "backup", "copy"], "a copy of it is not sound (the queue is 99.5")
    assert not [each for each in tmp_path.iterdir() if "copy" in each.name]


def test_a_backup_of_a_state_whose_tables_are_others_names_no_temporary_file(asked, capsys, state, tmp_path):
    asked(1)
    with closing(sqlite3.connect(state)) as opened:
        opened.executescript("ALTER TABLE copying RENAME TO old; CREATE VIEW copying AS SELECT * FROM nowhere")
    code = run(["state", "backup", "copy"])
    error = assert_one_line(code, *capsys.readouterr())
    assert f"{state}: a copy of it is not sound (no such table" in error
    assert ".part" not in error
    assert not (tmp_path / "copy").exists()


def test_a_backup_is_whole_while_others_write(asked, state, tmp_path):
    """Each copy is of one moment: it has as many answers as requests, and is sound."""
    asked(2)
    ended = threading.Event()

    def write():
        from long_states import judged

        with Store(state) as store:
            number = 0
            while not ended.is_set():
                judged(store, [(0.75, 1.0)], first=1000 + number)
                known = store.policy.snapshot()
                number += 1
                del known

    from messctl.state import backup

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            target = tmp_path / f"copy{number}"
            backup._copy(state, target)
            with Store(target, looking=True) as copy:
                count = copy._database.row("SELECT count(*) FROM requests")[0]
                assert copy.requests.count() == count
                assert copy.requests.sums.check() == []
    finally:
        ended.set()
        writer.join()


def test_a_prune_deletes_old_requests_and_says_what_is_left(asked, document, capsys, state):
    ids = asked(5)
    before = document("status")
    assert document("state", "prune", "--keep", "60h", "--dry-run") | {"before": 0.0} == {
        "version": 1, "state": str(state), "before": 0.0, "pruned": 3, "left": 5, "dry_run": True
    }  # fmt: skip
    assert document("state", "prune", "--keep", "60h")["pruned"] == 3
    after = document("status")
    assert (after["pruned"]["requests"], after["pruned"]["pending"]) == (3, 1)
    assert after | {"pruned": None} == before
    assert [each["request_id"] for each in document("log")] == ids[3:]
    assert document("export", "-o", "live.parquet")["pruned"] == 3
    assert b"secret 2" not in state.read_bytes()
    assert b"secret 3" in state.read_bytes()
    assert_sound(state, requests=2)
    refused(capsys, ["feedback", ids[0], "good"], f"unknown request id '{ids[0]}'; requests from before")
    document("feedback", ids[3], "bad")
    document("feedback", ids[4], "bad")
    assert_sound(state, requests=2)


def test_commands_on_a_state_without_any_request_left_say_so(asked, document, capsys, state):
    asked(2)
    document("state", "prune", "--keep", "0m")
    assert document("log") == []
    for line, complaint in (
        ("export -o live.parquet", "were pruned; nothing to export"),
        ("feedback good", "no answered request is in the log; requests from before"),
        ("warm trace.parquet", "has requests, and has learned from them"),
        ("evaluate state", "no request was routed by a policy"),
    ):
        refused(capsys, line.split(), complaint)
    assert document("ask", "again", "--model", "dear")["judged"] == 1
    assert document("reset", "--yes")["forgotten"] == 3


@pytest.mark.parametrize(
    "text",
    [
        "state: here.sqlite",
        "state: {path: here.sqlite}",
        "state: {path: here.sqlite, keep: 90d}",
        "state: ./here.sqlite",
    ],
)
def test_the_zoo_says_where_the_state_is(text, document, monkeypatch, tmp_path):
    """Relative to the zoo; the option and the variable go before it, and every command finds it."""
    (tmp_path / "zoo.yaml").write_text(f"{text}\n{STATED}")
    document("ask", "one")
    assert document("status")["state"] == str(tmp_path / "state")
    monkeypatch.delenv("MESSCTL_STATE")
    request_id = document("ask", "two")["request_id"]
    assert document("status")["state"] == str(tmp_path / "here.sqlite")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    zoo = ("--zoo", "../zoo.yaml")
    assert [each["request_id"] for each in document("log", *zoo)] == [request_id]
    assert document("feedback", "good", *zoo)["request_id"] == request_id
    assert document("export", "-o", "live.parquet", *zoo)["rows"] == 1
    assert document("state", "backup", "copy", *zoo)["requests"] == 1
    assert document("reset", "--yes", *zoo)["forgotten"] == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("state: [a]", "line 1: state is a list; it must be one value"),
        ("state: {keep: 90}", "line 1: state.keep is 90; it must be 'forever' or a number and a unit"),
        ("state: {keep: 0d}", "at least 1h"),
        ("state: {keep: soon}", "state.keep is 'soon'"),
        ("state: {paht: x}", "unknown key 'paht' in state (did you mean 'path'?)"),
        ("state: {path: x, url: 'postgresql://h/d'}", "state has both a path and a url"),
        ("state: {url: 'mysql://me:hidden@h/d'}", "state.url must be the address of a PostgreSQL database"),
        ("state: 'postgresql:/me:hidden@h/d'", "state must be a path, or the address of a PostgreSQL database"),
        ("state: ' '", "must be text that is not blank"),
        ("state: 7", "state is 7; it must be text"),
    ],
)
def test_a_wrong_state_in_the_zoo_is_named_with_its_line(text, complaint, capsys, tmp_path, monkeypatch):
    (tmp_path / "zoo.yaml").write_text(f"{text}\n{STATED}")
    monkeypatch.delenv("MESSCTL_STATE")
    for line in ("log", "ask hello", "state prune --keep 1d", "reset --yes"):
        assert run(line.split()) == 2
        error = capsys.readouterr().err
        assert complaint in error
        assert "hidden" not in error


def test_old_requests_go_by_themselves_after_an_answer(asked, document, state, tmp_path):
    """At most once a day, unless some went: then there may be more of them."""
    ids = asked(4)
    (tmp_path / "zoo.yaml").write_text(f"state: {{keep: 2d}}\n{STATED}")
    ids.append(document("ask", "new", "--model", "dear")["request_id"])
    assert [each["request_id"] for each in document("log")] == ids[2:]
    ids.append(document("ask", "newer", "--model", "dear")["request_id"])
    aged(state, 6)
    ids.append(document("ask", "newest", "--model", "dear")["request_id"])
    assert [each["request_id"] for each in document("log")] == ids[2:]
    with closing(sqlite3.connect(state)) as opened:
        opened.execute("UPDATE pruned SET looked_at = looked_at - 86400")
        opened.commit()
    ids.append(document("ask", "last", "--model", "dear")["request_id"])
    assert [each["request_id"] for each in document("log")] == ids[4:]
    assert check(state) == []


def test_nothing_goes_by_itself_from_a_state_that_is_not_written(asked, document, state, tmp_path):
    asked(3)
    (tmp_path / "zoo.yaml").write_text(f"state: {{keep: 1h}}\n{STATED}")
    before = state.read_bytes()
    document("ask", "new", "--no-log")
    document("status")
    assert state.read_bytes() == before


def test_an_answer_is_given_even_if_old_requests_cannot_go(asked, capsys, state, tmp_path):
    asked(3)
    (tmp_path / "zoo.yaml").write_text(f"state: {{keep: 1h}}\n{STATED}")
    with closing(sqlite3.connect(state)) as opened:
        opened.execute("CREATE TRIGGER no BEFORE DELETE ON requests BEGIN SELECT RAISE(ABORT, 'not now'); END")
        opened.commit()
    assert run(["ask", "new", "--model", "dear"]) == 0
    out, err = capsys.readouterr()
    assert (out, "not now" in err) == ("yes\n", True)


def test_a_server_lets_old_requests_go_beside_its_answers(asked, state):
    from messctl.live.retention import pruned_beside

    asked(3)
    told = []
    with Store(state) as store, pruned_beside([store], 36 * 3600.0, told.append):
        ended = time.monotonic() + 30
        while store.pruning.left() > 1 and time.monotonic() < ended:
            time.sleep(0.05)
    assert told == []
    assert check(state) == []
    with Store(state, looking=True) as store:
        assert store.pruning.left() == 1


def test_the_state_of_a_zoo_that_others_can_change_is_warned_of(capsys, tmp_path, monkeypatch):
    if os.name != "posix":
        pytest.skip("no modes here")
    monkeypatch.delenv("MESSCTL_STATE")
    path = Path("zoo.yaml")
    path.write_text(f"state: here\n{STATED}")
    path.chmod(0o666)
    assert run(["log"]) == 0
    assert capsys.readouterr().err.count("can be changed by everybody") == 1
