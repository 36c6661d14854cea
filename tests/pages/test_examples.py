"""Every file in examples/: zoos load, and the build fails if the promise breaks."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from live_making import MESSCTL

from messctl.cli import run
from messctl.zoo import load_zoo

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDERS = sorted(path.name for path in EXAMPLES.iterdir())


def test_every_example_is_short():
    assert FOLDERS == ["ci", "library", "one-gpu", "replicas", "serve", "servers"]
    for folder in FOLDERS:
        text = (EXAMPLES / folder / "README.md").read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 45, folder


def test_zoo_for_one_gpu_loads_the_files_that_its_readme_downloads(tmp_path, monkeypatch, capsys):
    """Small files stand in for the large ones."""
    pytest.importorskip("gguf")
    from backends_files import says, write_gguf

    zoo = load_zoo(EXAMPLES / "one-gpu" / "zoo.yaml")
    assert len(zoo.models) == 3
    assert all(model.gpu_layers == -1 for model in zoo.models)
    shutil.copy(EXAMPLES / "one-gpu" / "zoo.yaml", tmp_path)
    (tmp_path / "models").mkdir()
    for model in zoo.models:
        split = re.sub(r"-00001-of-0000\d", "", model.path.name)
        assert re.fullmatch(r"qwen2\.5-[\d.]+b-instruct-q4_k_m\.gguf", split)
        write_gguf(tmp_path / "models" / model.path.name, says(b"hey"))
    monkeypatch.chdir(tmp_path)
    assert run(["zoo", "check"]) == 0
    assert "qwen-14b" in capsys.readouterr().out


def test_zoo_of_servers_agrees_with_the_commands_that_start_them(monkeypatch):
    monkeypatch.setenv("LLAMA_API_KEY", "k")
    monkeypatch.setenv("VLLM_API_KEY", "k")
    zoo = load_zoo(EXAMPLES / "servers" / "zoo.yaml")
    commands = (EXAMPLES / "servers" / "README.md").read_text()
    for model in zoo.models:
        assert model.cost is not None
        assert re.search(
            rf"(--alias|--served-model-name) {re.escape(model.model)} .*--port {model.url.split(':')[2][:4]}", commands
        )
        assert model.key_env in commands


def test_workflow_runs_an_executable_script():
    workflow = yaml.safe_load((EXAMPLES / "ci" / "promise.yml").read_text())
    assert workflow[True].keys() == {"push", "schedule"}  # YAML 1.1 takes `on` for a truth value, GitHub does not
    (job,) = workflow["jobs"].values()
    runs = [step["run"] for step in job["steps"] if "run" in step]
    script = EXAMPLES / "ci" / runs[-1].split()[0].removeprefix("promise/")
    assert os.access(script, os.X_OK)


def test_every_prompt_has_a_reference():
    lines = (EXAMPLES / "ci" / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 300
    assert all(set(json.loads(line)) == {"prompt", "reference"} for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        pytest.param({}, 0, "messplus keeps the promise", marks=pytest.mark.slow),
        pytest.param({"alpha: 0.8": "alpha: 0.9"}, 1, "messplus misses the promise", marks=pytest.mark.slow),
        pytest.param({"max_tokens: 64": "max_tokens: 4"}, 2, "is beyond every policy", marks=pytest.mark.slow),
        ({"box:mini-1m": "absent"}, 2, "absent.gguf"),
    ],
)
def test_build_fails_if_the_promise_breaks(changes, code, says, tmp_path):
    pytest.importorskip("llama_cpp")
    copied = tmp_path / "promise"
    shutil.copytree(EXAMPLES / "ci", copied)
    text = (copied / "zoo.yaml").read_text()
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    (copied / "zoo.yaml").write_text(text)
    environment = os.environ | {"PATH": f"{Path(MESSCTL[0]).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [copied / "check.sh", "."], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr
    assert (tmp_path / "trace.parquet").exists() == ("absent" not in says)


def test_servers_that_the_example_of_two_replicas_shows_can_take_the_place_of_its_models(tmp_path):
    shown = (EXAMPLES / "replicas" / "zoo.yaml").read_text()
    own, theirs = (shown[at.end() :] for at in re.finditer(r"^models:\n|^# Your own models.*\n", shown, re.MULTILINE))
    assert len(yaml.safe_load(own)) == 2
    (tmp_path / "zoo.yaml").write_text("models:\n" + theirs.replace("#", " "))
    assert [model.name for model in load_zoo(tmp_path / "zoo.yaml").models] == ["small", "large"]


@pytest.mark.slow
def test_two_servers_behind_nginx_keep_one_promise_and_one_of_them_may_die(postgres, tmp_path):
    """As the example says, on free ports: no client notices, and nothing is lost."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed")
    pytest.importorskip("llama_cpp")
    from messctl.state.store import Store

    address = postgres.fresh()
    ports = [_free_port() for _ in range(3)]
    zoo = yaml.safe_load((EXAMPLES / "replicas" / "zoo.yaml").read_text())
    assert zoo["state"].keys() == {"url", "keep"}
    zoo["state"]["url"] = f"{address.url}?schema={address.schema}"
    (tmp_path / "zoo.yaml").write_text(yaml.safe_dump(zoo))
    text = (EXAMPLES / "replicas" / "nginx.conf").read_text()
    for stated, port in zip(("8081", "8082", "8080"), ports, strict=True):
        assert f"127.0.0.1:{stated}" in text
        text = text.replace(f"127.0.0.1:{stated}", f"127.0.0.1:{port}")
    (tmp_path / "nginx.conf").write_text(f"user root;\n{text}" if os.getuid() == 0 else text)
    base = f"http://127.0.0.1:{ports[2]}/v1"
    replicas = [_started([*MESSCTL, "serve", "--port", str(port)], tmp_path) for port in ports[:2]]
    balancer = _started([nginx, "-p", ".", "-e", "stderr", "-c", "nginx.conf"], tmp_path)
    try:
        for port in ports:
            _wait_for(f"http://127.0.0.1:{port}/readyz")
        ids = [_answered(base, number) for number in range(12)]
        assert _judged(base, ids[0]) == 200
        replicas[0].kill()
        replicas[0].wait(30)
        ids += [_answered(base, number) for number in range(12, 24)]
        for request_id in ids:
            assert _judged(base, request_id) == 200
        replicas[0] = _started([*MESSCTL, "serve", "--port", str(ports[0])], tmp_path)
        _wait_for(f"http://127.0.0.1:{ports[0]}/readyz")
        assert _judged(f"http://127.0.0.1:{ports[0]}/v1", ids[-1]) == 200
    finally:
        for process in (*replicas, balancer):
            process.terminate()
            process.wait(30)
    with Store(address, looking=True) as store:
        assert store.check() == []
        assert store.requests.feedback_sums().count == 24
        logged = {each.decision.request.request_id: each for each in store.requests}
    assert all(logged[request_id].answers for request_id in ids)


def _free_port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _started(command, folder):
    environment = {name: value for name, value in os.environ.items() if name != "MESSCTL_STATE"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)


def _wait_for(url):
    import time
    import urllib.error
    import urllib.request

    ends = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).read()
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < ends, url
            time.sleep(0.2)
        else:
            return


def _posted(url, body):
    import urllib.request

    asked = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=60) as reply:
        return reply.status, json.load(reply)


def _answered(base, number):
    question = [{"role": "user", "content": f"What is {number} + 8?"}]
    status, reply = _posted(f"{base}/chat/completions", {"model": "auto", "messages": question})
    assert status == 200
    return reply["messctl"]["request_id"]


def _judged(base, request_id):
    return _posted(f"{base}/feedback", {"id": request_id, "value": True})[0]
