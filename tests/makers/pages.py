"""The pages of the project: what they say can be typed, what it prints, and how both are kept true.

    python tests/makers/pages.py            # says which pages are out of date
    python tests/makers/pages.py --write    # writes what the commands print into the pages

A block that begins with ```console is run: each line that begins with `$ ` is a command, and the lines after it are
what it prints. All blocks of a page share one scratch folder, which holds zoo.yaml and traces/, and run in their order.
With ```console terminal a command runs at a terminal, and standard error is part of what it prints. Blocks of other
languages, such as ```sh, are not run. A block that installs something is not run either.

In what a command prints, `…` on a line of its own stands for any number of lines, and within a line for any text.

Between `<!-- options: replay -->` and `<!-- end -->` stands a table of the options of `messctl replay`, from its help.
"""

from __future__ import annotations

import argparse
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
ANY = "…"
WIDTH = 100
"""Columns of the terminal that a `console terminal` block runs at."""
LONGEST_WAIT_S = 300
"""A command at a terminal that says nothing for this long hangs."""
SLOW = ("README.md", *(f"docs/{name}.md" for name in ("ask", "evaluate", "import", "replay", "second-look", "tune")))
"""Pages whose commands take long."""

PAGE_OF = {
    "ask": "chat export feedback log reset status warm",
    "zoo": "doctor",
    "import": "trace",
}
"""Which page of docs/ describes a command, where that is another than the one of its own name."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command on a page, and the lines that the page says it prints."""

    line: str
    printed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, with whatever stands behind it, its text, and where the text begins and ends."""

    language: str
    text: str
    start: int
    end: int

    @property
    def runs(self) -> bool:
        """Whether its commands are run."""
        return self.language.split()[:1] == ["console"] and "pip install" not in self.text

    @property
    def at_terminal(self) -> bool:
        """Whether its commands are run at a terminal."""
        return self.language == "console terminal"

    def commands(self) -> list[Command]:
        """Return the commands of a console block, in order."""
        pieces = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        lines = [piece.rstrip("\n").split("\n") for piece in pieces]
        return [Command(first, tuple(line.rstrip() for line in rest)) for first, *rest in lines]


@dataclass(frozen=True, slots=True)
class Played:
    """A command that was run: what the page says, what was printed, and how it ended."""

    command: Command
    printed: tuple[str, ...]
    errors: str
    code: int

    @property
    def agrees(self) -> bool:
        """Whether the page says what happened."""
        return not self.errors and not self.code and fits(self.command.printed, self.printed)


def pages() -> list[Path]:
    """Return all pages whose commands are run."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
    found += [*sorted((ROOT / "examples").glob("*/README.md")), ROOT / "benchmarks" / "README.md"]
    return [page for page in found if page.exists()]


def page_of(command: str) -> Path:
    """Return the page that describes a command, such as `zoo check`."""
    first = command.split(maxsplit=1)[0]
    name = next((page for page, others in PAGE_OF.items() if first in others.split()), first)
    return ROOT / "docs" / f"{name}.md"


def name_of(page: Path) -> str:
    """Return a page's path from the root of the project."""
    return page.relative_to(ROOT).as_posix()


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    return [Block(match[2].strip(), match[3], match.start(3), match.end(3)) for match in BLOCK.finditer(text)]


def fits(expected: Sequence[str], printed: Sequence[str]) -> bool:
    """Tell whether lines were printed as a page says; see the module for `…`."""
    pattern = "".join(r"(?:.*\n)*?" if line.strip() == ANY else f"{_pattern(line)}\n" for line in expected)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed)) is not None


def _pattern(line: str) -> str:
    return ".*".join(map(re.escape, line.split(ANY)))


def updated(expected: Sequence[str], printed: Sequence[str]) -> tuple[str, ...]:
    """Return `printed` cut as the page cuts it: `…` stays where it is, and as many lines stand around it.

    Of a part between two `…`, each line is the first that begins with the same word. Raises ValueError for none.
    """
    if fits(expected, printed):
        return tuple(expected)
    dotted = [line for line in expected if ANY in line and line.strip() != ANY]
    printed = [next((line for line in dotted if fits([line], [each])), each) for each in printed]
    cuts = [-1, *(at for at, line in enumerate(expected) if line.strip() == ANY), len(expected)]
    parts = [expected[before + 1 : after] for before, after in pairwise(cuts)]
    if len(parts) == 1:
        _check_kept(expected, printed)
        return tuple(printed)
    first, *middle, last = parts
    kept = [list(printed[: len(first)])]
    kept += [[_like(line, printed) for line in part] for part in middle]
    kept += [list(printed[len(printed) - len(last) :])]
    found = list(kept[0])
    for cut, part in zip(cuts[1:-1], kept[1:], strict=True):
        found += [expected[cut], *part]
    _check_kept(expected, found)
    return tuple(found)


def _check_kept(expected: Sequence[str], found: Sequence[str]) -> None:
    """Raise ValueError if a line with a `…` within it would be replaced: what it stands for differs in every run."""
    for line in expected:
        if ANY in line and line.strip() != ANY and line not in found:
            raise ValueError(f"nothing that was printed is like {line!r}; change the page by hand")


def _like(line: str, printed: Sequence[str]) -> str:
    word = line.split()[:1]
    for candidate in printed:
        if candidate.split()[:1] == word:
            return candidate
    raise ValueError(f"nothing that was printed begins like {line!r}; change the page by hand")


