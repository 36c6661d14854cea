"""The command lines that pages show: finds them, and holds each word of them against the real commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import typer

from messctl.cli import app

SHELL = ("console", "sh", "bash", "shell")
SPAN = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
OPERATORS = {"|", "||", "&&", ";", "&", "(", ")", ">", ">>", "<", "<<", "2>", "<(", "|&", ";;"}
BEFORE_A_COMMAND = {"do", "then", "else", "if", "while", "!", "env", "time"}
REDIRECTION = re.compile(r"(?<=\s)(?:\d?>>?(?:&\d|\s*[^\s&|;>]+)|<\s*[^\s&|;<]+)(?=\s|$|[;|&)])")
PLACEHOLDER = re.compile(r"[A-Z][A-Z_0-9]*(?:=[A-Z]+)?|…|\.\.\.|0\.\.1|.*[…<].*")
"""What stands for a value that the reader fills in: FILE, MODEL=VALUE, always:<model>, …"""


@lru_cache
def root() -> Any:
    """Return the tree of all commands."""
    return typer.main.get_command(app)


def commands() -> dict[str, Any]:
    """Return every command by what is typed for it, as `zoo check`."""
    found = {}
    for name, command in root().commands.items():
        below = getattr(command, "commands", None)
        found |= {name: command} if below is None else {f"{name} {each}": under for each, under in below.items()}
    return dict(sorted(found.items()))


def options(command: Any) -> dict[str, Any]:
    """Return the options of a command that its help shows, each by its longest name."""
    return {
        max((*each.opts, *each.secondary_opts), key=len): each
        for each in command.params
        if each.param_type_name == "option" and not each.hidden
    }


def every_option() -> set[str]:
    """Return the names of all options of all commands."""
    return {
        name
        for command in (root(), *commands().values())
        for each in command.params
        for name in (*each.opts, *each.secondary_opts)
    } | {"-h", "--help"}


def in_shell(text: str) -> Iterator[list[str]]:
    """Yield the words of each messctl command in a piece of shell, without `messctl` itself."""
    for line in text.replace("\\\n", " ").splitlines():
        yield from _in_line(line.removeprefix("$ "))


def _in_line(line: str) -> Iterator[list[str]]:
    if "messctl" not in line:
        return
    lexer = shlex.shlex(REDIRECTION.sub(" ", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#" if re.search(r"\s#|^#", line) else ""
    words, found = list(lexer), None
    previous = ";"
    for word in words:
        starts = previous in OPERATORS or previous in BEFORE_A_COMMAND or "=" in previous
        if found is not None and (word in OPERATORS or set(word) <= set("|&;()<>")):
            yield found
            found = None
        elif found is not None:
            found.append(word)
        elif starts and (word == "messctl" or word.endswith("/messctl")):
            found = []
        previous = word
    if found is not None:
        yield found


def on_page(text: str, shell_blocks: Sequence[str]) -> Iterator[list[str]]:
    """Yield the words of each messctl command on a page: in its blocks of shell, and in backticks in its prose."""
    for block in shell_blocks:
        yield from in_shell(block)
    for span in spans(text):
        if span.startswith("messctl "):
            yield from in_shell(span)


def spans(text: str) -> list[str]:
    """Return what stands in backticks in a page's prose, its blocks left out."""
    prose = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in SPAN.findall(prose)]


def in_workflow(path: Path) -> Iterator[list[str]]:
    """Yield the messctl commands of a shell script or a workflow."""
    for line in path.read_text(encoding="utf-8").splitlines():
        yield from in_shell(re.sub(r"^\s*(?:-\s+)?(?:run:\s*)?", "", line))


