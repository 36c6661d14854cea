"""The last resort: an error that nobody expected is one line and exit code 2, never a traceback."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_lines import commands
from live_making import MESSCTL, assert_one_line

from messctl import cli
from messctl.cli import run
from messctl.errors import DEBUG, StoreError

EVIL = "two\nlines \x1b]52;c;eA==\x07"


class SilentError(Exception):
    def __str__(self):
        raise ValueError("no text")


ERRORS = [
    (RuntimeError("cannot cache function"), "unexpected RuntimeError: cannot cache function; this is a fault"),
    (KeyError("name"), "unexpected KeyError: 'name'"),
    (AssertionError(), "unexpected AssertionError: no more is known"),
    (ValueError(EVIL), "unexpected ValueError: two lines \\x1b]52;c;eA==\\x07"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "unexpected UnicodeDecodeError"),
    (SilentError(), "unexpected SilentError: no more is known"),
    (ExceptionGroup("many", [ValueError("x")]), "unexpected ExceptionGroup: many"),
    (MemoryError(), "the memory is used up"),
    (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
    (ImportError("libfoo.so: cannot open"), "install messctl again"),
    (OSError(errno.ENOSPC, "No space left on device"), "standard output: No space left on device; choose another"),
    (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y: Permission denied; choose another place"),
    (FileNotFoundError(errno.ENOENT, "No such file", b"/x/\xff"), "/x/\\udcff: No such file"),
    (FileNotFoundError(errno.ENOENT, "No such file"), "the current folder does not exist any more"),
    (OverflowError("timestamp too large to convert to C _PyTime_t"), "the clock of this machine is wrong; set it"),
    (OSError(errno.ENFILE, "Too many open files in system"), "too many files are open; raise the limit of `ulimit -n`"),
    (ImportError("libarrow.so: failed to map segment from shared object"), "the memory is used up"),
    (OSError("libllvmlite.so: cannot allocate memory in static TLS block"), "the memory is used up"),
    (RuntimeError("can't start new thread"), "no more threads can be started; give messctl more memory, or raise"),
    (TimeoutError("timed out"), "unexpected TimeoutError: timed out"),
]


@pytest.mark.parametrize(("error", "message"), ERRORS)
def test_an_unexpected_error_is_one_line(error, message, monkeypatch, capsys):
    def fail(*_arguments, **_named):
        raise error

    monkeypatch.setattr(cli, "app", fail)
    assert message in assert_one_line(run(["status"]), *capsys.readouterr())


@pytest.mark.parametrize("command", commands())
def test_every_command_has_the_last_resort(command, monkeypatch, capsys):
    name, *below = command.split()

    def fail(*_arguments, **_named):
        raise ZeroDivisionError("broken on purpose")

    found = cli.typer.main.get_command(cli.app)
    for each in (name, *below):
        found = found.commands[each]
    found.callback, found.params = fail, []
    group = cli.typer.main.get_command(cli.app)
    if below:
        group.commands[name].commands[below[0]] = found
    else:
        group.commands[name] = found
    monkeypatch.setattr(cli, "app", group.main)
    error = assert_one_line(run([name, *below]), *capsys.readouterr())
    assert "unexpected ZeroDivisionError: broken on purpose; this is a fault in messctl; report it" in error


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), StoreError("no \x1b state")])
def test_messctl_debug_shows_the_traceback(error, monkeypatch, capsys):
    def fail(*_arguments, **_named):
        raise error

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setenv(DEBUG, "1")
    assert run(["status"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):\n")
    assert "in fail\n" in err
    assert err.splitlines()[-1].startswith("messctl: ")
    assert "\x1b" not in err


@pytest.mark.parametrize("command", ["replay x", "tune x", "evaluate x", "trace info x", "import table x -o y"])
def test_too_little_address_space_is_refused_before_a_library_ends_the_process(command, monkeypatch, capsys, tmp_path):
    resource = pytest.importorskip("resource")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (300 * 10**6, resource.RLIM_INFINITY))
    error = assert_one_line(run(command.split()), *capsys.readouterr())
    assert "`ulimit -v` allows 300 MB of address space" in error


def test_messctl_debug_set_to_0_shows_nothing(monkeypatch, capsys):
    monkeypatch.setattr(cli, "app", lambda *_, **__: 1 / 0)
    monkeypatch.setenv(DEBUG, "0")
    assert_one_line(run(["status"]), *capsys.readouterr())


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("sys.modules['rich'] = None", "install messctl again"),
        ("sys.modules['messctl.cli.ask'] = None", "install messctl again"),
        ("import messctl.cli.output as o; o.Console.print = None; o.print_line = None; "
         "import messctl.cli.status as s; s.load = 1; import messctl.zoo; messctl.zoo.load_zoo = lambda _: 1 / 0",
         "unexpected ZeroDivisionError: division by zero"),
        ("import messctl.zoo; messctl.zoo.load_zoo = lambda _: [0] * 2**62", "the memory is used up"),
        ("import messctl.zoo; messctl.zoo.load_zoo = lambda p: messctl.zoo.load_zoo(p)", "nested too deeply"),
    ],
)  # fmt: skip
def test_a_real_process_ends_with_one_line(code, message, tmp_path):
    command = [sys.executable, "-c", f"import sys; from messctl.__main__ import main\n{code}\nmain()", "status"]
    done = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path, timeout=60)
    assert message in assert_one_line(done.returncode, done.stdout, done.stderr)


def test_an_error_that_cannot_be_printed_is_exit_code_2_too(tmp_path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*MESSCTL, "status", "--state", str(tmp_path)], stderr=full, check=False, timeout=60)
    assert done.returncode == 2


def test_an_error_in_a_thread_prints_nothing(tmp_path):
    code = (
        "import sys, threading, messctl.zoo; from messctl.__main__ import main\n"
        "def load(_):\n"
        "    thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join(); sys.exit(0)\n"
        "messctl.zoo.load_zoo = load\nmain()"
    )
    for debug, prints in (("", False), ("1", True)):
        done = subprocess.run(
            [sys.executable, "-c", code, "status"],
            capture_output=True,
            check=False,
            env=os.environ | {DEBUG: debug},
            timeout=60,
        )
        assert bool(done.stderr) == prints


def test_warnings_of_libraries_are_not_printed():
    code = (
        "import sys, warnings, messctl.zoo; from messctl.__main__ import main\n"
        "messctl.zoo.load_zoo = lambda _: [warnings.warn('overflow', RuntimeWarning), sys.exit(0)]\nmain()"
    )
    for debug, prints in (("", False), ("1", True)):
        command = [sys.executable, "-c", code, "status"]
        done = subprocess.run(command, capture_output=True, check=False, env=os.environ | {DEBUG: debug}, timeout=60)
        assert (b"overflow" in done.stderr) == prints
