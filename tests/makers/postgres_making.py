"""A real PostgreSQL server for tests: made in a folder of its own, started, stopped, killed, and deleted."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import psycopg

from messctl.state.place import Address

USER, PASSWORD, DATABASE = "messctl", "s3cret/of:messctl@home", "messctl"
USERS = ("postgres", "nobody")
"""Who runs the server if these tests run as root: `initdb` refuses root."""

GUARD = 'cat; "$1" stop -w -m immediate -D "$2" >/dev/null 2>&1; cd /; rm -rf "$3"'
"""Waits until whoever started a server is gone, however that ended; then ends the server, and deletes its folder."""


def programs() -> Path | None:
    """Return the folder with the server's programs, the newest if there are several; None without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    if found:
        return found[-1]
    program = shutil.which("initdb")
    return Path(program).resolve().parent if program else None


class PostgresServer:
    """A server on a free port of this machine, with one database. A context manager: it runs within the block.

    If it is not `durable`, it does not wait for the disk, which is faster. `settings` are more of its settings.
    """

    def __init__(self, *, durable: bool = False, **settings: str | int) -> None:
        found = programs()
        assert found is not None, "a PostgreSQL server is installed"
        self._programs = found
        self.folder = Path(tempfile.mkdtemp(prefix="messctl-pg-"))
        self._data = self.folder / "data"
        self.user = next(user for user in USERS if _exists(user)) if os.getuid() == 0 else None
        if self.user:
            shutil.chown(self.folder, self.user)
        self._schemas = itertools.count()
        self.port = free_port()
        kept = {"fsync": "off", "full_page_writes": "off"} if not durable else {}
        self._settings = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.folder),
            "shared_buffers": "16MB", "max_connections": 50, "timezone": "UTC", **kept, **settings,
        }  # fmt: skip

    @property
    def url(self) -> str:
        """The database's URL, with its password."""
        return self.url_of(USER, PASSWORD)

    def url_of(self, user: str, password: str | None, database: str = DATABASE) -> str:
        """Return the URL of somebody else, or of another database."""
        who = quote(user, safe="") + ("" if password is None else f":{quote(password, safe='')}")
        return f"postgresql://{who}@127.0.0.1:{self.port}/{database}"

    def fresh(self) -> Address:
        """Return the address of a schema that nobody has used yet."""
        return Address.of(f"{self.url}?schema={self.schema()}")

    def schema(self) -> str:
        """Return the name of a schema that nobody has used yet."""
        return f"test_{next(self._schemas)}"

    def connection(self, url: str | None = None) -> psycopg.Connection:
        """Connect beside messctl."""
        return psycopg.connect(url or self.url, autocommit=True)

    def standby(self) -> PostgresServer:
        """Return a hot standby, which follows this server and can only be read. Enter its context to start it."""
        return _Standby(self)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = " ".join(f"-c {name}='{value}'" for name, value in self._settings.items())
        self._run("pg_ctl", "start", "-w", "-t", "60", "-D", self._data, "-l", self.folder / "log", "-o", options)

    def stop(self, mode: str = "fast") -> None:
        """Stop it; `immediate` is as if it crashed."""
        self._run("pg_ctl", "stop", "-w", "-m", mode, "-D", self._data)

    def log(self) -> str:
        """Return what it has logged."""
        return (self.folder / "log").read_text(errors="replace")

    def __enter__(self) -> Self:
        guard = [GUARD, "guard", self._programs / "pg_ctl", self._data, self.folder]
        self._guard = subprocess.Popen(
            ["sh", "-c", *map(str, guard)], stdin=subprocess.PIPE, start_new_session=True, **self._options
        )
        self._make()
        self.start()
        self._fill()
        return self

    def _make(self) -> None:
        """Make its files."""
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run(
            "initdb", "-D", self._data, "-U", USER, "-A", "scram-sha-256", "--pwfile", secret,
            "--no-sync", "--locale=C.UTF-8", "--encoding=UTF8",
        )  # fmt: skip

    def _fill(self) -> None:
        with self.connection(self.url_of(USER, PASSWORD, "postgres")) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")

    def __exit__(self, *_: object) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._guard.wait()

    @property
    def _options(self) -> dict[str, Any]:
        """How its programs run: as another user than root, and in its folder."""
        group = pwd.getpwnam(self.user).pw_gid if self.user else None
        env = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}
        return {
            "cwd": self.folder, "user": self.user, "group": group, "extra_groups": [] if self.user else None, "env": env
        }  # fmt: skip

    def _run(self, program: str, *arguments: str | Path, check: bool = True) -> None:
        done = subprocess.run(
            [self._programs / program, *map(str, arguments)],
            **self._options,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if program == "initdb" else subprocess.DEVNULL,
            check=False,
        )
        assert not check or done.returncode == 0, (program, done.stdout, self.log() if program == "pg_ctl" else "")


class _Standby(PostgresServer):
    def __init__(self, primary: PostgresServer) -> None:
        super().__init__()
        self._primary = f"host=127.0.0.1 port={primary.port} user={USER} password={PASSWORD}"

    def _make(self) -> None:
        follows = ("-R", "-X", "stream", "-c", "fast", "--no-sync")
        self._run("pg_basebackup", "-D", self._data, "-d", self._primary, *follows)

    def _fill(self) -> None:
        """What the primary server has comes by itself."""


def pgbouncer() -> str | None:
    """Return PgBouncer's program; None if it is not installed."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class PgBouncer:
    """PgBouncer before a server, in transaction mode, with some of its `sessions`, for which it waits."""

    def __init__(self, server: PostgresServer, sessions: int = 2, waits_s: int = 120) -> None:
        self._sessions = sessions
        self._waits_s = waits_s
        self._server = server
        self._running: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """The database's URL through it, with the password."""
        return self._server.url.replace(f":{self._server.port}/", f":{self.port}/")

    def __enter__(self) -> Self:
        folder, program = self._server.folder, pgbouncer()
        assert program is not None
        (folder / "users.txt").write_text(f'"{USER}" "{PASSWORD}"\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n{DATABASE} = host=127.0.0.1 port={self._server.port} dbname={DATABASE}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {folder / 'users.txt'}\npool_mode = transaction\n"
            f"default_pool_size = {self._sessions}\nmax_client_conn = 50\nquery_wait_timeout = {self._waits_s}\n"
        )
        user = self._server.user
        self._running = subprocess.Popen(
            [program, "-q", folder / "pgbouncer.ini"],
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=[] if user else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(100):
            with suppress(psycopg.Error), psycopg.connect(self.url, prepare_threshold=None):
                return self
            time.sleep(0.1)
        raise AssertionError("PgBouncer does not answer")

    def __exit__(self, *_: object) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.wait()


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