@lru_cache
def play(page: Path) -> tuple[Played, ...]:
    """Run all commands of a page in a scratch folder of its own, and return what happened."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder).resolve() / "work"
        prepare(page, scratch)
        return tuple(
            run(command, scratch, at_terminal=block.at_terminal)
            for block in blocks(page.read_text(encoding="utf-8"))
            if block.runs
            for command in block.commands()
        )


def prepare(page: Path, scratch: Path) -> None:
    """Fill the folder that a page's commands run in: zoo.yaml and traces/; for an example, the example's files."""
    if page.parent.parent.name == "examples":
        shutil.copytree(page.parent, scratch)
    else:
        scratch.mkdir()
        shutil.copy(ROOT / "zoo.yaml", scratch)
    (scratch / "models").mkdir()
    for name in ("pico-34k.gguf", "mini-1m.gguf"):
        (scratch / "models" / name).symlink_to(ROOT / "messctl" / "box" / name)
    (scratch / "traces").mkdir()
    for trace in (ROOT / "traces").iterdir():
        (scratch / "traces" / trace.name).symlink_to(trace)
    (scratch.parent / "home").mkdir()


def surroundings(scratch: Path) -> dict[str, str]:
    """Return the environment of a page's commands: a home folder of its own, and messctl first on the path."""
    home = scratch.parent / "home"
    foreign = ("XDG_", "MESSCTL_", "COLUMNS", "FORCE_COLOR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TZ": "UTC",
        "NO_COLOR": "1",
        "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", str(home / "numba")),
    }


def run(command: Command, scratch: Path, *, at_terminal: bool = False) -> Played:
    """Run one command in the folder `scratch`."""
    environment = surroundings(scratch)
    if at_terminal:
        printed, code = _run_at_terminal(command, scratch, environment)
        errors = ""
    else:
        done = subprocess.run(
            command.line,
            shell=True,
            cwd=scratch,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        printed, errors, code = done.stdout, done.stderr, done.returncode
    return Played(command, tuple(line.rstrip() for line in printed.rstrip().splitlines()), errors, code)


def _run_at_terminal(command: Command, scratch: Path, environment: dict[str, str]) -> tuple[str, int]:
    """Run a command at a terminal; where it asks and the page shows an answer behind `] `, type that."""
    import fcntl
    import struct
    import termios

    replies = [line.rpartition("] ")[2] for line in command.printed if "] " in line]
    terminal, end = os.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH, 0, 0))
    environment = environment | {"TERM": "xterm"}
    shown = b""
    with subprocess.Popen(
        command.line, shell=True, cwd=scratch, env=environment, stdin=end, stdout=end, stderr=end
    ) as running:
        os.close(end)
        while True:
            if not select.select([terminal], [], [], LONGEST_WAIT_S)[0]:
                running.kill()
                break
            try:
                piece = os.read(terminal, 4096)
            except OSError:  # Linux says that the other end is closed
                break
            if not piece:
                break
            shown += piece
            if replies and shown.endswith(b"] "):
                os.write(terminal, f"{replies.pop(0)}\n".encode())
    os.close(terminal)
    return _on_screen(shown.decode("utf-8", "replace")), running.returncode


def _on_screen(text: str) -> str:
    """Return what a terminal shows at the end: what was erased or written over is gone."""
    rows: list[list[str]] = [[]]
    row = column = 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[^\x1b]", text):
        if token == "\n":
            row += 1
            rows += [[] for _ in range(row + 1 - len(rows))]
        elif token == "\r":
            column = 0
        elif token.endswith("K") and len(token) > 1:
            rows[row] = rows[row][:column] if token == "\x1b[K" else []
        elif token.endswith("A") and len(token) > 1:
            row = max(0, row - int(token[2:-1] or 1))
        elif len(token) == 1:
            rows[row] += [" "] * (column + 1 - len(rows[row]))
            rows[row][column] = token
            column += 1
    return "\n".join("".join(each) for each in rows)


def rewritten(page: Path) -> str:
    """Return a page with what its commands print now, and with today's tables of options."""
    text = page.read_text(encoding="utf-8")
    played = iter(play(page))
    parts, done = [], 0
    for block in blocks(text):
        if not block.runs:
            continue
        lines: list[str] = []
        for command in block.commands():
            now = next(played)
            if now.errors or now.code:
                raise ValueError(f"{name_of(page)}: {command.line}: exit code {now.code}\n{now.errors}")
            try:
                printed = updated(command.printed, now.printed)
            except ValueError as error:
                raise ValueError(f"{name_of(page)}: {command.line}: {error}") from None
            lines += [f"$ {command.line}", *printed]
        parts += [text[done : block.start], "".join(f"{line}\n" for line in lines)]
        done = block.end
    text = "".join([*parts, text[done:]])
    return with_options(text)


OPTIONS = re.compile(r"(<!-- options: ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_options(text: str) -> str:
    """Return a page's text with today's tables of options."""
    from command_lines import option_table

    return OPTIONS.sub(lambda match: f"{match[1]}\n{option_table(match[2])}\n\n{match[3]}", text)


def main() -> int:
    """Say which pages are out of date, or rewrite them. The exit code is 1 if one is, or if one cannot be rewritten."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", nargs="*", type=Path, help="a page; all of them without any")
    parser.add_argument("--write", action="store_true", help="write what the commands print into the pages")
    wanted = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import conftest

    conftest.pytest_configure()  # the compiler's cache must be that of this source
    failed = False
    for page in [named.resolve() for named in wanted.page] or pages():
        try:
            text = rewritten(page)
        except ValueError as error:
            print(error)
            failed = True
            continue
        if text != page.read_text(encoding="utf-8"):
            print(f"{name_of(page)}: {'rewritten' if wanted.write else 'out of date; see --write'}", flush=True)
            failed = failed or not wanted.write
            if wanted.write:
                page.write_text(text, encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
