"""Connections to servers of models: when they are used again, through which proxy they go, and whom they trust."""

import base64
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from contextlib import suppress

import pytest
from servers import misbehaving, streamed
from urllib3.util import parse_url

from messctl.backends import OpenAICompatible
from messctl.backends.connection import Connection, trusted
from messctl.backends.deadline import Deadline
from messctl.backends.key import Key
from messctl.backends.openai_errors import AttemptFailedError
from messctl.backends.proxy import proxy_before
from messctl.errors import BackendError
from messctl.records import Question
from messctl.zoo import ModelSpec

QUESTION = Question("hi")


def spec(url, **settings):
    return ModelSpec("big", url=url, retries=0, **settings)


def sound(handler):
    handler.answer(streamed("42"))


# --- how often a connection is made ----------------------------------------------------


def in_chunks(*chunks):
    """Return a behaviour that sends an answer in chunks, each with its length before it."""

    def behave(handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for chunk in chunks:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            handler.wfile.flush()

    return behave


def closing(handler):
    handler.answer(streamed("42"), Connection="close")
    handler.close_connection = True


def in_secret(behave):
    """Return a behaviour that closes the connection after its answer, and does not say so."""

    def behaves(handler):
        behave(handler)
        handler.close_connection = True

    return behaves


@pytest.mark.parametrize(
    ("behaviour", "connections"),
    [
        (sound, 1),
        (in_chunks(streamed("42"), b""), 1),
        (in_chunks(streamed("4", "2")[:60], streamed("4", "2")[60:], b""), 1),
        (in_chunks(streamed("42"), b"data: more\n\n"), 3),
        (closing, 3),
        (in_secret(sound), 3),
    ],
    ids=["a length", "chunks", "pieces", "more than the answer", "closed", "closed without a word"],
)
def test_a_connection_is_used_again_if_nothing_is_left_in_it(behaviour, connections):
    places = set()

    def behave(handler):
        places.add(handler.client_address)
        behaviour(handler)

    with misbehaving(behave) as server, OpenAICompatible(pause=lambda _: None) as backend:
        for _ in range(3):  # the end of a connection may come just after a request is sent: then it is sent again
            assert backend.complete(ModelSpec("big", url=server.url), QUESTION).answer == "42"
    assert len(places) == connections


def test_what_comes_late_is_never_taken_for_the_next_answer():
    late = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(streamed("late")), streamed("late"))

    def stall(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(100 + len(late)))
        handler.end_headers()
        handler.wfile.write(streamed("4")[:100])
        if handler.rfile.readline():  # another request
            handler.wfile.write(late)

    with misbehaving(stall, sound) as server, OpenAICompatible() as backend:
        with pytest.raises(BackendError, match="sends nothing"):
            backend.complete(spec(server.url, timeout_s=0.2), QUESTION)
        assert backend.complete(spec(server.url), QUESTION).answer == "42"


@pytest.mark.parametrize("end", ["0", "0\r\na: b\r\n"], ids=["of chunks", "of trailers"])
def test_an_end_that_drips_does_not_hold_up_the_answer(end):
    def behave(handler):
        in_chunks(streamed("42"))(handler)
        handler.wfile.write(end.encode())
        while not server.released.wait(0.02):
            handler.wfile.write(end[-6:].encode())

    with misbehaving(behave) as server, OpenAICompatible() as backend:
        assert backend.complete(spec(server.url, deadline_s=20), QUESTION).latency_s < 10


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/x; boundary*=\x00'en'a",
        "multipart/x; boundary*" + "9" * 5000 + "=a",
        "multipart/x; boundary*0*=a;boundary*=b",
        "message/rfc822" + "\r\rContent-Type: message/rfc822" * 1500,
    ],
    ids=["a null", "a long number", "no number", "mail in mail"],
)
def test_a_header_that_no_mail_has_is_the_failure_of_its_server(kind):
    odd = misbehaving(lambda handler: handler.answer(b"", kind=kind))
    with odd as server, OpenAICompatible() as backend, pytest.raises(BackendError, match="closes the connection"):
        backend.complete(spec(server.url), QUESTION)


