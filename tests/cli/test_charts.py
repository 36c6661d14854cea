"""Small charts on a terminal: where they are, and where they are not."""

import io
import json

import pytest
from long_states import judged
from making import learnable, write_trace

from messctl.cli import output, run
from messctl.cli import replay as replay_command
from messctl.cli import status as status_command
from messctl.display.sparkline import BARS
from messctl.state.store import Store


class Terminal(io.TextIOWrapper):
    """A stream that says whether it is a terminal."""

    def __init__(self, *, is_terminal, encoding):
        super().__init__(io.BytesIO(), encoding=encoding)
        self._is_terminal = is_terminal

    def isatty(self):
        return self._is_terminal


@pytest.mark.parametrize(
    ("columns", "is_terminal", "encoding", "term", "shown"),
    [
        ("100", True, "utf-8", "xterm", True),
        ("99", True, "utf-8", "xterm", False),
        ("200", False, "utf-8", "xterm", False),
        ("200", True, "ascii", "xterm", False),
        ("200", True, "latin-1", "xterm", False),
        ("200", True, "utf-8", "dumb", False),
    ],
)
def test_a_wide_terminal_that_can_show_bars_has_charts(columns, is_terminal, encoding, term, shown, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("sys.stdout", Terminal(is_terminal=is_terminal, encoding=encoding))
    assert output.shows_charts(output.console()) is shown


def has_bars(text):
    return any(bar in text for bar in BARS)


@pytest.fixture
def state(tmp_path):
    with Store(tmp_path / "state.sqlite") as store:
        judged(store, [(0.8, float(number % 4 > 0)) for number in range(40)])
    return str(tmp_path / "state.sqlite")


def test_status_shows_what_was_attained_and_owed(state, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert run(["status", "--state", state]) == 0
    assert not has_bars(capsys.readouterr().out)
    monkeypatch.setattr(status_command, "shows_charts", lambda _: True)
    assert run(["status", "--state", state]) == 0
    lines = capsys.readouterr().out.splitlines()
    (attained,) = [line for line in lines if line.startswith("lately attained")]
    (owed,) = [line for line in lines if line.startswith("lately owed")]
    assert "the newest 40 with feedback" in attained
    assert len([letter for letter in attained if letter in BARS]) == 40
    assert BARS[-1] in owed
    assert run(["status", "--state", state, "--json"]) == 0
    assert not has_bars(json.dumps(json.loads(capsys.readouterr().out), ensure_ascii=False))


def test_replay_shows_attainment_and_debt_if_the_table_has_room(tmp_path, capsys, monkeypatch):
    rounds = learnable(200)
    rows = [
        {model: (rounds.satisfied[row, k], rounds.cost[row, k]) for k, model in enumerate(rounds.zoo.models)}
        for row in range(200)
    ]
    trace = str(write_trace(tmp_path / "t.parquet", rows, models=rounds.zoo.models))
    command = ["replay", trace, "--alpha", "0.7", "--policy", "static-mix", "--policy", "messplus"]
    monkeypatch.setattr(replay_command, "shows_charts", lambda _: True)
    shown = {}
    for columns in ("80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        assert run(command) == 0
        shown[columns] = capsys.readouterr().out
    assert not has_bars(shown["80"])
    assert has_bars(shown["200"])
    assert "over time" in shown["200"]
    for machine in ("--json", "--csv"):
        assert run([*command, machine]) == 0
        assert not has_bars(capsys.readouterr().out)


def test_status_draws_the_state(state, tmp_path, capsys):
    for more in ([], ["--dark"]):
        assert run(["status", "--state", state, "--plot", str(tmp_path / "a.png"), *more]) == 0
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert run(["status", "--state", state, "--plot", str(tmp_path / "a.pdf")]) == 2
    assert ".png or .svg" in capsys.readouterr().err
