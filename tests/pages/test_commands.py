"""What pages say can be typed: each console block prints what its page says, and each command line exists."""

from __future__ import annotations

import re
from difflib import unified_diff
from pathlib import Path

import command_lines
import pages
import pytest

PAGES = pages.pages()
SCRIPTS = sorted(path for path in (pages.ROOT / "examples").rglob("*") if path.suffix in (".sh", ".yml"))
README = pages.ROOT / "README.md"
FOREIGN = {"--no-cache-dir", "--force-reinstall", "--no-binary"}
"""Options of other programs that pages name by themselves."""


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def _playing() -> list[object]:
    """Return the pages that have anything to run; those that take long are slow."""
    found = []
    for page in PAGES:
        if any(block.runs for block in pages.blocks(_text(page))):
            marks = [pytest.mark.slow] if pages.name_of(page) in pages.SLOW else []
            found.append(pytest.param(page, id=pages.name_of(page), marks=marks))
    return found


@pytest.mark.parametrize("page", _playing())
def test_commands_print_what_the_page_says(page):
    pytest.importorskip("llama_cpp")
    wrong = []
    for played in pages.play(page):
        if not played.agrees:
            said, printed = played.command.printed, played.printed
            difference = "\n".join(unified_diff(said, printed, "the page", "what is printed", lineterm=""))
            wrong.append(f"$ {played.command.line}\nexit code {played.code}\n{played.errors}{difference}")
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("page", [pytest.param(page, id=pages.name_of(page)) for page in PAGES])
def test_every_command_and_option_on_the_page_exists(page):
    text = _text(page)
    shells = [block.text for block in pages.blocks(text) if block.language.partition(" ")[0] in command_lines.SHELL]
    problems = [command_lines.problem(words) for words in command_lines.on_page(text, shells)]
    known = command_lines.every_option() | FOREIGN
    for span in command_lines.spans(text) if page.parent.name != "benchmarks" else ():  # its scripts have their own
        for word in re.findall(r"^--?[a-z][a-z-]*(?=[\s=/]|$)|(?<=/)--[a-z-]+", span):
            if word not in known:
                problems.append(f"no command has an option {word} (`{span}`)")
    assert not [problem for problem in problems if problem]


@pytest.mark.parametrize("script", [pytest.param(path, id=pages.name_of(path)) for path in SCRIPTS])
def test_every_command_and_option_of_the_script_exists(script):
    assert list(command_lines.in_workflow(script)) or script.suffix == ".yml"
    assert not [wrong for words in command_lines.in_workflow(script) if (wrong := command_lines.problem(words))]


@pytest.mark.parametrize("page", [pytest.param(page, id=pages.name_of(page)) for page in PAGES])
def test_tables_of_options_are_those_of_the_help(page):
    assert pages.with_options(_text(page)) == _text(page)


def test_every_option_stands_on_the_page_of_its_command():
    missing = []
    for name, command in command_lines.commands().items():
        page = pages.page_of(name)
        text = _text(page)
        for option in command_lines.options(command).values():
            names = (*option.opts, *option.secondary_opts)
            if not any(f"`{each}" in text for each in names):
                missing.append(f"{pages.name_of(page)}: {name} {names[0]}")
    assert not missing


@pytest.mark.parametrize(
    "line",
    [
        "replay trace.parquet --no-such-option",
        "no-such-command",
        "zoo chek",
        "replay one.parquet two.parquet",
        "replay trace.parquet --policy none-such",
        "replay trace.parquet --seeds many",
        "record prompts.csv --grader none-such",
        "log -n few",
    ],
)
def test_unknown_word_on_a_page_is_found(line):
    (words,) = command_lines.in_shell(f"$ cat prompts.txt | messctl {line} | head")
    assert command_lines.problem(words)


def test_commands_are_found_in_a_line_of_shell():
    line = "$ . .venv/bin/activate && .venv/bin/messctl log -n 3 2>&1 | cut -c1-9; echo x | messctl ask 'a b' >out"
    assert list(command_lines.in_shell(line)) == [["log", "-n", "3"], ["ask", "a b"]]


@pytest.mark.parametrize(
    ("expected", "printed", "whether"),
    [
        (["a", "…", "d"], ["a", "b", "c", "d"], True),
        (["a", "…"], ["a"], True),
        (["a", "…", "d"], ["a", "b", "c"], False),
        (["id …: good"], ["id 3f9a: good"], True),
        (["a"], ["a", "b"], False),
    ],
)
def test_dots_stand_for_what_is_cut(expected, printed, whether):
    assert pages.fits(expected, printed) is whether


def test_output_is_rewritten_as_it_was_cut():
    expected = ["head 1", "…", "bandit 1", "…", "last 1"]
    printed = ["head 2", "x", "bandit 2", "y", "z", "last 2"]
    assert pages.updated(expected, printed) == ("head 2", "…", "bandit 2", "…", "last 2")


def test_readme_opens_with_two_commands_that_ci_runs_to_the_letter():
    first = next(block for block in pages.blocks(_text(README)) if block.language == "console")
    assert [command.line for command in first.commands()] == [
        "python3 -m venv .venv && .venv/bin/pip install --quiet '.[plot]' && "
        ".venv/bin/messctl replay traces/box.parquet --plot replay.png",
        ".venv/bin/pip install --quiet '.[dev]' && .venv/bin/pytest",
    ]
    assert re.findall(r"^\$ (.*)$", _text(README), re.MULTILINE)[:2] == [each.line for each in first.commands()]
    assert "README.md" in (pages.ROOT / ".ci" / "run").read_text()
