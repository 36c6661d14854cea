"""What is true of a state on PostgreSQL alone: what a server does, may forbid, and may stop doing."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial

import psycopg
import pytest
from postgres_making import PASSWORD, PgBouncer, PostgresServer, pgbouncer, programs

from messctl.errors import StoreError, UsageError
from messctl.learning.snapshot import ModelSnapshot, Snapshot
from messctl.records import Decision, Outcome, Request
from messctl.state import group_commit, postgres_session
from messctl.state.migrations import MIGRATIONS
from messctl.state.place import Address, exists, place_of
from messctl.state.postgres_connection import PREPARED_AFTER
from messctl.state.postgres_errors import clause_of
from messctl.state.request_log import Circumstances
from messctl.state.store import Store, check

needs_pgbouncer = pytest.mark.skipif(
    pgbouncer() is None, reason="PgBouncer is not installed: apt-get install pgbouncer"
)
"""`.ci/run` installs it."""


def add(store, request_id, satisfied=None):
    """Log a request with its answer, and feedback on it if there is any."""
    decision = Decision(Request(request_id, "what?"), 1, "a", ("a",), propensity=0.5)
    with store.transaction():
        store.requests.add(decision, Circumstances("messplus", 0.8, "J", "a test"))
        store.requests.add_answers(request_id, {"a": Outcome(cost=1.0, answer="yes", tokens_in=3, tokens_out=1)})
        if satisfied is not None:
            store.requests.set_feedback(request_id, {"a": satisfied}, "a")


@pytest.fixture
def address(postgres):
    return postgres.fresh()


def shown(error: pytest.ExceptionInfo) -> str:
    """Return the one line of an error; the password is not in it, nor a part of it."""
    text = str(error.value)
    assert "\n" not in text
    assert "s3cret" not in text
    assert "@home" not in text
    return text


@pytest.mark.parametrize(
    ("text", "url", "schema", "written"),
    [
        ("postgresql://h/d", "postgresql://h/d", "messctl", "postgresql://h/d"),
        ("postgres://u:p@h:1/d?schema=x", "postgresql://u:p@h:1/d", "x", "postgresql://u@h:1/d?schema=x"),
        ("postgresql://u@h/d?sslmode=require&schema=a%20b&password=p", "postgresql://u@h/d?sslmode=require&password=p",
         "a b", "postgresql://u@h/d?sslmode=require&schema=a%20b"),
        ("postgresql:///?service=s&sslpassword=p", "postgresql:///?service=s&sslpassword=p", "messctl",
         "postgresql:///?service=s"),
        ("postgresql://u:p@h1,h2:5/d", "postgresql://u:p@h1,h2:5/d", "messctl", "postgresql://u@h1,h2:5/d"),
        ("postgresql://u:p@[::1]:5,h/d", "postgresql://u:p@[::1]:5,h/d", "messctl", "postgresql://u@[::1]:5,h/d"),
        ("postgresql://u:p@%2Ftmp/d", "postgresql://u:p@%2Ftmp/d", "messctl", "postgresql://u@%2Ftmp/d"),
        ("postgresql://h/d?passw%6Frd=p&Password=p", "postgresql://h/d?passw%6Frd=p&Password=p", "messctl",
         "postgresql://h/d"),
    ],
)  # fmt: skip
def test_an_address_is_shown_without_its_password(text, url, schema, written):
    address = place_of(text)
    assert isinstance(address, Address)
    assert (address.url, address.schema, str(address)) == (url, schema, written)
    assert exists(address)
    assert ":p@" not in repr(address)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:s3cret@home@h/d",
        "postgresql://u:s3cret/@home/d",
        "postgresql://u:s3cret?@home/d",
        "postgresql://u:s3cret#@home/d",
        "postgresql://u:s3cret @home/d",
        "postgresql://u:s3cret@h/d?schema=",
        "postgresql://u:s3cret@h/d?schema=pg_toast",
        f"postgresql://u:s3cret@h/d?schema={'x' * 64}",
        "postgresql://u:s3cret@h/d?schema=a%00b",
        "postgresql://u:s3cret%re@h/d",
        "postgresql://u@h/d?password=s3cret%re",
        "postgresql://u:s3cret%00@h/d",
        "postgresql://u:s3cret@[::1/d",
        "postgresql://u:s3cret@[::1]x/d",
        "postgresql://u:s3cret/d",
        "host=h user=u password=s3cret",
        "postgresql:/u:s3cret@h/d",
        "postgresql//u:s3cret@h/d",
        "postgresql:u:s3cret@h/d",
        "Postgres+psycopg:u:s3cret@h/d",
    ],
)
def test_an_address_that_is_none_is_refused_without_a_word_of_it(text):
    with pytest.raises(UsageError) as error:
        place_of(text)
    shown(error)


def test_tenants_have_schemas_of_their_own_however_long_their_names_are():
    main = Address.of("postgresql://h/d")
    names = ["a", "b-1", "x" * 63, "x" * 62 + "y"]
    schemas = {main.of_tenant(name).schema for name in names}
    assert len(schemas) == len(names)
    assert all(len(schema) <= 63 for schema in schemas)


# What a server may say -------------------------------------------------------------------------------------------


def refused(place: Address, what: str, remedy: str) -> None:
    """See that a state cannot be opened, why, and that the line says what to do."""
    with pytest.raises(StoreError) as error, Store(place) as store:
        add(store, "r1", satisfied=1.0)
    text = shown(error)
    assert text.startswith(f"{place}: ")
    assert what in text
    assert remedy in text.split("; ", 1)[1]


def test_a_wrong_password_is_said(postgres):
    refused(Address.of(postgres.url_of("messctl", "wrong")), "password authentication failed", "PGPASSWORD")
    refused(Address.of(postgres.url_of("messctl", None)), "no password supplied", "~/.pgpass")


def test_the_password_comes_from_the_usual_places(postgres, monkeypatch, tmp_path):
    bare = f"{postgres.url_of('messctl', None)}?schema={postgres.schema()}"
    with monkeypatch.context() as env:
        env.setenv("PGPASSWORD", PASSWORD)
        Store(Address.of(bare)).close()
    (tmp_path / "pgpass").write_text(f"*:*:*:*:{PASSWORD.replace(':', chr(92) + ':')}\n")
    (tmp_path / "pgpass").chmod(0o600)
    with monkeypatch.context() as env:
        env.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
        Store(Address.of(bare)).close()
    service = f"[mine]\nhost=127.0.0.1\nport={postgres.port}\nuser=messctl\ndbname=messctl\npassword={PASSWORD}\n"
    (tmp_path / "service").write_text(service)
    with monkeypatch.context() as env:
        env.setenv("PGSERVICEFILE", str(tmp_path / "service"))
        place = Address.of(f"postgresql://?service=mine&schema={postgres.schema()}")
        with Store(place) as store:
            add(store, "r1")
        assert "s3cret" not in str(place)


HINT = "\n\tIs the server running on that host and accepting TCP/IP connections?"


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        (f"connection failed: connection to server at \"h\", port 1 failed: Connection refused{HINT}\n",
         'connection to server at "h", port 1 failed: Connection refused'),
        ("consuming input failed: server closed the connection unexpectedly\n\tThis probably means the server "
         "terminated abnormally\n\tbefore or while processing the request.",
         "server closed the connection unexpectedly"),
        ("terminating connection due to administrator command\nSSL connection has been closed unexpectedly\n",
         "terminating connection due to administrator command, and SSL connection has been closed unexpectedly"),
        ('connection failed: connection to server at "h", port 1 failed: FATAL:  the database system is starting up',
         'connection to server at "h", port 1 failed: the database system is starting up'),
        ('connection is bad: definition of service "no" not found', 'definition of service "no" not found'),
        (f"connection failed: b is away{HINT}\nMultiple connection attempts failed. All failures were:\n"
         f"- host: 'a', port: '1', hostaddr: None: connection failed: a is away{HINT}\n"
         f"- host: 'b', port: None, hostaddr: '::1': connection failed: b is away{HINT}",
         "a is away, and b is away"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_libpq_says_on_several_lines_is_one_clause_without_its_guesses(text, clause):
    assert clause_of(text) == clause


def test_a_server_that_is_away_is_said(postgres):
    nobody = Address.of("postgresql://messctl@127.0.0.1:1/messctl")
    refused(nobody, "Connection refused", "see that the server runs")
    refused(Address.of("postgresql://no-such-host.invalid/d"), "no-such-host.invalid", "correct the host's name")
    refused(Address.of(postgres.url_of("messctl", PASSWORD, "nowhere")), "does not exist", "correct the name")
    refused(Address.of("postgresql://h/d?no_such=1"), "no_such", "correct the address")


def role(postgres: PostgresServer, name: str, *statements: str) -> Address:
    """Make a user with a password of its own, and return where its state would be."""
    with postgres.connection() as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 's3cret'")
        for statement in statements:
            connection.execute(statement)
    return Address.of(f"{postgres.url_of(name, 's3cret')}?schema={postgres.schema()}")


def test_missing_rights_are_said(postgres):
    place = role(postgres, "maker")
    refused(place, "permission denied for database messctl", "grant this user the right")
    with Store(Address(postgres.url, place.schema)) as store:
        add(store, "r1")
    with postgres.connection() as connection:
        connection.execute(f"GRANT USAGE ON SCHEMA {place.schema} TO maker")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {place.schema} TO maker")
    refused(place, "permission denied for table state", "grant this user the right")
    with Store(place, looking=True) as store:  # who may only read can look
        assert [each.decision.request.request_id for each in store.requests] == ["r1"]


def test_a_server_that_can_only_be_read_is_said(postgres):
    place = role(postgres, "reader", "ALTER ROLE reader SET default_transaction_read_only = on")
    Store(Address(postgres.url, place.schema)).close()
    with postgres.connection() as connection:
        connection.execute(f"GRANT ALL ON SCHEMA {place.schema} TO reader")
        connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {place.schema} TO reader")
    refused(place, "read-only transaction", "name the primary server")
    assert check(place) == []


def test_looking_whether_a_state_can_be_used_writes_nothing_and_says_why_not(postgres, address):
    with Store(address) as store, Store(address) as other:
        add(store, "r1")
        with other.unchanging():
            before = other.database.stamp
        store.database.check_usable()
        with other.unchanging():
            assert other.database.stamp == before
        with postgres.connection() as connection:
            connection.execute("ALTER DATABASE messctl SET default_transaction_read_only = on")
        try:
            cut(postgres)
            with pytest.raises(StoreError, match="nothing can be stored; it can only be read: name the primary server"):
                store.database.check_usable()
        finally:
            with postgres.connection() as connection:
                connection.execute("SET default_transaction_read_only = off")
                connection.execute("ALTER DATABASE messctl RESET default_transaction_read_only")
        cut(postgres)
        store.database.check_usable()
        add(store, "r2")


def test_a_statement_timeout_is_said_and_stores_nothing(postgres):
    place = role(postgres, "hurried", "ALTER ROLE hurried SET statement_timeout = '200ms'")
    with Store(Address(postgres.url, place.schema)) as holder:
        with postgres.connection() as connection:
            connection.execute(f"GRANT ALL ON SCHEMA {place.schema} TO hurried")
            connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {place.schema} TO hurried")
            connection.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {place.schema} TO hurried")
        with Store(place) as store:
            with holder.transaction(), ThreadPoolExecutor(1) as pool:
                error = pool.submit(add, store, "r1").exception()
            assert "statement timeout" in str(error)
            assert "raise statement_timeout" in str(error)
            add(store, "r2")  # the next one goes on
            assert [each.decision.request.request_id for each in store.requests] == ["r2"]


def test_a_lock_that_is_held_too_long_is_an_error(address, monkeypatch):
    monkeypatch.setattr("messctl.state.postgres_session.WAIT_S", 1)
    with (
        Store(address) as store,
        Store(address) as other,
        store.transaction(),
        pytest.raises(StoreError, match="another process holds it; try again"),
        other.transaction(),
    ):
        pass


def test_tables_of_another_program_are_refused_and_unchanged(postgres):
    place = postgres.fresh()
    with postgres.connection() as connection:
        connection.execute(f"CREATE SCHEMA {place.schema}")
        connection.execute(f"CREATE TABLE {place.schema}.users (id INT)")
        refused(place, "holds tables of another program", "?schema=NAME")
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [place.schema]).fetchall()
    assert found == [("users",)]
    with pytest.raises(StoreError, match="another program"):
        Store(place, looking=True)


def test_an_empty_schema_of_an_owner_without_further_rights_is_enough(postgres):
    place = role(postgres, "owner")
    with postgres.connection() as connection:
        connection.execute(f"CREATE SCHEMA {place.schema} AUTHORIZATION owner")
    with Store(place) as store:
        add(store, "r1", satisfied=1.0)
        store.policy.save(Snapshot(1, 0.0, 1.0 - 0.8))
        assert store.check() == []
        store.reset()


@pytest.mark.parametrize("looking", [True, False])
def test_a_state_of_a_newer_messctl_is_refused_also_by_who_has_it_open(postgres, looking):
    place = postgres.fresh()
    with Store(place) as store:
        with postgres.connection() as connection:
            connection.execute(f"UPDATE {place.schema}.state SET version = {len(MIGRATIONS) + 1}")
        with pytest.raises(StoreError, match="made by a newer messctl .*; upgrade messctl"):
            Store(place, looking=looking)
        with pytest.raises(StoreError, match="made by a newer messctl .*; upgrade messctl"):
            add(store, "r1")


def test_a_version_that_is_no_number_is_damage(postgres):
    place = postgres.fresh()
    with Store(place):
        pass
    with postgres.connection() as connection:
        connection.execute(f"ALTER TABLE {place.schema}.state ALTER COLUMN version TYPE TEXT")
        connection.execute(f"UPDATE {place.schema}.state SET version = 'Ohio'")
    refused(place, "its version is 'Ohio'", "restore a copy")


@pytest.mark.parametrize(
    ("column", "value", "line"),
    [
        ("version", "TEXT USING 'Ohio'", "its version is 'Ohio'"),
        ("version", "JSONB USING '{}'", "its version is {}"),
        ("version", "NUMERIC USING 'NaN'", "its version is Decimal('NaN')"),
        ("version", "BOOLEAN USING true", "its version is True"),
        ("version", "BIGINT USING NULL", "its version is None"),
        ("version", "TIMESTAMPTZ USING 'infinity'", "timestamp too large"),
        ("writes", "NUMERIC USING 'NaN'", "its number of writes is Decimal('NaN')"),
        ("writes", "DOUBLE PRECISION USING 1.5", "its number of writes is"),
        ("writes", "BIGINT USING NULL", "its number of writes is None"),
    ],
)
def test_counts_that_somebody_spoils_while_a_state_is_open_are_damage(postgres, column, value, line):
    place = postgres.fresh()
    with Store(place) as store:
        with postgres.connection() as connection:
            for change in ("DROP DEFAULT", "DROP NOT NULL", f"TYPE {value}"):
                connection.execute(f"ALTER TABLE {place.schema}.state ALTER COLUMN {column} {change}")
        for act in (lambda: list(store.requests), lambda: add(store, "r1"), store.database.check_usable):
            with pytest.raises(StoreError) as error:
                act()
            assert line in shown(error)
            assert "damaged" in shown(error)
            assert "restore a copy, or start again with `messctl reset`" in shown(error)


def test_a_database_whose_texts_are_not_utf8_is_refused(postgres):
    with postgres.connection() as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    refused(Address.of(postgres.url_of("messctl", PASSWORD, "latin")), "LATIN1", "ENCODING 'UTF8'")


def test_check_finds_what_somebody_changed(postgres):
    place = postgres.fresh()
    with Store(place) as store, postgres.connection() as connection:
        add(store, "r1", satisfied=1.0)
        store.policy.save(Snapshot(1, 0.0, 1.0 - 0.8, policy="p", models={"a": ModelSnapshot()}))
        assert store.check() == []
        for change, found in (
            ("UPDATE {}.feedback SET satisfied = 0.5", "answers have another grade"),
            ("UPDATE {}.router SET queue = 7", "the queue is 7.0"),
            ("UPDATE {}.models SET mean_cost = 'NaN'", "'mean_cost' = nan"),
            ("ALTER TABLE {}.requests DROP COLUMN meter", "has no column 'meter'"),
            ("DROP TABLE {}.steps", "there is no table 'steps'"),
        ):
            connection.execute(change.format(place.schema))
            assert any(found in line for line in store.check()), (change, store.check())
        store.reset()  # also makes anew what is missing
        assert store.check() == []
        add(store, "r1")


@pytest.mark.slow
@pytest.mark.skipif(programs() is None, reason="no PostgreSQL server is installed")
def test_a_hot_standby_can_be_looked_at_and_says_that_it_is_none_to_write_to():
    with PostgresServer() as primary:
        place = primary.fresh()
        with Store(place) as store:
            add(store, "r1")
        with primary.standby() as standby:
            there = Address(standby.url, place.schema)
            with Store(there, looking=True) as store:
                assert [each.decision.request.request_id for each in store.requests] == ["r1"]
            refused(there, "read-only transaction", "name the primary server")
            refused(Address(standby.url, "new"), "read-only transaction", "name the primary server")


@pytest.fixture
def small_disk(postgres):
    """A tablespace on a disk of 24 MB, and a file that fills it."""
    folder = postgres.folder / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user cannot mount a small disk")
    try:
        (folder / "space").mkdir()
        shutil.chown(folder / "space", postgres.user)
        with postgres.connection() as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{folder / 'space'}'")
        yield folder / "filled"
        with postgres.connection() as connection:
            connection.execute("DROP SCHEMA IF EXISTS on_small_disk CASCADE")
            connection.execute("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_is_said_stores_nothing_and_is_got_over(postgres, small_disk):
    place = role(postgres, "crowded", "ALTER ROLE crowded SET default_tablespace = small")
    place = Address(place.url, "on_small_disk")
    with postgres.connection() as connection:
        connection.execute("GRANT CREATE ON TABLESPACE small TO crowded")
        connection.execute("GRANT CREATE ON DATABASE messctl TO crowded")
    with Store(place) as store:
        add(store, "r1")
        with small_disk.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))
        with pytest.raises(StoreError) as error:
            for number in range(2, 2000):
                add(store, f"r{number}", satisfied=1.0)
        assert "free some space on the server's disk" in shown(error)
        before = [each.decision.request.request_id for each in store.requests]
        assert before == [f"r{number}" for number in range(1, len(before) + 1)]
        small_disk.unlink()
        add(store, "after")
        assert [each.decision.request.request_id for each in store.requests] == [*before, "after"]


def test_a_deadlock_with_another_program_is_said_and_stores_nothing(postgres, address):
    """Among themselves, messctl's processes cannot have one: they lock the one row of `state` first."""
    with Store(address) as store, postgres.connection() as other:
        add(store, "r1")
        add(store, "r2")
        touch = "UPDATE {}requests SET prompt = 'touched' WHERE request_id = '{}'"
        other.execute("BEGIN")
        other.execute(touch.format(f"{address.schema}.", "r2"))
        with ThreadPoolExecutor(1) as pool, pytest.raises(StoreError) as error, store.transaction():
            store.database.execute("SET LOCAL deadlock_timeout = '50ms'")
            store.database.execute(touch.format("", "r1"))
            store.database.row("SELECT 1")
            pool.submit(other.execute, touch.format(f"{address.schema}.", "r1"))
            while not store.database.row("SELECT 1 FROM pg_locks WHERE NOT granted"):
                time.sleep(0.01)
            store.database.execute(touch.format("", "r2"))
            store.database.row("SELECT 1")
        other.execute("ROLLBACK")
        assert "deadlock detected; other processes were in the way; try again" in shown(error)
        assert {each.decision.request.prompt for each in store.requests} == {"what?"}
        add(store, "r3")


