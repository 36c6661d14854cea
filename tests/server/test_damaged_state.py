"""A state in a file that is damaged or taken away while a server runs: 503, one line in its output, and it goes on."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from serving import TWO, Serving

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
