"""Copies of a state: complete, the same to the last bit, and finished if they were interrupted."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from live_making import assert_one_line
from long_states import HOUR, WITHOUT_SUMS, judge, judged, logged, older_state, pruned, settle, the_whole

from messctl.cli import run
from messctl.errors import StoreError, UsageError
from messctl.state import copying, judgements
from messctl.state.copying import COPIED, MARK, copy, end
from messctl.state.store import Store


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(copying, "PAGE", 7)
    monkeypatch.setattr(judgements, "BLOCK", 8)


def filled(store, size=40, seed=3):
    """Write requests of every kind, prune some, and learn a little."""
    rng = random.Random(seed)
    for number in range(size):
        fate = rng.choice(["answered", "answered", "answered", "empty", "failed", "nothing"])
        drawn = {"policy": "bandit", "forced": False, "hour": 0, "model": rng.choice("ab"), "fate": fate}
        logged(store, number, drawn | {"alpha": 0.8, "cost": rng.random()})
        if fate == "answered" and rng.random() < 0.8:
            judge(store, number, rng.random())
            with store.transaction():
                store.requests.remark(f"r{number}", "a remark with \0 and \x1a", "me")
    with store.transaction():
        settle(store)


def contents(store):
    found = {}
    for table in COPIED:
        names = sorted(store.database.form(table))
        rows = store.database.rows(f"SELECT {', '.join(names)} FROM {table}")
        found[table] = sorted(map(repr, map(tuple, rows)))
    return found


def ended(source, target):
    copy(source.database, target.database)
    end(target.database)


def test_a_copy_and_its_copy_back_are_the_same(small, place, tmp_path):
    """From a file to the other database, and from there to a file, with all that numbers come from."""
    with Store(tmp_path / "first") as first, Store(place) as second, Store(tmp_path / "third") as third:
        filled(first)
        pruned(first, 1e9 + HOUR * 1500)
        ended(first, second)
        ended(second, third)
        assert contents(first) == contents(second) == contents(third)
        assert first.database.last_ids() == second.database.last_ids() == third.database.last_ids()
        for store in (second, third):
            assert store.check() == []
            assert the_whole(store) == the_whole(first)
            judged(store, [(0.8, 1.0)], first=1000)
            newest = store.requests.newest(1)[0]
            assert newest.judged == first.database.last_ids()["feedback"] + 1


def test_numbers_are_not_given_twice_if_all_requests_were_pruned(place, tmp_path):
    with Store(tmp_path / "first") as first, Store(place) as second:
        judged(first, [(0.8, 1.0)] * 5)
        first.database.execute("UPDATE requests SET asked_at = 1.0")
        pruned(first, 2.0)
        ended(first, second)
        judged(second, [(0.8, 1.0)], first=10)
        assert second.requests.newest(1)[0].judged == 6


@pytest.mark.parametrize("stops_after", [0, 1, 5, 12, 30])
def test_a_copy_that_was_interrupted_is_finished_by_the_next(small, place, tmp_path, stops_after):
    """Whatever changed meanwhile in the source, or is left from the first time."""
    with Store(tmp_path / "first") as first:
        filled(first)
        with Store(place, begun=True) as second, pytest.raises(KeyboardInterrupt):
            left = [stops_after]

            def stop(rows):
                left[0] -= 1
                if left[0] < 0:
                    raise KeyboardInterrupt

            copy(first.database, second.database, stop)
        with pytest.raises(StoreError, match=r"is a copy of .*first that was not finished; finish it with"):
            Store(place)
        with pytest.raises(StoreError, match="not finished"):
            Store(place, looking=True)
        with Store(tmp_path / "another") as another, Store(place, begun=True) as second:
            judged(another, [(0.8, 1.0)])
            with pytest.raises(UsageError, match="is a begun copy of .*first; finish that one"):
                copy(another.database, second.database)
        pruned(first, 1e9 + HOUR * 900)
        judge(first, next(n for n in range(39, 0, -1) if _answered(first, n)), 0.25)
        with Store(place, begun=True) as second:
            ended(first, second)
            assert contents(second) == contents(first)
            assert second.check() == []
        with Store(place) as second:
            assert the_whole(second) == the_whole(first)


@pytest.mark.parametrize("size", [40, 0])
def test_what_the_source_no_longer_has_is_not_in_a_copy_that_is_finished_later(small, place, tmp_path, size):
    """Not even the newest rows, behind the last page of the source."""
    with Store(tmp_path / "first") as first, Store(place) as second:
        filled(first, 60)
        copy(first.database, second.database)
        for number in range(size, 60):
            first.database.execute("DELETE FROM requests WHERE request_id = ?", (f"r{number}",))
        assert contents(second) != contents(first)
        ended(first, second)
        assert contents(second) == contents(first)


def _answered(store, number):
    return store.requests.has(f"r{number}") and store.requests.find(f"r{number}").answers


def test_what_is_there_already_is_not_written_again(small, place, tmp_path):
    with Store(tmp_path / "first") as first, Store(place) as second:
        filled(first)
        copy(first.database, second.database)
        written = []
        execute_many = second.database.execute_many
        second.database.execute_many = lambda statement, rows: (
            written.append(statement) or execute_many(statement, rows)
        )
        copy(first.database, second.database)
        assert written == []


def test_a_place_that_holds_a_state_is_refused(tmp_path):
    with Store(tmp_path / "first") as first, Store(tmp_path / "second") as second:
        judged(first, [(0.8, 1.0)])
        judged(second, [(0.8, 1.0)])
        with pytest.raises(UsageError, match="second: is a state already; name another place, or reset it first"):
            copy(first.database, second.database)
        second.reset()
        ended(first, second)
        with pytest.raises(UsageError, match="is a state already"):
            copy(first.database, second.database)


def test_an_unsound_copy_stays_marked(tmp_path, capsys):
    with Store(tmp_path / "first") as first:
        judged(first, [(0.8, 1.0)])  # the router's own state was not saved
    code = run(["state", "copy", str(tmp_path / "first"), str(tmp_path / "second")])
    assert "the copy is not sound" in assert_one_line(code, *capsys.readouterr())
    code = run(["log", "--state", str(tmp_path / "second")])
    assert "was not finished" in assert_one_line(code, *capsys.readouterr())
    assert run(["reset", "--yes", "--state", str(tmp_path / "second")]) == 0


@pytest.mark.parametrize(
    ("source", "target", "complaint"),
    [
        ("first", "first", "is the state itself"),
        ("first", "./first", "is the state itself"),
        ("nowhere", "second", "there is no state"),
        ("first", "taken", "is a state already"),
        ("first", "other.txt", "it is no messctl state"),
        ("empty", "second", "there is no state, nothing was ever stored there"),
        ("folder", "second", "is a folder"),
        ("first", "folder", "is a folder"),
        ("first", "postgresql://a@b@c/d", "the address of the state is no URL"),
    ],
)
def test_a_copy_that_cannot_be_is_refused_in_one_line(source, target, complaint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("first", "taken"):
        with Store(tmp_path / name) as store:
            filled(store, 3)
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "other.txt").write_text("something of mine, longer than nothing" * 100)
    before = (tmp_path / "other.txt").read_bytes()
    code = run(["state", "copy", source, target])
    assert complaint in assert_one_line(code, *capsys.readouterr())
    assert (tmp_path / "other.txt").read_bytes() == before
    assert not (tmp_path / "second").exists()


def test_a_schema_without_tables_is_no_state_to_copy(postgres, tmp_path, capsys):
    url = postgres.fresh()
    code = run(["state", "copy", f"{url.url}?schema={url.schema}", str(tmp_path / "second")])
    assert "there is no state" in assert_one_line(code, *capsys.readouterr())
    assert not (tmp_path / "second").exists()


def test_a_state_of_an_older_messctl_is_not_brought_up_to_date_before_it_is_refused(tmp_path, capsys):
    with Store(tmp_path / "first") as first:
        filled(first, 3)
    older_state(tmp_path / "old", 20)
    before = (tmp_path / "old").read_bytes()
    code = run(["state", "copy", str(tmp_path / "first"), str(tmp_path / "old")])
    assert "old: is a state already; name another place" in assert_one_line(code, *capsys.readouterr())
    assert (tmp_path / "old").read_bytes() == before


def test_a_copy_that_is_interrupted_says_how_to_go_on(place, tmp_path, capsys, monkeypatch):
    """The same command finishes it."""
    with Store(tmp_path / "first") as first:
        filled(first)
    target = str(place) if isinstance(place, Path) else f"{place.url}?schema={place.schema}"
    line = ["state", "copy", str(tmp_path / "first"), target]
    with monkeypatch.context() as stopped:
        pages = copying._pages

        def few(source, form):
            yield from pages(source, form)
            if form.table == "answers":
                raise KeyboardInterrupt

        stopped.setattr(copying, "_pages", few)
        text = assert_one_line(run(line), *capsys.readouterr(), expected=130)
        assert f"interrupted; the copy at {place} is not complete; the same command finishes it" in text
    assert run(line) == 0
    assert "the copy is complete and sound" in capsys.readouterr().out


def test_the_command_copies_from_a_file_to_a_database_and_back(postgres, tmp_path, document):
    with Store(tmp_path / "first") as first:
        filled(first)
        whole = replace(the_whole(first)[0])
    url = postgres.fresh()
    address = f"{url.url}{'&' if '?' in url.url else '?'}schema={url.schema}"
    got = document("state", "copy", str(tmp_path / "first"), address)
    assert (got["requests"], "s3cret" in str(got)) == (40, False)
    assert document("state", "copy", address, str(tmp_path / "back"))["rows"] == got["rows"]
    with Store(tmp_path / "back") as back:
        assert the_whole(back)[0] == whole
        assert back.database.row(f"SELECT count(*) FROM {MARK}")[0] == 0
    assert document("state", "upgrade", "--state", str(tmp_path / "back"))["before"] == back.database.latest


def test_an_older_state_is_upgraded_apart(tmp_path, document):
    older_state(tmp_path / "old", 20)
    got = document("state", "upgrade", "--state", str(tmp_path / "old"))
    assert (got["before"], got["after"] > got["before"]) == (WITHOUT_SUMS, True)
    assert document("state", "upgrade", "--state", str(tmp_path / "old"))["before"] == got["after"]
