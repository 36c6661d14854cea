"""A state in a file that is damaged or taken away while a server runs: 503, one line in its output, and it goes on."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from serving import TWO, Serving, until

from messctl.state.store import check

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow


def drop(state):
    with closing(sqlite3.connect(state)) as database, database:
        database.execute("ALTER TABLE requests RENAME COLUMN prompt TO text")


def restore(state):
    with closing(sqlite3.connect(state)) as database, database:
        database.execute("ALTER TABLE requests RENAME COLUMN text TO prompt")


def move(state):
    state.rename(state.with_name("away"))


def put_back(state):
    state.with_name("away").rename(state)


@pytest.mark.parametrize(
    ("damage", "mend", "line"),
    [
        (drop, restore, "has no column named prompt; it is damaged"),
        (move, put_back, "deleted, moved or replaced while it was open; put it back"),
    ],
)
def test_a_state_that_cannot_be_used_is_503_and_said_once_until_it_is_mended(damage, mend, line, tmp_path):
    with Serving(tmp_path, TWO, scripted=0) as serving:
        first = serving.chat()[2]["id"]
        damage(serving.state)
        for _ in range(3):
            status, _, document = serving.chat()
            assert (status, document["error"]["code"]) == (503, "state_unavailable")
            assert line in document["error"]["message"]
        assert serving.ask("/healthz")[0] == 200
        mend(serving.state)
        assert serving.chat()[0] == 200
        assert serving.ask("/v1/feedback", {"id": first, "value": 1})[0] == 200
        said = [each for each in serving.stop().splitlines() if line in each]
        assert len(said) == 1
        assert said[0].startswith(f"messctl: {serving.state}: ")
    assert check(serving.state) == []


def test_a_server_is_not_ready_while_its_file_is_away_and_says_why_only_to_whom_it_may_concern(tmp_path):
    from messctl.server.keys import hash_of

    with_keys = f"{TWO}tenants:\n- {{name: search, key_hash: '{hash_of('the key of search')}'}}\n"
    for folder, zoo, state, reason in (
        ("open", TWO, "state", "deleted, moved or replaced while it was open; put it back"),
        ("keyed", with_keys, "state-search", "the state cannot be used now; the server's own output says why"),
    ):
        (tmp_path / folder).mkdir()
        with Serving(tmp_path / folder, zoo, scripted=0) as serving:
            assert serving.ask("/readyz")[0] == 200
            place = tmp_path / folder / state
            move(place)
            until(lambda serving=serving: serving.ask("/readyz")[0] == 503)
            assert reason in serving.ask("/readyz")[2]["reason"]
            put_back(place)
            until(lambda serving=serving: serving.ask("/readyz")[0] == 200)
            assert "deleted, moved or replaced while it was open" in serving.stop()
