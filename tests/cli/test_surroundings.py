"""The live commands with broken model files, disks and states, readers that leave, and Ctrl-C."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from backends_files import ANSWER, write_gguf
from live_making import HEEDING, MESSCTL, assert_one_line, assert_sound, process, zoo_of

from messctl.cli import run
from messctl.state.place import exists
from messctl.state.store import Store, check
from messctl.zoo import PACKAGED_FILE

pytestmark = pytest.mark.usefixtures("state")

pytest.importorskip("llama_cpp")
SUM = "What is 17 + 25?"
BOX = PACKAGED_FILE.parent
ENDLESS = {ANSWER: "a", "a": "b", "b": "a"}


@pytest.fixture
def disk(tmp_path):
    """A file system of 2 MiB, and how it is mounted anew."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        try:
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            return False

    if not mount("size=2m"):
        pytest.skip("a small tmpfs cannot be mounted here (it takes root)")
    yield place, mount
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, leave: int = 0) -> Path:
    """Write until nothing fits any more, but for `leave` bytes."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            file.truncate(file.tell() - leave)
    return filler


def cut(path, model):
    path.write_bytes(model[: len(model) // 2])


def renamed(path, model):
    path.write_bytes(b"PK\3\4" + model[4:])


def header_only(path, model):
    path.write_bytes(model[:2000])


def empty(path, model):
    path.write_bytes(b"")


def nonsense_behind_the_magic(path, model):
    path.write_bytes(b"GGUF" + b"\xff" * 100)


def nonsense(path, model):
    path.write_bytes(model[::-1])


def missing(path, model):
    pass


def a_folder(path, model):
    path.mkdir()


def a_loop(path, model):
    path.symlink_to(path)


def a_pipe(path, model):
    os.mkfifo(path)


MODEL_FILES = [
    (cut, "is cut short"),
    (header_only, "ends within its header"),
    (empty, "is empty"),
    (renamed, "is not a GGUF file"),
    (nonsense_behind_the_magic, "GGUF"),
    (nonsense, "is not a GGUF file"),
    (missing, "there is no such model file"),
    (a_folder, "is a folder"),
    (a_loop, "symbolic links"),
    (a_pipe, "is not an ordinary file"),
]


@pytest.mark.parametrize(("breaks", "message"), MODEL_FILES)
def test_a_broken_model_file_is_one_line(breaks, message, capsys, tmp_path, state):
    zoo_of(tmp_path, "one", "broken")
    shutil.copy(BOX / "pico-34k.gguf", tmp_path / "one.gguf")
    breaks(tmp_path / "broken.gguf", (BOX / "nano-109k.gguf").read_bytes())
    error = assert_one_line(run(["ask", SUM, "--model", "broken"]), *capsys.readouterr())
    assert "broken.gguf" in error
    assert message in error
    assert_sound(state)


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ("n_ctx: 8", "the prompt has 18 tokens, but the context holds 8: shorten it, or raise n_ctx"),
        ("n_ctx: 16777216", "n_ctx in zoo.yaml"),
        ("n_ctx: 999999999999", "n_ctx"),
        ("n_ctx: -1", "n_ctx is -1"),
        ("chat_template: '{{ raise_exception(\"no \\e[31m\") }}'", "zoo.yaml's chat template fails: "),
        ("chat_template: '{% if %}'", "zoo.yaml's chat template fails: "),
        ("chat_template: '{{ messages[7].content }}'", "zoo.yaml's chat template fails: "),
        ("chat_template: {file: absent.jinja}", "absent.jinja"),
    ],
)
def test_a_wrong_setting_is_one_line(defaults, message, capsys, tmp_path, monkeypatch, state):
    zoo_of(tmp_path, "one", defaults=defaults)
    shutil.copy(BOX / "pico-34k.gguf", tmp_path / "one.gguf")
    monkeypatch.setattr("messctl.backends.llama_model.free_memory", lambda: 2**30)
    assert message in assert_one_line(run(["ask", SUM]), *capsys.readouterr())
    assert_sound(state)


def test_a_full_disk_is_reported_and_the_state_stays_sound(disk, capsys):
    place, _ = disk
    state = place / "state"
    filler = fill(place)
    arguments = ["ask", SUM, "--expect", "42", "--model", "pico-34k", "--state", str(state)]
    assert "--state" in assert_one_line(run(arguments), *capsys.readouterr())
    filler.unlink()
    for name in place.iterdir():
        name.unlink()
    assert run(arguments) == 0
    filler = fill(place)
    capsys.readouterr()
    codes = []
    while not codes or codes[-1] == 0:  # what is free within the file is used up first
        codes.append(run(["ask", "x" * 3000, *arguments[2:]]))
        out, err = capsys.readouterr()
    assert_one_line(codes[-1], "", err)
    assert "--state" in err
    for command in (["feedback", "bad"], ["status"], ["log"]):
        code = run([*command, "--state", str(state)])
        out, err = capsys.readouterr()
        assert code == 0 or assert_one_line(code, out, err)
    filler.unlink()
    with Store(state) as store:
        assert store.requests.feedback_sums().count >= len(codes) - 1
    assert_sound(state)
    assert run(arguments) == 0
    assert_sound(state)


def test_an_export_to_a_full_disk_leaves_no_file(disk, capsys):
    place, _ = disk
    assert run(["ask", SUM, "--model", "pico-34k"]) == 0
    fill(place)
    capsys.readouterr()
    error = assert_one_line(run(["export", "-o", str(place / "log.parquet")]), *capsys.readouterr())
    assert "No space left on device" in error
    assert os.listdir(place) == ["filler"]


@pytest.mark.parametrize("made", [False, True])
def test_a_read_only_folder_is_reported_and_can_be_read(disk, made, capsys, tmp_path):
    place, mount = disk
    arguments = ["--state", str(place / "state")]
    if made:
        assert run(["ask", SUM, *arguments]) == 0
        capsys.readouterr()
    assert mount("remount,ro,size=2m")
    assert "choose another place" in assert_one_line(run(["ask", SUM, *arguments]), *capsys.readouterr())
    missing = "" if made else f"{place}/state: there is no state"
    error = assert_one_line(run(["feedback", "good", *arguments]), *capsys.readouterr())
    assert (missing or "choose another place with --state") in error
    if made:
        error = assert_one_line(run(["reset", "--yes", *arguments]), *capsys.readouterr())
        assert "choose another place with --state" in error
    for command in (["status"], ["log"], *([["export", "-o", str(tmp_path / "x.parquet")]] if made else [])):
        assert run([*command, *arguments]) == 0
        err = capsys.readouterr().err
        assert missing in err
        assert made == (err == "")
    assert_one_line(run(["export", "-o", f"{place}/x.parquet", *arguments]), *capsys.readouterr())
    if made:
        assert run(["ask", SUM, "--no-log", *arguments]) == 0


def test_missing_permissions_are_one_line(tmp_path, state):
    """For a model file and for the folder of the state; root is made to heed permissions, too."""
    command = [*MESSCTL, "ask", SUM]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *command]
        if not shutil.which("setpriv"):
            pytest.skip("root heeds no permissions here")
    zoo_of(tmp_path, "one")
    shutil.copy(BOX / "pico-34k.gguf", tmp_path / "one.gguf")
    (tmp_path / "one.gguf").chmod(0)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    error = assert_one_line(done.returncode, done.stdout, done.stderr)
    assert "cannot be read: Permission denied" in error
    (tmp_path / "locked").mkdir(mode=0o555)
    command += ["--zoo", str(PACKAGED_FILE), "--state", "locked/state"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    error = assert_one_line(done.returncode, done.stdout, done.stderr)
    assert "locked/state: unable to open database file; make its folder writable" in error


def directory(path):
    path.mkdir()


def below_a_file(path):
    path.write_text("x")
    return path / "state"


STATES = [
    (lambda path: path.write_text("not a database at all " * 100), "it is no messctl state"),
    (lambda path: path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000), "state"),
    (directory, "choose another place with --state"),
    (below_a_file, "--state"),
    (lambda path: path.symlink_to(path), "Too many levels of symbolic links; choose another place with --state"),
]


@pytest.mark.parametrize(("makes", "message"), STATES)
def test_a_file_that_is_not_a_state_is_refused_and_unchanged(makes, message, capsys, tmp_path):
    path = tmp_path / "other\x1b[31m"
    made = makes(path)
    path = made if isinstance(made, Path) else path
    before = path.read_bytes() if path.is_file() else None
    for command in (["ask", SUM], ["status"], ["log"], ["feedback", "good"], ["state", "backup", "copy"]):
        error = assert_one_line(run([*command, "--state", str(path)]), *capsys.readouterr())
        assert message in error
    assert any(message in problem for problem in check(path)) or not exists(path)
    assert before == (path.read_bytes() if path.is_file() else None)


def test_a_database_of_another_program_is_refused_and_unchanged(capsys, tmp_path):
    path = tmp_path / "theirs"
    theirs = sqlite3.connect(path)
    theirs.executescript("CREATE TABLE songs (name TEXT); INSERT INTO songs VALUES ('x')")
    theirs.close()
    before = path.read_bytes()
    error = assert_one_line(run(["status", "--state", str(path)]), *capsys.readouterr())
    assert "another program's database; choose another place" in error
    assert path.read_bytes() == before


@pytest.fixture
def endless(tmp_path):
    """A process that has begun an answer which does not end: it is longer than what a pipe holds."""
    write_gguf(tmp_path / "endless.gguf", ENDLESS, n_ctx=80_000)
    zoo_of(tmp_path, "endless", defaults="max_tokens: 80000, n_ctx: 0, temperature: 0")
    started = []

    def start(*command):
        reading, writing = os.pipe()
        running = subprocess.Popen(
            [*command, "ask", "go on"], stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE
        )
        os.close(writing)
        started.append(running)
        assert os.read(reading, 2) in (b"a", b"ab")
        return running, reading

    yield start
    for running in started:
        running.kill()
        running.wait()


def test_ctrl_c_during_an_answer_is_one_line(endless, state, capsys):
    running, reading = endless(sys.executable, "-c", HEEDING)
    running.send_signal(signal.SIGINT)
    with os.fdopen(reading, "rb") as rest:
        rest.read()
    _, err = running.communicate()
    assert_one_line(running.returncode, b"", err, expected=130)
    assert_sound(state, requests=1)
    assert run(["ask", "go on", "--max-tokens", "2"]) == 0
    assert capsys.readouterr().out == "ab\n"
    assert run(["status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["answered"], status["unanswered"]) == (1, 1)


def test_ctrl_c_while_a_model_loads_is_one_line(state):
    """It comes while llama.cpp calls back into Python, and is not lost there."""
    interrupting = (
        "import signal; from messctl.backends.llama_library import LlamaLibrary\n"
        "on_log, lines = LlamaLibrary._on_log, []\n"
        "def interrupted(*arguments):\n"
        "    lines.append(signal.raise_signal(signal.SIGINT) if not lines else None)\n"
        "    on_log(*arguments)\n"
        "LlamaLibrary._on_log = interrupted\n"
    )
    command = [sys.executable, "-c", interrupting + HEEDING, "ask", SUM]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert_one_line(done.returncode, done.stdout, done.stderr, expected=130)
    assert_sound(state, requests=1)


def test_a_reader_that_leaves_ends_the_answer_quietly(endless, state):
    running, reading = endless(*MESSCTL)
    os.close(reading)
    _, err = running.communicate()
    assert (running.returncode, err) == (0, b"")
    assert_sound(state, requests=1)


@pytest.mark.parametrize("arguments", [["ask", SUM], ["log"]])
def test_output_without_a_reader_is_no_error(arguments, state):
    assert run(["ask", SUM, "--state", str(state)]) == 0
    reading, writing = os.pipe()
    os.close(reading)
    done = process(*arguments, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
    assert_sound(state)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_answer_that_cannot_be_written_is_one_line(state):
    with Path("/dev/full").open("w") as full:
        done = process("ask", SUM, stdout=full)
    error = assert_one_line(done.returncode, b"", done.stderr)
    assert error.startswith("messctl: standard output: No space left on device")
    assert_sound(state)


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_no_harm(closed, state):
    command = f'exec "$@" {closed}'
    done = subprocess.run(
        ["bash", "-c", command, "bash", *MESSCTL, "ask", SUM, "--model", "mini-1m"], capture_output=True, check=False
    )
    said = b"" if ">&-" in closed.split() else b"42\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, said, b"")
    assert_sound(state, requests=1)


def test_an_ascii_stream_gets_escapes(state):
    Store(state).close()
    done = process("status", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u03b1 = 0.8" in done.stdout


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured through /proc")
def test_a_gigabyte_on_standard_input_is_refused_early(state):
    """Refused after its first 8 MB: whoever sends it is cut off, and memory stays flat."""
    code = (
        "import sys; from pathlib import Path; from messctl.cli import run; code = run(['ask'])\n"
        "status = Path('/proc/self/status').read_text().split()\n"
        "print(status[status.index('VmHWM:') + 1]); sys.exit(code)"
    )
    with subprocess.Popen(["head", "-c", "1G", "/dev/zero"], stdout=subprocess.PIPE) as sending:
        done = subprocess.run([sys.executable, "-c", code], stdin=sending.stdout, capture_output=True, check=False)
        sending.stdout.close()
    assert sending.returncode == -signal.SIGPIPE
    assert int(done.stdout) < 100 * 1024
    assert "larger than 8 MB" in assert_one_line(done.returncode, b"", done.stderr)
    assert not state.exists()
