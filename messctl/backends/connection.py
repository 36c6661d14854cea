"""One HTTP/1.1 connection to a server of models, or to the proxy before it, for one request at a time."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from http import HTTPStatus, client
from http.client import HTTPException
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.exceptions import HTTPError, LocationParseError, ReadTimeoutError
from urllib3.response import HTTPResponse
from urllib3.util import Url, parse_url

from messctl.backends.deadline import Deadline
from messctl.backends.key import Key
from messctl.backends.openai_errors import AttemptFailedError, broken_off, one_line, silent, temporary, unreachable
from messctl.backends.proxy import PORTS, authorization, proxy_before
from messctl.zoo import ModelSpec
from messctl.zoo.server_keys import is_loopback

ENCODINGS = "gzip, deflate"
"""The encodings that requests accept. A response may use one of them, once."""
HEADERS = {"Accept": "*/*", "Accept-Encoding": ENCODINGS, "User-Agent": "messctl"}
_PIECE = 2**16
_END_S = 0.05
"""How long the end of a response may take after all that matters of it. Without it the connection is of no more use."""


class Response:
    """What a server sends back: its status, its headers, whose names may be in any case, and its body as it comes.

    `ended` says whether all of the body has been read, so that nothing of it can come any more.
    """

    def __init__(self, model: ModelSpec, response: HTTPResponse) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.ended = False
        self._model = model
        self._response = response

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it comes, still compressed if it is. Raises AttemptFailedError if it breaks off."""
        try:
            while piece := self._response.read1(_PIECE, decode_content=False):
                yield piece
            self.ended = True
        except ReadTimeoutError:
            raise silent(self._model) from None
        except HTTPError:
            raise broken_off(self._model) from None


class _FinalResponse(client.HTTPResponse):
    """A response, after all those that only say that it will come. http.client itself skips 100 Continue alone."""

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]  # not in the stubs
        early = 100 <= status < 200 and status != HTTPStatus.SWITCHING_PROTOCOLS
        return version, HTTPStatus.CONTINUE if early else status, reason


class Connection:
    """A connection to the server at a url. It is made when it is needed, and again if the server has closed it.

    A proxy that the environment names is used, except for this machine's own addresses. `tls` returns whom to trust.
    Raises ValueError for a host or a proxy that cannot be used; its text says what to do.
    """

    def __init__(self, url: str, tls: Callable[[], ssl.SSLContext]) -> None:
        try:
            self._server = parse_url(url)
        except LocationParseError:
            raise ValueError("has a host that cannot be: check the url") from None
        self._proxy = None if is_loopback(url) else proxy_before(self._server)
        first = self._proxy or self._server
        host, port = _address(first)
        if "https" in (first.scheme, self._server.scheme):
            context = tls()
            config = ProxyConfig(context, use_forwarding_for_https=False, assert_hostname=None, assert_fingerprint=None)
            self._http: HTTPConnection = HTTPSConnection(host, port, ssl_context=context, proxy_config=config)
        else:
            self._http = HTTPConnection(host, port)
        self._http.response_class = _FinalResponse
        self._link: Any = None  # http.client forgets its socket as soon as a server says that it will close it
        self._is_cut = False

    @contextmanager
    def send(
        self, model: ModelSpec, method: str, path: str, body: bytes | None, key: Key, connect_s: float, silent_s: float
    ) -> Iterator[Response]:
        """Send a request to `path` below the model's url; yield its response. Raises AttemptFailedError.

        The server has `connect_s` seconds to accept a connection, and may then be silent for `silent_s`.
        """
        url, response = _parsed(f"{model.url}/{path}"), None
        while response is None:
            is_old = self._connect(model, key, connect_s)
            self._http.timeout = silent_s
            failed: AttemptFailedError | None = None
            try:
                response = self._exchange(method, url, body, key)
            except TimeoutError:
                failed = silent(model)
            except (ConnectionError, ssl.SSLError):  # a new one is made if the server has just closed an old one
                failed = None if is_old and not self._is_cut else broken_off(model)
                self.close()
            except Exception:  # noqa: BLE001  # http.client reads headers as mail, whose parser fails in many ways
                failed = broken_off(model)
            except BaseException:
                self.close()
                raise
            if failed is not None:  # raised here, it does not lead to the frames that know the key
                self.close()
                raise failed
        answer = Response(model, response)
        try:
            yield answer
            self._end(answer)
        finally:
            if not answer.ended:  # what is left of it would be taken for the next response
                response.close()
                self.close()

    def cut(self) -> None:
        """Break the connection, from any thread, until it is mended."""
        self._is_cut = True
        for link in {self._http.sock, self._link} - {None}:
            with suppress(OSError, ValueError):
                socket.socket.shutdown(getattr(link, "socket", link), socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let the next request have a new connection if this one was cut."""
        self._is_cut = False

    def close(self) -> None:
        """Close the connection; the next request makes another one."""
        with suppress(OSError):
            self._http.close()

    def _connect(self, model: ModelSpec, key: Key, within_s: float) -> bool:
        """Connect, unless the last connection is still there, and nothing has come unasked; return whether it is."""
        if self._http.is_connected and not getattr(self._http.sock, "pending", int)():
            return True
        self.close()
        self._http.timeout = within_s
        if self._proxy is not None and self._server.scheme == "https":
            headers = authorization(self._proxy)
            self._http.set_tunnel(*_address(self._server), headers, self._proxy.scheme or "http")
        try:
            self._http.connect()
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            self.close()
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            if isinstance(cause, TimeoutError):
                what = "accepts no connection: check that the machine is up and the url is right"
                raise temporary(model, what) from None
            why = key.hide(one_line(cause))
            if why.startswith("Tunnel connection failed"):
                what = f"is not reached ({why}): check the url and the proxies in the environment"
                raise temporary(model, what) from None
            raise unreachable(model, why) from None
        except BaseException:
            self.close()
            raise
        self._link = self._http.sock
        if self._is_cut:  # while it was made
            self.cut()
        return False

    def _exchange(self, method: str, url: Url, body: bytes | None, key: Key) -> HTTPResponse:
        """Send a request, and return its response once its headers are there."""
        headers, target, pieces = {**HEADERS, **key.header()}, url.request_uri, None
        if body is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
            pieces = (body[start : start + _PIECE] for start in range(0, len(body), _PIECE))  # each has `silent_s`
        if self._proxy is not None and self._server.scheme == "http":
            headers |= authorization(self._proxy)
            target = url.url
        with suppress(BrokenPipeError, ConnectionResetError):  # it may have answered before it has read all
            self._http.request(method, target, pieces, headers, preload_content=False, decode_content=False)
        return self._http.getresponse()

    def _end(self, response: Response) -> None:
        """Read the end of a response, if it is there, so that the connection can be used again."""
        if not response.ended:
            with Deadline(_END_S).calling(self.cut), suppress(AttemptFailedError):
                next(response.pieces(), None)


def trusted() -> ssl.SSLContext:
    """Return whom to trust: the authorities that this machine, SSL_CERT_FILE or SSL_CERT_DIR name."""
    return ssl.create_default_context()


def _address(place: Url) -> tuple[str, int]:
    return (place.host or "").strip("[]"), place.port or PORTS[place.scheme or "http"]


_parsed = lru_cache(maxsize=256)(parse_url)