def test_a_request_that_meets_a_connection_just_closed_is_sent_again_at_once():
    places = []

    def behave(handler):
        places.append(handler.client_address)
        if places.count(places[-1]) == 1:
            sound(handler)
        handler.close_connection = places.count(places[-1]) > 1

    with misbehaving(behave) as server, OpenAICompatible() as backend:
        for _ in range(2):
            assert backend.complete(spec(server.url), QUESTION).answer == "42"
    assert (len(places), len(set(places))) == (3, 2)


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@forks
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_deadlines_of_its_own():
    begun, ended = threading.Event(), threading.Event()

    def cut():
        begun.set()
        ended.wait(10)

    with Deadline(0).calling(cut):
        assert begun.wait(10)
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            with Deadline(10).calling(cut):
                os._exit(0)
        ended.set()
    assert os.waitpid(child, 0)[1] == 0


@forks
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_makes_its_own_connections():
    places = []

    def behave(handler):
        places.append(handler.client_address)
        sound(handler)

    with misbehaving(behave) as server, OpenAICompatible() as backend:
        backend.complete(spec(server.url), QUESTION)
        child = os.fork()
        if child == 0:
            os._exit(backend.complete(spec(server.url), QUESTION).answer != "42")
        assert os.waitpid(child, 0)[1] == 0
        backend.complete(spec(server.url), QUESTION)
    assert places[0] == places[2] != places[1]


def test_a_large_request_that_a_server_refuses_before_it_has_read_all_is_refused_for_its_reason():
    def refuse(listening):
        connection, _ = listening.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(10)
            while connection.recv(2**20):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listening, OpenAICompatible() as backend:
        threading.Thread(target=refuse, args=(listening,), daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        with pytest.raises(BackendError, match="413"):
            backend.complete(spec(url), Question("word " * 10**6))


def test_a_large_request_may_take_longer_than_a_server_may_be_silent():
    def read_slowly(listening):
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            while not connection.recv(2**16).endswith(b"}"):
                connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
                time.sleep(0.02)
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + streamed("42"))

    with socket.socket() as listening, OpenAICompatible() as backend:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        threading.Thread(target=read_slowly, args=(listening,), daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        assert backend.complete(spec(url, timeout_s=0.5), Question("word " * 10**6)).answer == "42"


def test_a_line_that_is_cut_before_it_is_connected_is_cut_at_once_and_can_be_mended():
    with misbehaving(sound) as server:
        model, connection = spec(server.url), Connection(server.url, trusted)
        connection.cut()
        with pytest.raises(AttemptFailedError), connection.send(model, "POST", "x", b"{}", Key(None), 5, 5):
            pass
        connection.mend()
        with connection.send(model, "POST", "x", b"{}", Key(None), 5, 5) as response:
            assert b"".join(response.pieces()) == streamed("42")
        connection.close()


def test_nothing_is_cut_after_its_time_was_stopped():
    begun, ended = threading.Event(), threading.Event()

    def cut():
        begun.set()
        ended.wait(0.1)
        ended.set()

    with Deadline(0).calling(cut):
        assert begun.wait(10)
    assert ended.is_set()


def test_what_a_server_says_before_its_answer_is_skipped():
    def behave(handler):
        for early in ("100 Continue", "102 Processing", "103 Early Hints"):
            handler.wfile.write(f"HTTP/1.1 {early}\r\nLink: </x>\r\n\r\n".encode())
        sound(handler)

    with misbehaving(behave) as server, OpenAICompatible() as backend:
        assert backend.complete(spec(server.url), QUESTION).answer == "42"


def test_requests_say_who_asks():
    with misbehaving(sound) as server, OpenAICompatible() as backend:
        backend.complete(spec(server.url), QUESTION)
    headers = server.requests[0][1]
    assert headers["User-Agent"] == "messctl"
    assert (headers["Content-Type"], headers["Accept-Encoding"]) == ("application/json", "gzip, deflate")
    assert headers["Host"] in server.url


def test_an_encoding_that_repeats_the_key_is_reported_without_it(monkeypatch):
    monkeypatch.setenv("KEY", "K-3")
    odd = misbehaving(lambda handler: handler.answer(b"", Content_Encoding="br, K-3"))
    with odd as server, OpenAICompatible() as backend, pytest.raises(BackendError, match=r"\(br, \(the key\)\)"):
        backend.complete(spec(server.url, key_env="KEY"), QUESTION)


@pytest.mark.parametrize("host", ["[v1.a]", "-ä-.invalid"])
def test_a_url_that_cannot_be_used_is_reported_as_such(host):
    with OpenAICompatible() as backend, pytest.raises(BackendError, match="has a host that cannot be: check the url"):
        backend.complete(spec(f"http://{host}/v1"), QUESTION)


# --- proxies and trust -----------------------------------------------------------------


def basic(who):
    return "Basic " + base64.b64encode(who.encode()).decode()


class Proxy:
    """A proxy on loopback that leads every tunnel to one place. `asked` holds the head of each request."""

    def __init__(self, place, context=None):
        self.asked = []
        self._place = place
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listening.close()

    def _serve(self):
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._tunnel, args=(client,), daemon=True).start()

    def _tunnel(self, client):
        if self._context:
            client = self._context.wrap_socket(client, server_side=True)
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        self.asked.append(head.decode())
        with client, socket.create_connection(self._place) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pass_on, args=(server, client))
            back.start()
            pass_on(client, server)
            back.join()


