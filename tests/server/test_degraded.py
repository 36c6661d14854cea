"""A server whose database goes away: 503, or answers that say that they are degraded. Real processes."""

import json
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from live_making import MESSCTL

ZOO = """
defaults: {{max_tokens: 8, temperature: 0}}
state: {{url: "{url}?schema={schema}", degraded: {degraded}}}
models:
- {{name: small, path: "box:pico-34k.gguf"}}
- {{name: large, path: "box:mini-1m.gguf"}}
"""


def posted(url, body):
    asked = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def got(url):
    try:
        with urllib.request.urlopen(url, timeout=60) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def asked(base):
    question = [{"role": "user", "content": "What is 7 + 8?"}]
    return posted(f"{base}/v1/chat/completions", {"model": "auto", "messages": question})


@pytest.mark.slow
@pytest.mark.parametrize("degraded", [False, True])
def test_without_its_database_a_server_says_so_and_goes_on_when_it_is_back(degraded, tmp_path, monkeypatch):
    pytest.importorskip("llama_cpp")
    pytest.importorskip("psycopg")
    import postgres_making

    if postgres_making.programs() is None:
        pytest.skip("no PostgreSQL server is installed")
    monkeypatch.delenv("MESSCTL_STATE", raising=False)
    with postgres_making.PostgresServer() as database:
        address = database.fresh()
        text = ZOO.format(url=address.url, schema=address.schema, degraded=str(degraded).lower())
        (tmp_path / "zoo.yaml").write_text(text)
        command = [*MESSCTL, "serve", "--port", "0"]
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as serving:
            try:
                line = next(line for line in serving.stderr if "messctl serves" in line)
                base = line.split()[-1].removesuffix("/v1")
                status, first = asked(base)
                assert (status, first["messctl"]["degraded"]) == (200, False)
                database.stop()
                status, reply = asked(base)
                if degraded:
                    assert (status, reply["messctl"]["degraded"]) == (200, True)
                else:
                    assert (status, reply["error"]["code"]) == (503, "state_unavailable")
                status, reply = posted(f"{base}/v1/feedback", {"id": first["id"], "value": True})
                assert (status, reply["error"]["code"]) == (503, "state_unavailable")
                status, ready = got(f"{base}/readyz")
                assert status == (200 if degraded else 503)
                assert degraded or "see that the server runs" in json.loads(ready)["reason"]
                status, metrics = got(f"{base}/metrics")
                assert status == 200
                assert 'messctl_state_up{tenant="default"} 0.0' in metrics
                assert 'messctl_queue_length{model="small"} 0.0' in metrics
                assert "messctl_requests_total{" in metrics
                assert "messctl_debt{" not in metrics
                database.start()
                ends = time.monotonic() + 60
                while True:
                    status, reply = asked(base)
                    if status == 200 and not reply["messctl"]["degraded"]:
                        break
                    assert time.monotonic() < ends
                    time.sleep(0.2)
                assert posted(f"{base}/v1/feedback", {"id": first["id"], "value": True})[0] == 200
                assert got(f"{base}/readyz")[0] == 200
                assert 'messctl_state_up{tenant="default"} 1.0' in got(f"{base}/metrics")[1]
            finally:
                serving.terminate()
                serving.wait(60)