# Lost connections ------------------------------------------------------------------------------------------------


def cut(postgres: PostgresServer) -> None:
    """End every other connection, as an administrator may."""
    with postgres.connection() as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                           "AND backend_type = 'client backend'")  # fmt: skip


def test_a_lost_connection_is_opened_again_at_the_next_transaction(postgres, address):
    with Store(address) as store:
        add(store, "r1")
        for begin in (store.transaction, store.unchanging):
            cut(postgres)
            with begin():
                assert len(list(store.requests)) == 1
        cut(postgres)
        assert store.requests.has("r1")


def test_a_connection_that_is_lost_within_a_transaction_stores_nothing(postgres, address):
    with Store(address) as store:
        store.policy.save(Snapshot(1))
        stamp = store.policy.stamp
        with pytest.raises(StoreError) as error, store.transaction():
            store.policy.save(Snapshot(2))
            cut(postgres)
            store.policy.save(Snapshot(3))
        assert "try again" in shown(error)
        assert store.policy.stamp != stamp
        assert store.policy.snapshot().decided == 1


def test_nothing_that_was_read_through_a_lost_connection_is_trusted(postgres, address):
    """A server that takes over may lack what the other one had committed last, and count other writes in its place."""
    with Store(address) as store:
        with store.transaction():
            store.policy.save(Snapshot(2))
            stamp = store.policy.stamp
            assert store.policy.queue() == 0.0
        cut(postgres)
        with postgres.connection() as beside:
            beside.execute(f'UPDATE "{address.schema}".router SET queue = 7.0')
        with store.transaction():
            assert store.policy.queue() == 7.0
            later = store.policy.stamp
        assert later[0] != stamp[0]
        assert later[1] != stamp[1]


