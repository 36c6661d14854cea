"""Where compiled functions are kept: in a folder of this user's own, or nowhere."""

import os
from pathlib import Path

import pytest

from messctl.learning import compiled_files
from messctl.learning.cache_folders import cache_folders
from messctl.learning.compiled import PLAIN_CALLS, compiled, compiled_loop
from messctl.learning.compiled_files import kept_in


@pytest.fixture(autouse=True)
def compiling(monkeypatch):
    """Compile, also if the environment says that nothing is to be compiled."""
    monkeypatch.setattr("numba.core.config.DISABLE_JIT", 0)


def step(value):
    return value + 1


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The user's cache folder and that of the state, in a process that has not yet chosen."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MESSCTL_STATE", str(tmp_path / "state" / "file"))
    config = pytest.importorskip("numba.core.config")
    monkeypatch.setattr(config, "CACHE_DIR", config.CACHE_DIR)
    monkeypatch.setattr(config, "CACHE_LOCATOR_CLASSES", config.CACHE_LOCATOR_CLASSES)
    kept_in.cache_clear()
    yield tmp_path / "cache" / "messctl", tmp_path / "state" / "messctl-cache"
    kept_in.cache_clear()


def files(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.rglob("*.nb*"))


def test_the_users_cache_folder_comes_first(folders):
    assert compiled_loop(step)(1.5) == 2.5
    assert files(folders[0]) == [".nbc", ".nbi"]
    assert folders[0].stat().st_mode & 0o777 == 0o700
    assert not folders[1].exists()


def test_without_a_cache_folder_files_are_beside_the_state(folders, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert compiled_loop(step)(1.5) == 2.5
    assert files(folders[1]) == [".nbc", ".nbi"]


def test_without_any_folder_loops_are_compiled_and_steps_stay_plain(folders, tmp_path):
    (tmp_path / "cache").write_text("a file")
    (tmp_path / "state").write_text("a file")
    loop, often = compiled_loop(step), compiled(step)
    assert loop(1.5) == 2.5
    for _ in range(PLAIN_CALLS + 2):
        assert often(1.5) == 2.5
    assert "dispatcher" in vars(loop)
    assert "dispatcher" not in vars(often)


def test_a_folder_that_the_user_names_comes_before_all_others(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "named"))
    assert compiled_loop(step)(1.5) == 2.5
    assert files(tmp_path / "named") == [".nbc", ".nbi"]


def test_a_folder_that_is_a_link_is_left_alone(folders, tmp_path):
    """numba reads with pickle what it finds there."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "cache").mkdir()
    folders[0].symlink_to(tmp_path / "theirs")
    assert kept_in().parent == folders[1]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_somebody_else_is_left_alone(folders):
    folders[0].mkdir(parents=True)
    os.chown(folders[0], 65534, 65534)
    assert kept_in().parent == folders[1]


def test_a_folder_that_others_may_write_into_is_closed_to_them(folders):
    folders[0].mkdir(parents=True)
    folders[0].chmod(0o777)
    assert kept_in().parent == folders[0]
    assert folders[0].stat().st_mode & 0o777 == 0o700


def test_a_numba_settings_file_in_the_current_folder_chooses_no_cache(folders, tmp_path, monkeypatch):
    from numba.core import config

    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "planted"))
    monkeypatch.setattr(config, "CACHE_LOCATOR_CLASSES", "planted.Locator")
    assert compiled_loop(step)(1.5) == 2.5
    assert files(tmp_path / "planted") == []
    assert files(folders[0]) == [".nbc", ".nbi"]


@pytest.mark.parametrize("broken", [b"", b"\x80", b"nonsense" * 100])
def test_a_broken_file_is_compiled_anew(folders, broken):
    assert compiled_loop(step)(1.5) == 2.5
    for path in folders[0].rglob("*.nb*"):
        path.write_bytes(broken)
    assert compiled_loop(step)(1.5) == 2.5


def test_a_folder_that_disappears_is_no_error(folders, monkeypatch):
    loop = compiled_loop(step)
    assert loop.dispatcher
    for path in sorted(folders[0].rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folders[0].rmdir()
    assert loop(1.5) == 2.5


def test_the_folder_of_another_version_is_another(folders, monkeypatch):
    one = kept_in()
    kept_in.cache_clear()
    monkeypatch.setattr(compiled_files, "ROOMS", ("learning",))
    assert kept_in() != one


def test_a_user_without_a_home_folder_has_the_folder_beside_the_state_alone(monkeypatch, tmp_path):
    def homeless(*_arguments, **_named):
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setenv("MESSCTL_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("platformdirs.user_cache_dir", homeless)
    assert cache_folders() == [tmp_path / "messctl-cache"]
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: "~/.cache/messctl")
    assert cache_folders() == [tmp_path / "messctl-cache"]


def test_without_compiling_loops_run_as_plain_python(folders, monkeypatch):
    monkeypatch.setattr("numba.core.config.DISABLE_JIT", 1)
    assert compiled_loop(step)(1.5) == 2.5
    assert files(folders[0]) == []