def pass_on(source, target):
    """Send what comes from one connection to the other, and its end."""
    with suppress(OSError):
        while piece := source.recv(2**16):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    names = "subjectAltName=DNS:models.invalid,DNS:localhost"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=models.invalid -addext {names}"
    files = folder / "certificate.pem", folder / "key.pem"
    subprocess.run([*command.split(), "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    return files


def context_of(certificate):
    """Return how a server with a certificate speaks TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def secure(certificate):
    """A server that speaks TLS, with a certificate that only who is told to trusts."""
    with misbehaving(sound) as server:
        server.socket = context_of(certificate).wrap_socket(server.socket, server_side=True)
        yield server


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def url_of(server, host):
    return server.url.replace("http://127.0.0.1", f"https://{host}")


def test_a_server_with_tls_is_asked_if_its_certificate_is_trusted(secure, certificate, monkeypatch):
    with OpenAICompatible() as backend, pytest.raises(BackendError, match="offers no secure connection .*CERTIFICATE"):
        backend.complete(spec(url_of(secure, "localhost")), QUESTION)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with OpenAICompatible() as backend:
        assert backend.complete(spec(url_of(secure, "localhost")), QUESTION).answer == "42"


def test_what_comes_after_an_answer_in_the_same_piece_of_tls_is_no_answer(secure, certificate, monkeypatch):
    def behave(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(streamed("42"))))
        head = b"".join(handler._headers_buffer) + b"\r\n" + streamed("42")
        forged = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(streamed("6")), streamed("6"))
        handler.wfile.write(head.ljust(8192) + forged)  # as much as is read at once goes with the answer
        handler._headers_buffer.clear()

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    secure.behaviours = [behave, sound]
    with OpenAICompatible() as backend:
        for _ in range(2):
            assert backend.complete(spec(url_of(secure, "localhost")), QUESTION).answer == "42"


def test_a_certificate_of_another_machine_is_refused(secure, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with OpenAICompatible() as backend, pytest.raises(BackendError, match="offers no secure connection"):
        backend.complete(spec(url_of(secure, "127.0.0.1")), QUESTION)


@pytest.mark.parametrize("scheme", ["", "http://"])
@pytest.mark.parametrize(
    ("who", "stated"),
    [("", None), ("me:p%40ss@", basic("me:p@ss")), ("me:€%C3%A4@", basic("me:€ä")), ("me@", basic("me:"))],
)
def test_a_server_with_tls_is_reached_through_a_tunnel(scheme, who, stated, secure, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with Proxy(secure.server_address) as proxy, OpenAICompatible() as backend:
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}{who}{proxy.address}")
        for _ in range(2):
            assert backend.complete(spec(url_of(secure, "models.invalid")), QUESTION).answer == "42"
    (head,) = proxy.asked
    assert head.startswith(f"CONNECT models.invalid:{secure.server_address[1]} HTTP/1.")
    found = [line.partition(": ")[2] for line in head.splitlines() if line.lower().startswith("proxy-authorization")]
    assert found == ([stated] if stated else [])
    assert "proxy-authorization" not in {name.lower() for name in secure.requests[0][1]}


def test_a_proxy_with_tls_leads_to_a_server_with_tls(secure, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with Proxy(secure.server_address, context_of(certificate)) as proxy, OpenAICompatible() as backend:
        monkeypatch.setenv("HTTPS_PROXY", f"https://{proxy.address.replace('127.0.0.1', 'localhost')}")
        assert backend.complete(spec(url_of(secure, "models.invalid")), QUESTION).answer == "42"
    assert proxy.asked[0].startswith("CONNECT models.invalid")


def test_a_proxy_gets_its_own_name_and_password_and_the_whole_address(monkeypatch):
    with misbehaving(sound) as proxy, OpenAICompatible() as backend:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1").replace("//", "//me:secret@"))
        assert backend.complete(spec("http://models.invalid/v1"), QUESTION).answer == "42"
    path, headers, _ = proxy.requests[0]
    assert path == "http://models.invalid/v1/chat/completions"
    assert headers["Proxy-Authorization"] == basic("me:secret")
    assert headers["Host"] == "models.invalid"


@pytest.mark.parametrize(
    ("host", "named", "direct"),
    [
        ("models.test", "models.test", True),
        ("models.test", ".test", True),
        ("models.test", "test", True),
        ("models.test", "*.TEST", True),
        ("models.test", "*", True),
        ("models.test", "other, models.test", True),
        ("models.test", "models.test:8000", True),
        ("models.test", "models.test:9", False),
        ("models.test", "dels.test", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "11.0.0.0/8", False),
        ("10.1.2.3", "fd00::/8", False),
        ("[fd00::1]", "fd00::1", True),
        ("[fd00::1]", "FD00::/8", True),
        ("[fd00::1]", "[fd00::1]", True),
    ],
)
def test_no_proxy_names_servers_that_are_asked_directly(host, named, direct, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", named)
    assert (proxy_before(parse_url(f"http://{host}:8000/v1")) is None) == direct


@pytest.mark.parametrize("bypassed", ["localhost.test", "*"])
def test_a_server_that_no_proxy_names_is_looked_up_itself(bypassed, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", bypassed)
    asked = []

    def resolve(host, *arguments, **settings):
        asked.append(host)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with OpenAICompatible() as backend, pytest.raises(BackendError, match="unknown host"):
        backend.complete(spec("http://localhost.test/v1"), QUESTION)
    assert asked == ["localhost.test"]


@pytest.mark.parametrize("proxy", ["gopher://x", "socks5://127.0.0.1:1", "http://", "http://[::1", "http://x:99999999"])
def test_a_proxy_that_cannot_be_used_is_reported(proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with OpenAICompatible() as backend, pytest.raises(BackendError, match="cannot use the proxy in the environment"):
        backend.complete(spec("http://models.invalid/v1"), QUESTION)


def test_a_proxy_that_refuses_the_tunnel_is_reported_without_the_key(monkeypatch):
    def refuse(handler):
        handler.send_error(407, "k-3")

    with misbehaving(sound) as proxy, OpenAICompatible() as backend:
        monkeypatch.setenv("KEY", "k-3")
        monkeypatch.setattr("servers.Handler.do_CONNECT", refuse, raising=False)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.removesuffix("/v1"))
        with pytest.raises(BackendError, match=r"is not reached \(.*407 \(the key\)\): check"):
            backend.complete(spec("https://models.invalid/v1", key_env="KEY"), QUESTION)