def test_a_new_connection_that_is_not_ready_at_once_is_not_taken_for_the_old_one(postgres, address, monkeypatch):
    with Store(address) as store:
        with store.transaction():
            store.policy.save(Snapshot(2))
            stamp = store.policy.stamp
        cut(postgres)
        with monkeypatch.context() as patch:
            patch.setattr(postgres_session, "light_compression", lambda connection: 1 / 0)
            with pytest.raises(ZeroDivisionError), store.unchanging():
                pass
        with store.unchanging():
            assert store.policy.stamp[1] > stamp[1]


def test_nobody_begins_before_what_is_undone_is_forgotten(address, monkeypatch):
    begun = []
    with Store(address) as store, ThreadPoolExecutor(1) as pool:
        database = store.database
        undone = database._is_undone

        def begins():
            if free := database._session.alone.acquire(blocking=False):
                database._session.alone.release()
            return free

        def noted():
            begun.append(pool.submit(begins).result())
            undone()

        monkeypatch.setattr(database, "_is_undone", noted)
        with pytest.raises(ZeroDivisionError), store.transaction():
            raise ZeroDivisionError
    assert begun == [False]


def test_a_connection_that_is_lost_at_the_commit_says_that_it_may_be_stored(postgres, address, monkeypatch):
    with Store(address) as store:
        session = store.database._session
        commit = session._commit

        def cut_first():
            cut(postgres)
            commit()

        with monkeypatch.context() as patched, pytest.raises(StoreError) as error:
            patched.setattr(session, "_commit", cut_first)
            add(store, "r1")
        assert "the connection broke during the commit (" in shown(error)
        assert shown(error).endswith(
            "nobody knows whether this was stored: look with `messctl log` before you try again"
        )
        assert not store.requests.has("r1")


