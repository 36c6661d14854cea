"""The commands on a state on PostgreSQL: each does what it does with a file, and shows no password."""

from __future__ import annotations

import json

import pytest
from live_making import STATED, assert_one_line, typed

from messctl.backends import Scripted
from messctl.cli import run
from messctl.state.store import Store, check


@pytest.fixture
def said(capsys):
    """Run a command, see that its exit code is right and that it shows no password, and return what it printed."""

    def done(*arguments, code=0):
        assert run([str(each) for each in arguments]) == code
        out, err = capsys.readouterr()
        assert "s3cret" not in out + err
        return out if code == 0 else assert_one_line(code, out, err)

    return done


@pytest.fixture(params=["--state", "MESSCTL_STATE", "zoo.yaml", "keys in zoo.yaml"])
def named(request, postgres, tmp_path, monkeypatch):
    """Name a state on a server in one of the ways to do so; return its place, and the options that it takes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MESSCTL_STATE", raising=False)
    typed(monkeypatch)
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: Scripted(lambda *_: "42"))
    place = postgres.fresh()
    url = f"{postgres.url}?schema={place.schema}"
    zoo = {"zoo.yaml": f"state: '{url}'\n", "keys in zoo.yaml": f"state: {{url: '{url}', keep: 90d}}\n"}
    (tmp_path / "zoo.yaml").write_text(zoo.get(request.param, "") + STATED)
    if request.param == "MESSCTL_STATE":
        monkeypatch.setenv("MESSCTL_STATE", url)
    return place, ("--state", url) if request.param == "--state" else ()


def test_every_command_works_on_a_server(named, said, tmp_path):
    place, where = named
    assert json.loads(said("log", "--json", *where)) == []
    assert said("ask", "What is 40 + 2?", "--expect", "42", *where) == "42\n"
    assert said("ask", "What is 40 + 3?", *where) == "42\n"
    assert "attained 0.5000 over 2" in said("feedback", "bad", *where)
    assert "attained 1.0000 over 2" in said("feedback", "last", "good", *where)
    status = json.loads(said("status", "--json", *where))
    assert (status["state"], status["answered"], status["standing"]["judged"]) == (str(place), 2, 2)
    assert str(place).removeprefix("postgresql://")[:20] in said("status", *where)
    assert [each["prompt"] for each in json.loads(said("log", "--json", *where))] == [
        "What is 40 + 2?",
        "What is 40 + 3?",
    ]
    before = json.loads(said("status", "--json", *where))
    assert said("ask", "forgotten", "--no-log", *where) == "42\n"
    assert json.loads(said("status", "--json", *where)) == before
    assert "2 requests" in said("export", "-o", tmp_path / "live.parquet", *where)
    assert check(place) == []
    assert "forgot 2 requests" in said("reset", "--yes", *where)
    with Store(place, looking=True) as store:
        assert list(store.requests) == []


def test_doctor_says_what_is_wrong_with_a_server_and_no_password(postgres, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place, made = postgres.fresh(), postgres.fresh()
    Store(made).close()
    for url, status, text in (
        (
            f"{postgres.url}?schema={place.schema}",
            "ok",
            f"{place}: the database can be reached, and has no state yet",
        ),
        (f"{postgres.url}?schema={made.schema}", "ok", f"{made}: sound"),
        (postgres.url_of("messctl", "s3cret-wrong"), "broken", "PGPASSWORD"),
        ("postgresql://u:s3cret@127.0.0.1:1/d", "broken", "see that the server runs"),
    ):
        run(["doctor", "--json", "--state", url])
        out, err = capsys.readouterr()
        assert "s3cret" not in out + err
        (found,) = (each for each in json.loads(out)["findings"] if each["subject"] == "state")
        assert found["status"] == status
        assert text in found["text"]


@pytest.mark.parametrize("command", [("ask", "hi"), ("log",), ("status",), ("reset", "--yes"), ("feedback", "good")])
def test_a_server_that_is_away_is_one_line(command, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed(monkeypatch)
    line = said(*command, "--state", "postgresql://u:s3cret@127.0.0.1:1/d", code=2)
    assert line.startswith("messctl: postgresql://u@127.0.0.1:1/d: ")
    assert "see that the server runs" in line


def test_an_address_that_is_none_is_one_line(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "is no URL" in said("log", "--state", "postgresql://u:s3cret@home@h/d", code=2)
    for address in ("mysql://u:s3cret@h/d", "postgresql+psycopg://u:s3cret@h/d", "POSTGRESQL://u:s3cret@h/d"):
        assert "begins with postgresql://" in said("log", "--state", address, code=2)
        (tmp_path / "zoo.yaml").write_text(f"state: '{address}'\n{STATED}")
        assert "zoo.yaml, line 1: state must be" in said("log", code=2)


def test_doctor_says_that_a_user_may_not_create_the_state(postgres, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = postgres.schema()
    with postgres.connection() as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    run(["doctor", "--json", "--state", postgres.url_of(name, "x")])
    (found,) = (each for each in json.loads(capsys.readouterr().out)["findings"] if each["subject"] == "state")
    assert found["status"] == "broken"
    assert "has no state yet, which this user may not create" in found["text"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("status",), 0),
        (("log",), 0),
        (("reset", "--yes"), 0),
        (("export", "-o", "x.parquet"), 2),
        (("feedback", "last", "good"), 2),
        (("state", "upgrade"), 2),
        (("state", "prune", "--keep", "1d"), 2),
    ],
)
def test_no_command_but_those_that_ask_makes_a_state_at_a_mistyped_address(
    arguments, code, postgres, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    place = postgres.fresh()
    assert run([*arguments, "--state", f"{postgres.url}?schema={place.schema}"]) == code
    assert f"{place}: there is no state; correct --state or MESSCTL_STATE" in capsys.readouterr().err
    with postgres.connection() as connection:
        assert connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (place.schema,)).fetchone() is None
