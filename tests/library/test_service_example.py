"""examples/library/service.py: a service in forty lines, which routes for its own models."""

from __future__ import annotations

import importlib.util
import json
import threading
import urllib.error
import urllib.request
from http.server import HTTPServer

import pytest

import messctl


@pytest.fixture
def service(root, tmp_path):
    spec = importlib.util.spec_from_file_location("service", root / "examples" / "library" / "service.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.Service.log_message = lambda *_: None
    router = messctl.open_router(list(module.MODELS), tmp_path / "s.sqlite", alpha=0.85, unit="USD")
    module.Service.router = router
    server = HTTPServer(("localhost", 0), module.Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    router.close()


def post(url, **body):
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())) as reply:
        return json.load(reply)


def test_the_service_has_forty_lines(root):
    text = (root / "examples" / "library" / "service.py").read_text(encoding="utf-8")
    code = text.split('"""', 2)[2]
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 40


def test_the_service_routes_for_its_own_models_and_keeps_its_promise(service):
    served = []
    for k in range(150):
        reply = post(f"{service}/ask", prompt=f"prompt {k}")
        assert reply["answer"] == (f"PROMPT {k}" if reply["model"] == "large" else str(len(f"prompt {k}")))
        good = reply["model"] == "large" or k % 2 == 0
        standing = post(f"{service}/good", id=reply["id"], good=good)
        served.append(reply["model"])
    assert standing["over"] == 150
    assert standing["attained"] > 0.8
    assert set(served) == {"small", "large"}


def test_the_service_says_what_is_wrong(service):
    with pytest.raises(urllib.error.HTTPError, match="unknown request id") as caught:
        post(f"{service}/good", id="nobody", good=True)
    caught.value.close()
    assert caught.value.code == 400