def test_a_write_that_fails_as_it_is_committed_spoils_no_other_of_its_group(address):
    """Its error comes with the answer to the commit, so for certain nothing was stored: each goes on alone."""
    with Store(address) as store:

        def twice(*names):
            for name in names:
                store.database.gather("INSERT INTO policies VALUES (?, 1, '', '')", (name,))

        works = [group_commit._Work(partial(twice, *names), synced=False) for names in ("a", "bb", "c")]
        store._commits._waiting.extend(works)
        store._commits._together([], len(works))
        assert [works[0].error, works[2].error] == [None, None]
        assert "duplicate key" in str(works[1].error)
        assert [row["name"] for row in store.database.rows("SELECT name FROM policies ORDER BY name")] == ["a", "c"]


@pytest.mark.parametrize("read", [True, False])
def test_what_is_gathered_is_written_before_anything_is_read_and_is_undone_with_the_rest(address, read):
    insert, count = "INSERT INTO policies VALUES (?, 1, '', '')", "SELECT count(*) FROM policies"
    with Store(address) as store:
        store.database.gather(insert, ("alone",))
        with store.transaction():
            for name in "ab":
                store.database.gather(insert, (name,))
            if read:
                assert store.database.row(count)[0] == 3
            store.database.execute("DELETE FROM policies WHERE name = 'a'")
        assert store.database.row(count)[0] == 2
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.database.gather(insert, ("undone",))
            assert not read or store.database.row(count)[0] == 3
            raise ZeroDivisionError
        with store.transaction():
            pass
        assert store.database.row(count)[0] == 2


