"""Trust: whose zoo.yaml and whose state is used, over which network a key goes, and who may read what is written."""

import os
import stat
from pathlib import Path

import pytest
from live_making import STATED, assert_one_line, typed

from messctl.backends import Scripted
from messctl.cli import run
from messctl.errors import ConfigError, OutputError, UsageError
from messctl.outputs import atomic_write, check_writable, make_private_file
from messctl.record.journal import Journal, journal_path
from messctl.trust import foreign_link, owner
from messctl.zoo import ModelSpec, load_zoo

NOBODY = 65534
only_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files to somebody else"
)
pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners and permissions as on POSIX")
WORD = "and says where prompts and keys go; name the zoo that you trust with --zoo"
SHARED = "its permissions let others read your prompts and the answers"


@pytest.fixture
def place(tmp_path, monkeypatch, state):
    """The current folder, with a zoo of scripted models."""
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: Scripted({"dear": "yes", "cheap[red]": "yes"}))
    (tmp_path / "zoo.yaml").write_text(STATED)
    return tmp_path


def given_away(path: Path) -> Path:
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return path


@only_root
@pytest.mark.parametrize("command", [["ask", "hi"], ["chat"], ["status"], ["doctor"]])
def test_a_zoo_of_somebody_else_is_mentioned_once(command, place, capsys):
    given_away(place / "zoo.yaml")
    run(command)
    err = capsys.readouterr().err
    assert err.count(WORD) == 1, err
    assert f"./zoo.yaml belongs to {owner((place / 'zoo.yaml').stat())}" in err


@only_root
def test_a_link_of_somebody_else_to_a_zoo_is_mentioned(place, capsys):
    (place / "zoo.yaml").rename(place / "mine.yaml")
    (place / "zoo.yaml").symlink_to("mine.yaml")
    assert run(["ask", "hi"]) == 0
    assert WORD not in capsys.readouterr().err
    given_away(place / "zoo.yaml")
    assert run(["ask", "hi"]) == 0
    assert WORD in capsys.readouterr().err


def test_a_zoo_that_everybody_can_change_is_mentioned(place, capsys):
    (place / "zoo.yaml").chmod(0o666)
    assert run(["ask", "hi"]) == 0
    assert f"./zoo.yaml can be changed by everybody, {WORD}" in capsys.readouterr().err


def test_an_own_zoo_and_a_named_one_are_not_mentioned(place, capsys):
    assert run(["ask", "hi"]) == 0
    (place / "zoo.yaml").chmod(0o666)
    assert run(["ask", "hi", "--zoo", "zoo.yaml"]) == 0
    assert capsys.readouterr().err == ""


HTTP = "http://gpu.example.net:8080/v1"
EXPOSED = [
    (HTTP, True),
    ("http://10.0.0.7/v1", True),
    ("http://[2001:db8::1]:8000", True),
    ("http://localhost.example.net/v1", True),
    ("http://0.0.0.0:8080", True),
    ("HTTP://GPU.EXAMPLE.NET/v1", True),
    ("https://gpu.example.net/v1", False),
    ("http://localhost:8080/v1", False),
    ("http://box.localhost:8080/v1", False),
    ("http://127.8.9.1:8080/v1", False),
    ("http://[::1]:8080/v1", False),
]


@pytest.mark.parametrize(("url", "exposed"), EXPOSED)
def test_a_key_goes_over_plain_http_only_within_this_machine(url, exposed, tmp_path):
    text = f"models:\n- {{{{name: far, url: '{url}', key_env: A_KEY, parameters: 1.0e+9{{}}}}}}\n"
    (tmp_path / "zoo.yaml").write_text(text.format(""))
    if not exposed:
        assert load_zoo(tmp_path / "zoo.yaml").models[0].url
        return
    wanted = "line 2: model 'far' would send the key in A_KEY as plain text to another machine; use https, or, if"
    with pytest.raises(ConfigError, match=wanted):
        load_zoo(tmp_path / "zoo.yaml")
    with pytest.raises(UsageError, match="allow_http: true"):
        ModelSpec("far", url=url, key_env="A_KEY", parameters=1e9)
    (tmp_path / "zoo.yaml").write_text(text.format(", allow_http: true"))
    assert load_zoo(tmp_path / "zoo.yaml").models[0].allow_http
    (tmp_path / "zoo.yaml").write_text(text.format("").replace("key_env: A_KEY, ", ""))
    assert load_zoo(tmp_path / "zoo.yaml").models[0].key_env is None


def test_zoo_init_sends_no_key_over_plain_http(place, capsys, monkeypatch):
    monkeypatch.setenv("A_KEY", "secret")
    arguments = ["zoo", "init", "--url", "http://gpu.example.net", "--key-env", "A_KEY", "-o", "new.yaml", "--yes"]
    assert "allow_http: true" in assert_one_line(run(arguments), *capsys.readouterr())


