"""The help of every command, and what it loads."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest
import typer

from messctl.cli import app, run
from messctl.cli.arguments import COLUMNS, OUTPUT, POLICY, PROMISE, REQUESTS, SEARCH
from messctl.cli.command import ASK, COMPARE, TRACES, ZOO

HEAVY = ("numba", "scipy", "sklearn", "pyarrow", "urllib3", "llama_cpp", "matplotlib")
METAVARS = {"FILE", "0..1", "N", "NAME", "TEXT", "SECONDS", "NAME=N", "FILE=NAME", "LIST", "URL", "DIR", "TIME", "FORM",
            "1..3", "PLACE"}  # fmt: skip
ROOT = typer.main.get_command(app)


def commands(group=ROOT, path=()):
    """Yield every command, and the words that name it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield pytest.param((*path, name), command, id=" ".join((*path, name)))


COMMANDS = list(commands())


def options_of(path, command):
    """Return the options of a command as its help lists them, without arguments."""
    context = typer.Context(command, info_name=path[-1])
    return [each for each in command.get_params(context) if each.param_type_name == "option" and not each.hidden]


def help_of(path, capsys):
    assert run([*path, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_every_option_has_a_text_a_panel_and_a_plain_value(path, command):
    for option in options_of(path, command):
        name = option.opts[0]
        assert option.help, name
        assert option.rich_help_panel in (PROMISE, POLICY, SEARCH, COLUMNS, REQUESTS, OUTPUT), name
        assert option.metavar == "" if option.is_flag else option.metavar in METAVARS, (name, option.metavar)


@pytest.mark.parametrize("columns", [80, 160])
@pytest.mark.parametrize(("path", "command"), [*COMMANDS, pytest.param((), ROOT, id="messctl")])
def test_help_fits_the_terminal_and_breaks_no_word(path, command, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = help_of(path, capsys)
    assert max(map(len, shown.splitlines())) <= columns
    assert "range" not in shown
    words = set(re.sub("[│─╭╮╰╯]", " ", shown).split())
    listed = options_of(path, command) if path else ROOT.commands.values()
    for each in listed:
        text = each.help.split("\n\n")[0]
        assert {word for word in text.split() if "`" not in word and "[" not in word} <= words, each.name


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_the_help_has_an_example_whose_commands_and_options_exist(path, command, capsys):
    (example,) = re.findall(r"Example: (.+)$", command.epilog)
    words = shlex.split(example)
    assert words[: 1 + len(path)] == ["messctl", *path]
    command.make_context(path[-1], words[1 + len(path) :])


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_the_help_names_the_types_of_arguments_as_it_names_those_of_options(path, command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    shown = help_of(path, capsys)
    assert not re.search(r"<(path|str|list\[.*?\])>", shown)
    context = typer.Context(command, info_name=path[-1])
    for argument in (each for each in command.get_params(context) if each.param_type_name == "argument"):
        (row,) = (line for line in shown.splitlines() if argument.help.split(";")[0][:30] in line)
        tells = argument.metavar == "FORMAT" or "|" in (argument.metavar or "")
        assert bool({"FILE", "TEXT"} & set(row.split())) != tells


def test_the_commands_are_grouped():
    panels = {name: command.rich_help_panel for name, command in ROOT.commands.items()}
    assert set(panels.values()) == {ASK, COMPARE, TRACES, ZOO}
    assert [name for name, panel in panels.items() if panel == ASK] == [
        "ask", "chat", "serve", "feedback", "status", "log", "export", "reset", "state"
    ]  # fmt: skip


def loaded_by(*arguments, **environment):
    """Return which of the heavy packages a command loads, in a process of its own."""
    code = (
        f"import sys; from messctl.cli import run; code = run({list(arguments)})\n"
        f"print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return done.stderr.split()


@pytest.mark.parametrize("path", [(), ("ask",), ("replay",), ("tune",), ("evaluate",), ("doctor",), ("zoo", "check")])
def test_help_loads_nothing_heavy(path):
    assert loaded_by(*path, "--help") == []


@pytest.mark.parametrize("command", ["status", "log"])
def test_looking_at_the_state_loads_nothing_heavy(command, state, tmp_path, monkeypatch):
    from live_making import STATED

    from messctl.backends import Scripted

    (tmp_path / "zoo.yaml").write_text(STATED)
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: Scripted({"dear": "yes"}))
    assert run(["ask", "hi", "--model", "dear", "--expect", "yes"]) == 0
    assert loaded_by(command) == []