def test_a_transaction_within_another_is_refused_and_takes_nothing_from_the_outer_one(address):
    with Store(address) as store:
        with store.transaction():
            store.database.gather("INSERT INTO policies VALUES (?, 1, '', '')", ("outer",))
            with pytest.raises(StoreError, match="begun within another"), store.transaction():
                pass
        assert store.database.row("SELECT count(*) FROM policies")[0] == 1


def test_a_transaction_of_which_a_part_failed_is_not_taken_for_stored(address):
    with Store(address) as store:
        with pytest.raises(StoreError, match="nothing was stored"), store.transaction():
            store.policy.save(Snapshot(2))
            with pytest.raises(StoreError, match="division by zero"):
                store.database.row("SELECT 1 / 0")
        assert store.policy.snapshot().decided == 0


@pytest.mark.slow
@pytest.mark.skipif(programs() is None, reason="no PostgreSQL server is installed")
def test_what_was_committed_outlives_a_crash_of_the_server_and_who_was_connected_goes_on():
    with PostgresServer(durable=True, wal_writer_delay="10s") as server, Store(server.fresh()) as store:
        for number in range(4):
            with store.transaction(synced=number % 2 == 0):
                store.policy.save(Snapshot(number + 1))
            server.stop("immediate")
            with pytest.raises(StoreError) as error:
                add(store, "lost")
            assert "see that the server runs" in shown(error)
            server.start()
            assert store.policy.snapshot().decided == number + 1
        add(store, "r1")
        assert [each.decision.request.request_id for each in store.requests] == ["r1"]


