"""Pages of other sites: what a browser sends for them is refused without keys."""

import pytest

pytest.importorskip("starlette")

from messctl.server.errors import ProtocolError
from messctl.server.origins import refuse_foreign_pages
from messctl.zoo.server_keys import is_local


@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ({}, True),
        ({"host": "host.docker.internal"}, True),
        ({"origin": "http://localhost:3000"}, True),
        ({"origin": "http://127.0.0.1"}, True),
        ({"origin": "http://[::1]:8080"}, True),
        ({"origin": "app://editor"}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"origin": "https://evil.example"}, False),
        ({"origin": "http://localhost.evil.example"}, False),
        ({"origin": "http://["}, False),
        ({"origin": "null"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-origin", "host": "rebound.example:8080"}, False),
        ({"origin": "http://localhost:8080", "host": "rebound.example:8080"}, False),
    ],
)
def test_only_pages_of_this_machine_may_ask(headers, taken):
    sent = {"host": "127.0.0.1:8080"} | headers
    lines = [(name.encode(), value.encode()) for name, value in sent.items()]
    if taken:
        refuse_foreign_pages(lines)
    else:
        with pytest.raises(ProtocolError, match="pages of other sites"):
            refuse_foreign_pages(lines)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("a.localhost", True),
     ("0.0.0.0", False), ("192.168.0.1", False), ("localhost.example", False), ("", False)],
)  # fmt: skip
def test_an_address_of_this_machine_is_known(host, local):
    assert is_local(host) is local
