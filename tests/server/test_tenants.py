"""Tenants: each has its key, its promise, its state and its limit, and all learn of models together."""

import re
import sqlite3

import pytest
from serving import TWO, Serving

from messctl.cli import run
from messctl.server.keys import Keys, hash_of, new_key
from messctl.state.store import check
from messctl.zoo import load_zoo
from messctl.zoo.tenants import Tenant

KEY = "a key of search"
TENANTS = f"""
tenants:
- {{name: search, key_hash: "{hash_of(KEY)}", alpha: 0.9, margin: 0.01}}
- {{name: batch, key_env: BATCH_KEY, models: [cheap], per_minute: 3}}
"""


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def ask(serving, key, **fields):
    body = {"model": "auto", "messages": [{"role": "user", "content": "What is 1 + 1?"}], **fields}
    return serving.ask("/v1/chat/completions", body, {} if key is None else bearer(key))


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    pytest.importorskip("uvicorn")
    folder = tmp_path_factory.mktemp("tenants")
    with Serving(folder, TWO + TENANTS, scripted=0, env={"BATCH_KEY": "batch's key"}) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize(
    "key", [None, "", "wrong", KEY[:-1], KEY + "x", KEY.upper(), "ключ".encode().decode("latin-1")]
)
def test_a_wrong_key_is_refused(serving, key):
    status, headers, document = ask(serving, key)
    assert (status, document["error"]["code"]) == (401, "invalid_api_key")
    assert headers["www-authenticate"] == "Bearer"
    for path in ("/v1/models", "/v1/models/auto", "/v1/status"):
        assert serving.ask(path, None, {} if key is None else bearer(key))[0] == 401
    assert serving.ask("/v1/feedback", {"id": "x", "value": 1}, {} if key is None else bearer(key))[0] == 401


@pytest.mark.slow
def test_each_tenant_has_its_promise_its_state_and_its_feedback(serving):
    status, _, answer = ask(serving, KEY)
    assert status == 200
    judged = {"id": answer["id"], "value": 0.5}
    status, _, refused = serving.ask("/v1/feedback", judged, bearer("batch's key"))
    assert (status, refused["error"]["code"]) == (403, "not_your_answer")
    status, _, said = serving.ask("/v1/feedback", judged, bearer(KEY))
    assert (status, said["judged"], round(said["queue"], 9)) == (200, 1, 0.41)  # α + margin − 0.5
    statuses = {key: serving.ask("/v1/status", None, bearer(key))[2] for key in (KEY, "batch's key")}
    assert [each["tenant"] for each in statuses.values()] == ["search", "batch"]
    assert [each["alpha"] for each in statuses.values()] == [0.9, 0.75]
    assert [each["standing"]["judged"] for each in statuses.values()] == [1, 0]
    assert check(serving.folder / "state-search") == []


@pytest.mark.slow
def test_what_one_tenant_learns_of_costs_the_others_know(serving):
    assert ask(serving, KEY, model="dear")[0] == 200
    with sqlite3.connect(serving.folder / "state") as common:
        learned = dict(common.execute("SELECT name, cost_count FROM models"))
        assert common.execute("SELECT count(*) FROM requests").fetchone() == (0,)
    assert learned["dear"] >= 1


@pytest.mark.slow
def test_a_tenant_has_its_models_and_its_requests_per_minute(serving):
    status, _, document = serving.ask("/v1/models", None, bearer("batch's key"))
    assert [model["id"] for model in document["data"]] == ["auto", "cheap"]
    status, _, document = ask(serving, "batch's key", model="dear")
    assert (status, document["error"]["code"]) == (404, "model_not_found")
    statuses = [ask(serving, "batch's key") for _ in range(4)]
    assert statuses[0][0] == 200
    assert (statuses[-1][0], statuses[-1][2]["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(statuses[-1][1]["retry-after"]) <= 21


@pytest.mark.slow
def test_a_key_appears_neither_in_the_state_nor_in_what_is_said(tmp_path):
    pytest.importorskip("uvicorn")
    with Serving(tmp_path, TWO + TENANTS, scripted=0, env={"BATCH_KEY": "batch's key"}) as running:
        assert ask(running, KEY)[0] == 200
        assert ask(running, "no such key")[0] == 401
        said = running.stop()
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.name != "zoo.yaml")
    for key in (KEY, "batch's key", "no such key"):
        assert key not in said
        assert key.encode() not in files


def test_a_new_key_fits_the_hash_that_is_printed(capsys):
    assert run(["serve", "key", "search"]) == 0
    out, _ = capsys.readouterr()
    key, held = re.findall(r"key: (\S+)\n.*key_hash: '(\S+)'", out, re.DOTALL)[0]
    assert Keys([Tenant("search", key_hash=held)]).tenant_of([(b"authorization", f"Bearer {key}".encode())]) == "search"
    assert new_key() != new_key()


@pytest.mark.parametrize(
    ("tenants", "problem"),
    [
        ("- {name: a}", "needs either key_env or key_hash"),
        ("- {name: a, key_env: A_KEY, key_hash: x}", "must be sha256:"),
        ("- {name: A, key_env: A_KEY}", "small letters"),
        ("- {name: ../a, key_env: A_KEY}", "small letters"),
        ("- {key_env: A_KEY}", "has no name"),
        ("- {name: a, key_env: A_KEY}\n- {name: a, key_env: B_KEY}", "given twice"),
        ("- {name: a, key_env: A_KEY, models: [nobody]}", "names the model 'nobody'"),
        ("- {name: a, key_env: A_KEY, models: cheap}", "must be a list of models"),
        ("- {name: a, key_env: A_KEY, alpha: 2}", "alpha"),
        ("- {name: a, key_env: A_KEY, per_minute: 0}", "per_minute"),
        ("- {name: a, key: secret}", "unknown key"),
        ("- {name: a, key_env: not-set}", "environment variable"),
    ],
)
def test_a_wrong_tenant_is_one_line(tmp_path, tenants, problem):
    (tmp_path / "zoo.yaml").write_text(f"{TWO}\ntenants:\n{tenants}\n")
    with pytest.raises(Exception, match=problem):
        load_zoo(tmp_path / "zoo.yaml")


def test_a_key_that_is_not_set_and_an_open_address_without_keys_are_refused(state, capsys, tmp_path):
    (tmp_path / "zoo.yaml").write_text(TWO)
    assert run(["serve", "--host", "0.0.0.0", "--zoo", str(tmp_path / "zoo.yaml")]) == 2
    assert "no keys are configured" in capsys.readouterr().err
    (tmp_path / "zoo.yaml").write_text(TWO + TENANTS)
    assert run(["serve", "--zoo", str(tmp_path / "zoo.yaml")]) == 2
    assert "BATCH_KEY, which is not set" in capsys.readouterr().err