# Together --------------------------------------------------------------------------------------------------------


def test_a_process_sees_that_another_has_written_and_not_what_it_wrote_itself(address):
    with Store(address) as one, Store(address) as other:

        def stamp(store):
            with store.transaction():
                return store.policy.stamp

        first = stamp(one)
        assert stamp(one) == first
        add(one, "r1")
        assert stamp(one) == first
        add(other, "r2")
        assert stamp(one) != first


def test_many_processes_make_a_schema_at_once(postgres):
    for _ in range(5):
        place, together = postgres.fresh(), threading.Barrier(6)

        def opens(place=place, together=together):
            together.wait()
            with Store(place) as store:
                return store.requests.count()

        with ThreadPoolExecutor(6) as pool:
            assert [each.result() for each in [pool.submit(opens) for _ in range(6)]] == [0] * 6


def test_a_scan_reads_everything_also_while_others_are_read_and_written(address):
    with Store(address) as store:
        for number in range(7):
            add(store, f"r{number}", satisfied=1.0)
        for begin in (store.transaction, store.unchanging):
            with begin():
                found = []
                for row in store.database.scan("SELECT id, request_id FROM requests WHERE id > ? ORDER BY id", (2,)):
                    found.append((row["request_id"], store.requests.find(row["request_id"]).satisfied))
                    if begin == store.transaction:
                        store.requests.remark(row["request_id"], "?", None)
                assert found == [(f"r{number}", 1.0) for number in range(2, 7)]


