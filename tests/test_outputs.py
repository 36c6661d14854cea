import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from messctl.errors import OutputError
from messctl.outputs import atomic_write, check_distinct, check_trace_writable, check_writable


def test_a_new_file_replaces_the_old_one_only_when_complete(tmp_path):
    path = tmp_path / "out"
    path.write_text("old")
    with atomic_write(path) as aside:
        aside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "out"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path) as aside:
        aside.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_an_error_of_the_disk_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="No space left"), atomic_write(tmp_path / "out") as aside:
        aside.write_text("x")
        raise OSError(28, "No space left on device")


def test_paths_that_cannot_be_written_are_refused(tmp_path):
    with pytest.raises(OutputError, match="is a directory"):
        check_writable(tmp_path)
    with pytest.raises(OutputError, match="does not exist"):
        check_writable(tmp_path / "no" / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        check_writable(tmp_path / "file" / "out")


def test_writing_to_a_link_replaces_its_target(tmp_path):
    """The target is replaced in its own folder. A target that does not exist is created."""
    folder = tmp_path / "targets"
    folder.mkdir()
    (folder / "old").write_text("old")
    for name in ("old", "new"):
        link = tmp_path / name
        link.symlink_to(folder / name)
        with atomic_write(link) as aside:
            assert aside.parent == folder
            aside.write_text("new")
        assert link.is_symlink()
        assert (folder / name).read_text() == "new"
    assert sorted(os.listdir(folder)) == ["new", "old"]
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OutputError, match="leads back to itself"):
        check_writable(tmp_path / "loop")
    (tmp_path / "lost").symlink_to(tmp_path / "no" / "out")
    with pytest.raises(OutputError, match="does not exist"):
        check_writable(tmp_path / "lost")


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o444, 0o664])
def test_a_file_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "out"
    path.write_text("old")
    path.chmod(mode)
    with atomic_write(path) as aside:
        assert aside.stat().st_mode & 0o077 == 0  # the unfinished file is private
        aside.write_text("new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", mode)


@pytest.mark.parametrize(
    ("content", "replaceable"),
    [(None, True), (b"", True), (b"PAR1...", True), (b"PAR", False), (b"SQLite format 3\0", False), (b"sla:", False)],
)
def test_a_trace_replaces_only_empty_and_parquet_files(content, replaceable, tmp_path):
    path = tmp_path / "t.parquet"
    if content is not None:
        path.write_bytes(content)
    if replaceable:
        check_trace_writable(path)
    else:
        with pytest.raises(OutputError, match=r"t\.parquet: exists and is not a Parquet file"):
            check_trace_writable(path)


def test_outputs_that_are_inputs_are_refused_under_any_name(tmp_path):
    (tmp_path / "in").touch()
    (tmp_path / "link").symlink_to("in")
    (tmp_path / "loop").symlink_to("loop")
    check_distinct([tmp_path / "loop"], [tmp_path / "in"])
    for output in (tmp_path / "link", tmp_path / "no" / ".." / "in"):
        with pytest.raises(OutputError, match="is read by the same command"):
            check_distinct([output], [tmp_path / "in"])
    with pytest.raises(OutputError, match="is written twice"):
        check_distinct([tmp_path / "loop", tmp_path / "loop"], [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_process_leaves_the_old_file(tmp_path, number):
    path = tmp_path / "out"
    path.write_text("old")
    code = (
        "import signal, sys, time; from pathlib import Path; from messctl.outputs import atomic_write\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # in case SIGINT was ignored
        "with atomic_write(Path(sys.argv[1])) as aside:\n"
        "    aside.write_text('half'); print('writing', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(number)
    assert process.returncode != 0
    assert path.read_text() == "old"


def test_a_path_that_no_system_has_is_refused():
    for refuse in (check_writable, check_trace_writable, lambda path: check_distinct([path], [])):
        with pytest.raises(OutputError, match="embedded null byte.*choose another place"):
            refuse(Path("a\0b"))