def problem(words: Sequence[str]) -> str | None:
    """Return what is wrong with a command, given without `messctl`; None where the real commands take all of it.

    Whatever is missing is fine, since prose names commands without their arguments.
    """
    command, name, rest = root(), "messctl", list(words)
    while getattr(command, "commands", None) is not None:
        if not rest or rest[0].startswith("-"):
            break
        word = rest.pop(0)
        if word not in command.commands:
            return f"`{name}` has no command {word!r}"
        command, name = command.commands[word], f"{name} {word}"
    context = command.context_class(command, info_name=name, resilient_parsing=True)
    context.resilient_parsing = False  # else the parser hides what is wrong
    if any(word in ("-h", "--help") for word in rest):
        rest = [word for word in rest if word not in ("-h", "--help")]
    try:
        given, extra, _ = command.make_parser(context).parse_args(list(rest))
    except Exception as error:  # noqa: BLE001 (click's classes are Typer's own since 0.2x)
        return f"`{name}`: {getattr(error, 'message', None) or error}"
    if extra:
        return f"`{name}` takes no {' '.join(map(repr, extra))}"
    for each in command.params:
        for value in _values(given.get(each.name)):
            wrong = _wrong(each, value)
            if wrong:
                return f"`{name}`: {wrong}"
    return None


def _values(given: Any) -> list[str]:
    if isinstance(given, (list, tuple)):
        return [each for each in given if isinstance(each, str)]
    return [given] if isinstance(given, str) else []


def _wrong(parameter: Any, value: str) -> str | None:
    """Return what is wrong with the value of an option or argument; None where it can be."""
    if PLACEHOLDER.fullmatch(value):
        return None
    known = _known_words(parameter.name)
    if known is not None:
        return None if value.partition(":")[0] in known else f"{value!r} is none of {', '.join(sorted(known))}"
    kind = _kind(parameter)
    if kind not in (int, float):
        return None
    try:
        number = kind(value)
    except ValueError:
        return f"{value!r} is no {'whole ' if kind is int else ''}number"
    low, high = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if (low is not None and number < low) or (high is not None and number > high):
        return f"{value} is not between {low} and {high}"
    return None


def _kind(parameter: Any) -> Any:
    """Return the Python type of a parameter's value, whatever release of Typer it is."""
    described = getattr(parameter, "type_descriptor", None)
    if described is not None:
        return described.annotation
    return {"integer": int, "float": float, "path": Path}.get(parameter.type.name.partition(" ")[0], str)


@lru_cache
def _known_words(parameter: str) -> frozenset[str] | None:
    """Return the words that an option takes, where its command and not the parser knows them; None for any value."""
    from messctl.graders import REFERENCE_GRADERS
    from messctl.importers import formats
    from messctl.policies import kinds
    from messctl.zoo.file import METERS

    known = {
        "policy": kinds(),
        "grader": (*REFERENCE_GRADERS, "judge", "none"),
        "format": formats(),
        "meter": METERS,
        "engine": ("threads", "loky", "ray"),
        "holdout_by": ("time", "hash"),
    }
    return frozenset(known[parameter]) if parameter in known else None


def option_table(name: str) -> str:
    """Return the options of a command as a Markdown table, grouped as in its help."""
    command = commands()[name.removeprefix("messctl ").strip()]
    groups: dict[str, list[str]] = {}
    for each in options(command).values():
        group = getattr(each, "rich_help_panel", None) or "Other"
        metavar = "" if each.is_flag or each.count else f" {_metavar(each)}"
        names = [*sorted(each.opts, key=len)[:-1], f"{max(each.opts, key=len)}{metavar}", *each.secondary_opts]
        cell = ", ".join(f"`{name}`" for name in names)
        groups.setdefault(group, []).append(f"| {cell} | {_cell((each.help or '') + _default(each))} |")
    lines = ["| option | what it does |", "|---|---|"]
    for group in sorted(groups, key=lambda group: group == "Other"):
        lines += [f"| **{group}** | |"] if len(groups) > 1 else []
        lines += groups[group]
    return "\n".join(lines)


def _metavar(option: Any) -> str:
    kinds = {int: "N", float: "NUMBER", Path: "FILE"}
    return str(option.metavar or kinds.get(_kind(option), "TEXT"))


def _default(option: Any) -> str:
    """Return the default of an option that takes a value, if its help does not say it."""
    value = option.default
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or "efault" in (option.help or ""):
        return ""
    return f" Default: {value:g}." if isinstance(value, (int, float)) else f" Default: {value}."


def _cell(text: str) -> str:
    text = re.sub(r"(?<![`\w])[\w:]*<\w+>(?:[.\w]*\w)?", r"`\g<0>`", " ".join(text.split()))
    return text.replace("|", "\\|")