@needs_pgbouncer
def test_all_works_behind_pgbouncer_that_gives_each_transaction_another_session(postgres):
    with PgBouncer(postgres) as bouncer:
        place = Address.of(f"{bouncer.url}?schema={postgres.schema()}")
        stores = [Store(place) for _ in range(4)]  # over two sessions of the server
        assert {each.database._session.present.prepare_threshold for each in stores} == {None}

        def work(number):
            for index in range(12):
                add(stores[number], f"r{number}-{index}", satisfied=1.0)
                assert stores[number].requests.find(f"r{number}-{index}").satisfied == 1.0

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(work, number) for number in range(4)]:
                done.result()
        stores[0].policy.save(Snapshot(1, stores[0].requests.queue(), stores[0].requests.balance()))
        assert stores[0].check() == []
        assert stores[0].requests.count() == 48
        with stores[0].in_memory() as copy:
            assert len(list(copy.requests)) == 48
        for store in stores:
            store.close()


@needs_pgbouncer
def test_two_tenants_of_a_server_go_on_behind_pgbouncer_with_one_session_more_than_tenants(postgres):
    with PgBouncer(postgres, sessions=3) as bouncer, ExitStack() as opened:
        place = Address.of(f"{bouncer.url}?schema={postgres.schema()}")
        common, *tenants = (
            opened.enter_context(Store(each)) for each in (place, place.of_tenant("a"), place.of_tenant("b"))
        )
        both_begun = threading.Barrier(2)

        def learn(store):
            with store.transaction():
                both_begun.wait(60)
                store.database.join(common.transaction)

        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(learn, tenants)) == [None, None]


