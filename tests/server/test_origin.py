"""Pages of other sites cannot use a server without keys; programs, and the server's own page, can."""

import pytest
from serving import TWO, Serving

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

BODY = {"model": "cheap", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("origin"), TWO, scripted=0) as serving:
        yield serving


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://evil.example", False),
        ("https://evil.example:8080", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://localhost.evil.example", False),
        ("http://[::1", False),
        ("null", False),
        ("http://localhost:3000", True),
        ("http://127.0.0.1:8080", True),
        ("http://[::1]:8080", True),
        ("http://chat.localhost", True),
        ("app://obsidian.md", True),
        ("vscode-webview://abc", True),
    ],
)
def test_requests_that_a_page_of_another_site_sends_are_refused(serving, origin, allowed):
    own = {"content-type": "text/plain", "origin": origin}
    status, _, document = serving.ask("/v1/chat/completions", BODY, own)
    assert status == (200 if allowed else 403)
    assert allowed or document["error"]["code"] == "foreign_origin"
    assert (serving.ask("/v1/feedback", {"id": "x", "value": True}, own)[0] == 403) is not allowed
    assert (serving.ask("/v1/status", headers=own)[0] == 200) is allowed


@pytest.mark.parametrize(
    ("host", "allowed"),
    [("evil.example:8080", False), ("127.0.0.1.evil.example", False), ("localhost", True), ("127.0.0.1:1", True)],
)
def test_events_are_not_for_pages_that_call_this_machine_by_another_name(serving, host, allowed):
    connection = serving.connection()
    connection.request("GET", "/v1/status/events", headers={"host": host})
    assert connection.getresponse().status == (200 if allowed else 403)
    connection.close()


def test_keys_are_enough_for_pages_of_other_sites(tmp_path):
    from messctl.server.keys import hash_of

    zoo = TWO + f'tenants: [{{name: search, key_hash: "{hash_of("a key")}"}}]\n'
    with Serving(tmp_path, zoo, scripted=0) as serving:
        foreign = {"origin": "http://evil.example", "host": "models.example"}
        assert serving.ask("/v1/chat/completions", BODY, foreign)[0] == 401
        assert serving.ask("/v1/chat/completions", BODY, {**foreign, "authorization": "Bearer a key"})[0] == 200
