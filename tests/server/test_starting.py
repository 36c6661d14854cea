"""What a server does before it serves: it claims its address, lets nobody in, and says what takes long."""

import socket

import pytest
from serving import TWO, Serving

pytest.importorskip("uvicorn")

from messctl.cli.serve import _prepare
from messctl.errors import UsageError
from messctl.learning.compiled import compiled_loop
from messctl.server.run import bound


def test_an_address_is_claimed_and_connections_are_refused_until_the_server_is_ready():
    with bound("127.0.0.1", 0) as claimed:
        port = claimed.getsockname()[1]
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            pass
        with pytest.raises(UsageError, match=f"port {port} .*; choose another one with --port"):
            bound("127.0.0.1", port)


def test_a_port_at_which_somebody_listens_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(UsageError, match="choose another one"):
        bound("127.0.0.1", other.getsockname()[1])


@pytest.mark.slow
def test_a_server_starts_again_at_once_though_connections_have_ended_there(tmp_path):
    with Serving(tmp_path, TWO, scripted=0) as serving:
        connection = serving.connection()
        connection.request("GET", "/healthz")
        assert connection.getresponse().read()
        port = connection.port
        serving.stop()  # the server closes the connection first, so its side of it stays for a while
        assert connection.sock.recv(1) == b""
        connection.close()
    with Serving(tmp_path, TWO, "--port", str(port), scripted=0) as again:
        assert again.ask("/readyz")[0] == 200


def test_what_is_compiled_is_said_once_though_nobody_is_at_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("numba.core.config.DISABLE_JIT", 0)
    monkeypatch.setattr("messctl.learning.compiled.keep", lambda _dispatcher: None)

    class Unprepared:
        def prepare(self):
            compiled_loop(lambda value: value + 1)(1.5)

    _prepare([Unprepared(), Unprepared()])
    assert capsys.readouterr().err == (
        "compiling, once after installing, for about half a minute; connections are refused until then\n"
    )


def test_a_start_that_compiles_nothing_says_nothing_of_it(capsys):
    class Prepared:
        def prepare(self):
            pass

    _prepare([Prepared()])
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_with_tenants_a_start_names_the_state_that_they_share_and_not_one_of_theirs(tmp_path):
    from messctl.server.keys import hash_of

    keys = "".join(f"- {{name: {name}, key_hash: '{hash_of('the key of ' + name)}'}}\n" for name in ("search", "batch"))
    with Serving(tmp_path, f"{TWO}tenants:\n{keys}", scripted=0) as serving:
        said = serving.process.stderr.readline()
    named = f"state: {serving.state}, and one beside it for each tenant"
    assert said == f"keys are needed; tenants: search, batch; {named}\n"