@needs_pgbouncer
def test_who_waits_too_long_for_a_session_of_pgbouncer_is_told_to_enlarge_the_pool(postgres):
    with PgBouncer(postgres, sessions=1, waits_s=1) as bouncer:
        place = Address.of(f"{bouncer.url}?schema={postgres.schema()}")
        with Store(place) as store, Store(place) as other:
            with store.transaction(), pytest.raises(StoreError, match="enlarge PgBouncer's default_pool_size"):
                store.database.row("SELECT 1")
                add(other, "r1")
            add(other, "r2")


def test_nothing_but_plans_is_left_in_the_session_between_transactions(postgres, address):
    """PgBouncer may give the next transaction another one; then there are no plans either."""
    with Store(address) as store:
        add(store, "r1", satisfied=1.0)
        with store.unchanging():
            list(store.database.scan("SELECT * FROM requests"))
        connection = store.database._session.present
        for setting in ("search_path", "lock_timeout", "synchronous_commit"):
            with closing(psycopg.connect(postgres.url)) as fresh:
                expected = fresh.execute(f"SHOW {setting}").fetchone()
            assert tuple(connection.execute(f"SHOW {setting}".encode()).fetchone()) == expected
        for left in ("pg_cursors WHERE name <> ''", "pg_locks WHERE locktype = 'advisory'"):
            assert connection.execute(f"SELECT 1 FROM {left}".encode()).fetchone() is None


LATE_ERROR = "INSERT INTO policies SELECT 'a', 1 / CASE WHEN pg_sleep(0.1) IS NULL THEN 1 ELSE 0 END, '', ''"
"""Divides by zero, after more statements were sent."""


def test_a_statement_that_was_not_reached_as_its_plan_was_to_be_kept_works_later(address):
    """The server has no plan of it then. psycopg forgets that after the first failure, but not after a later one."""
    delete = "DELETE FROM policies WHERE name = ?"

    def done(store, *, failing=False):
        with pytest.raises(StoreError, match="zero") if failing else contextlib.nullcontext(), store.transaction():
            if failing:
                store.database.execute(LATE_ERROR)
            store.database.execute(delete, ("a",))

    with Store(address) as store:
        done(store, failing=True)
        for _ in range(PREPARED_AFTER):
            done(store)
        done(store, failing=True)
        done(store)


UNDONE = """
import sys
from messctl.state.place import Address
from messctl.state.store import Store

with Store(Address.of(sys.argv[1])) as store:
    store.requests.count()
    try:
        with store.transaction():
            store.database.execute("INSERT INTO feedback (request, satisfied, given_at) VALUES (9, 1.0, 1.0)")
            raise ValueError("the only word")
    except ValueError as error:
        print(error)
"""
"""A program in which an error comes while the answer to a statement, another error, is on its way."""


@pytest.mark.slow
def test_an_error_that_hides_behind_another_is_not_printed(postgres, address):
    Store(address).close()
    command = [sys.executable, "-c", UNDONE, f"{postgres.url}?schema={address.schema}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("the only word\n", "")
