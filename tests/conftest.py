"""What all tests share: where things are, a compiler cache that is never stale, and small recordings."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from postgres_making import PostgresServer

    from messctl.state.place import Address

POLICIES = ("messplus", "bandit")
"""Those that serve live."""

ROOT = Path(__file__).parents[1]


def pytest_configure() -> None:
    """Set up hypothesis and the compiler's cache.

    The key of the cache is the source of all rooms with compiled functions: numba does not see a change in a module
    that a compiled function calls.
    """
    sys.path.append(str(ROOT))  # for `training`, which is not installed; behind the installed messctl
    digest = hashlib.sha256()
    for room in ("learning", "policies", "tune"):
        for path in sorted((ROOT / "messctl" / room).rglob("*.py")):
            digest.update(path.read_bytes())
    # The first example of a test may be the one that compiles; in CI the same examples run every time.
    settings.register_profile("messctl", deadline=None, derandomize="CI" in os.environ)
    settings.load_profile("messctl")
    os.environ.pop("COLUMNS", None)  # parallel workers get the width of the terminal; a test that needs one sets it
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as messctl does, but some tests import llama-cpp-python before it
    os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".cache" / "numba" / digest.hexdigest()[:16]))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the slow tests to CI, and to whoever asks for them with `-m slow`."""
    if "CI" in os.environ or config.option.markexpr:
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real benchmark results beside the checkout; tests that need them skip where they are absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state of its own, in a folder of its own without a zoo.yaml, and nothing on standard input."""
    from live_making import typed

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESSCTL_STATE", str(tmp_path / "state"))
    typed(monkeypatch)
    return tmp_path / "state"


@pytest.fixture
def document(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a command in this process, see that it ends with `code` and complains of nothing, and return its JSON."""
    from messctl.cli import run

    def read(*arguments: str | Path, code: int = 0) -> Any:
        assert run([*arguments, "--json"]) == code
        out, err = capsys.readouterr()
        assert err == ""
        return json.loads(out)

    return read


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that runs as long as the tests do. Every `fresh` address is a schema of its own."""
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    import postgres_making

    if postgres_making.programs() is None:
        pytest.skip("no PostgreSQL server is installed: apt-get install postgresql")
    with postgres_making.PostgresServer() as server:
        yield server


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def places(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path | Address]:
    """Makes places where a state may be, all on one database: nothing is at any of them yet.

    A test runs once on either. Those on PostgreSQL are slow tests.
    """
    if request.param == "sqlite":
        return lambda: tmp_path_factory.mktemp("state") / "folder" / "state.sqlite"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.fresh


@pytest.fixture
def place(places: Callable[[], Path | Address]) -> Path | Address:
    """Where a state may be: on either database, and nothing is there yet."""
    return places()


@pytest.fixture(params=POLICIES)
def policy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have every zoo that is loaded route by one of the policies that serve live."""
    from dataclasses import replace

    from messctl import zoo

    load = zoo.load_zoo

    def load_with(path: Path | None) -> zoo.ZooFile:
        loaded = load(path)
        return replace(loaded, settings=replace(loaded.settings, policy=request.param))

    monkeypatch.setattr("messctl.zoo.load_zoo", load_with)
    return str(request.param)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The store's and the router's clock, which stands still until it is moved."""
    made = SimpleNamespace(now=1.7e9)
    stopped = SimpleNamespace(time=lambda: made.now, monotonic=time.monotonic, sleep=time.sleep)
    for module in ("state.request_log", "state.outages", "live.serving"):
        monkeypatch.setattr(f"messctl.{module}.time", stopped)
    return made