@pytest.mark.parametrize("command", [["ask", "hi"], ["status"], ["log"], ["feedback", "good"], ["doctor"]])
def test_a_state_that_others_may_read_gets_one_warning(command, place, state, capsys):
    assert run(["ask", "hi"]) == 0
    assert capsys.readouterr().err == ""
    state.chmod(0o644)
    run(command)
    err = capsys.readouterr().err
    assert err.count("warning") == 1, err
    assert f"{state}: {SHARED}; close it: chmod 600 {state}" in err
    state.chmod(0o600)
    run(command)
    assert capsys.readouterr().err == ""


@only_root
def test_a_state_of_somebody_else_gets_one_warning(place, state, capsys):
    assert run(["ask", "hi"]) == 0
    given_away(state)
    assert run(["status"]) == 0
    assert f"{state}: belongs to {owner(state.stat())}, who can read what you ask" in capsys.readouterr().err


@only_root
def test_a_state_behind_a_link_of_somebody_else_is_refused(place, capsys, monkeypatch):
    (place / "real").mkdir()
    (place / "planted").symlink_to("real")
    given_away(place / "planted")
    for command in (["ask", "hi"], ["status"], ["reset", "--yes"]):
        code = run([*command, "--state", str(place / "planted" / "state")])
        out, err = capsys.readouterr()
        assert (code, out) == (2, "")
        assert "planted is a link of" in err
    assert os.listdir(place / "real") == []


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("before", [None, 0o644, 0o600])
def test_exports_and_recordings_are_private(before, place, capsys):
    assert run(["ask", "hi"]) == 0
    (place / "p.txt").write_text("hi\n")
    for name, command in (
        ("log.parquet", ["export"]),
        ("rec.parquet", ["record", "p.txt", "--grader", "none", *(["--overwrite"] if before else [])]),
    ):
        if before is not None:
            (place / name).touch()
            (place / name).chmod(before)
        assert run([*command, "-o", name]) == 0
        assert mode(place / name) == 0o600


def test_the_journal_of_a_recording_is_private_and_follows_no_link(tmp_path):
    path = journal_path(tmp_path / "rec.parquet")
    with Journal(path, {}):
        assert mode(path) == 0o600
    path.unlink()
    victim = tmp_path / "victim"
    path.symlink_to(victim)
    with pytest.raises(OutputError, match="it is a link"):
        Journal(path, {})
    assert not victim.exists()


def test_a_plot_follows_no_link_out_of_its_folder(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "work").mkdir()
    plot = tmp_path / "work" / "plot.png"
    for target in ("../victim", str(tmp_path / "victim"), "../new", "/etc/passwd"):
        plot.unlink(missing_ok=True)
        plot.symlink_to(target)
        with pytest.raises(OutputError, match="is a link out of its folder, to .*; name that file, or remove the link"):
            check_writable(plot)
        with pytest.raises(OutputError, match="is a link"), atomic_write(plot) as aside:
            aside.write_text("x")
    assert (tmp_path / "victim").read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == ["victim", "work"]


@only_root
def test_no_output_follows_a_link_of_somebody_else(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "planted").symlink_to("folder")
    given_away(tmp_path / "planted")
    (tmp_path / "folder" / "plot.png").symlink_to("other.png")
    for path in (tmp_path / "planted" / "new.png", given_away(tmp_path / "folder" / "plot.png")):
        assert foreign_link(path) in (tmp_path / "planted", path)
        with pytest.raises(OutputError, match="is a link of"), atomic_write(path) as aside:
            aside.write_text("x")
    assert os.listdir(tmp_path / "folder") == ["plot.png"]


def a_link(path):
    path.symlink_to(path.with_name("victim"))


def a_pipe(path):
    os.mkfifo(path)


def a_folder(path):
    path.mkdir()


@pytest.mark.parametrize("makes", [a_link, a_pipe, a_folder])
def test_the_chat_history_is_written_into_an_ordinary_file_only(makes, tmp_path, capsys):
    editor = pytest.importorskip("messctl.cli.chat_editor")
    makes(tmp_path / "state-chat")
    history = editor._History(tmp_path / "state-chat")
    assert list(history.load_history_strings()) == []
    history.store_string("hello")
    assert "state-chat: what you type is not stored (" in capsys.readouterr().err
    assert not (tmp_path / "victim").exists()


def test_a_private_file_is_closed_to_others(tmp_path):
    (tmp_path / "file").touch(mode=0o644)
    make_private_file(tmp_path / "file")
    make_private_file(tmp_path / "new")
    assert (mode(tmp_path / "file"), mode(tmp_path / "new")) == (0o600, 0o600)


@only_root
def test_a_private_file_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "file").touch()
    given_away(tmp_path / "file")
    with pytest.raises(OSError, match="belongs to"):
        make_private_file(tmp_path / "file")


def test_a_chat_of_a_user_keeps_its_history(tmp_path, monkeypatch):
    editor = pytest.importorskip("messctl.cli.chat_editor")
    typed(monkeypatch)
    history = editor._History(tmp_path / "state-chat")
    history.store_string("hello")
    assert list(editor._History(tmp_path / "state-chat").load_history_strings()) == ["hello"]
    assert mode(tmp_path / "state-chat") == 0o600
