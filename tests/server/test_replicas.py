"""Two real servers on one state: either answers for both, and both get over a database that goes away."""

from __future__ import annotations

import pytest
from postgres_making import PostgresServer, programs
from replicas_campaign import campaign
from serving import TWO, Serving

from messctl.server.keys import hash_of
from messctl.state.place import Address
from messctl.state.store import Store, check

KEY = "a key of search"
TENANTS = f"""
tenants:
- {{name: search, key_hash: "{hash_of(KEY)}", alpha: 0.9, margin: 0.01}}
- {{name: batch, key_hash: "{hash_of("another")}", models: [cheap]}}
"""
BEARER = {"Authorization": f"Bearer {KEY}"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(programs() is None, reason="no PostgreSQL server is installed: apt-get install postgresql"),
]


def ask(serving):
    body = {"model": "auto", "messages": [{"role": "user", "content": "What is 1 + 1?"}]}
    return serving.ask("/v1/chat/completions", body, BEARER)


def judge(serving, answer, value):
    return serving.ask("/v1/feedback", {"id": answer["id"], "value": value}, BEARER)


def standing(serving):
    return serving.ask("/v1/status", None, BEARER)[2]["standing"]


def test_killed_servers_and_a_crashing_database_lose_nothing_that_was_acknowledged(tmp_path):
    pytest.importorskip("uvicorn")
    clients, found = campaign(tmp_path, seconds=10, kills=3, crashes=2, seed=3)
    assert found == []
    assert sum(len(client.acknowledged) for client in clients) > 0


def test_two_replicas_keep_one_promise_and_get_over_a_database_that_goes_away(tmp_path):
    pytest.importorskip("uvicorn")
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    with PostgresServer(durable=True) as server:
        place = server.fresh()
        options = ("--state", f"{server.url}?schema={place.schema}")
        one, other = (Serving(folder, TWO + TENANTS, *options, scripted=0) for folder in folders)
        with one, other:
            answers = [ask(replica)[2] for replica in (one, other) for _ in range(3)]
            for number, answer in enumerate(answers):  # either takes feedback on what the other has answered
                status, _, said = judge((one, other)[number % 2], answer, number % 3 / 2)
                assert (status, said["judged"]) == (200, number + 1)
            assert standing(one) == standing(other)
            assert standing(one)["judged"] == len(answers)

            server.stop("immediate")
            for replica in (one, other):
                status, _, refused = ask(replica)
                assert (status, refused["error"]["code"]) == (503, "state_unavailable")
                assert "see that the server runs" in refused["error"]["message"]
                assert "s3cret" not in str(refused)
                assert judge(replica, answers[0], 1.0)[0] == 503
            server.start()
            assert [ask(replica)[0] for replica in (one, other)] == [200, 200]
            assert standing(other)["judged"] == len(answers)

            one.process.kill()
            one.process.wait()
            status, _, answer = ask(other)
            assert (status, judge(other, answer, 1.0)[2]["judged"]) == (200, len(answers) + 1)
            said = other.stop()
            assert "s3cret" not in said
        tenant = place.of_tenant("search")
        assert [check(each) for each in (place, tenant, place.of_tenant("batch"))] == [[], [], []]
        with Store(tenant, looking=True) as store, Store(Address(server.url, place.schema), looking=True) as common:
            assert store.requests.count() == len(answers) + 3
            assert common.requests.count() == 0
