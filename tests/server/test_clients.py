"""Real clients, unmodified: curl, `llm`, LangChain, and OpenAI's JavaScript package under Node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from servers import USAGE, chunk, events, misbehaving, streamed
from serving import TWO, Serving

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

MAKERS = Path(__file__).parents[1] / "makers"
OPENAI_JS = "openai@6"
EXTRA = """
- model_id: served
  model_name: auto
  api_base: "{}/v1"
"""
CALLED = events(
    chunk(
        delta={
            "tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": ""}}]
        }
    ),
    *(
        chunk(delta={"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
        for part in ('{"a": 7,', ' "b": 8}')
    ),
    chunk(delta={}, finish_reason="tool_calls"),
    {"choices": [], "usage": USAGE},
)
SERVER = """
models:
- {{name: away, url: "{}", cost: {{unit: USD, prompt: 1, generated: 1}}}}
"""


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    with Serving(tmp_path_factory.mktemp("clients"), TWO, scripted=0) as running:
        yield running


def output(*command, env=None, **options):
    """Run a program, see that it succeeds, and return what it printed."""
    environment = {**os.environ, **(env or {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300, **options)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_gets_an_answer_and_a_stream(serving):
    def curl(body):
        url = f"{serving.url}/v1/chat/completions"
        return output("curl", "-sSN", url, "-H", "Content-Type: application/json", "-d", json.dumps(body))

    body = {"model": "cheap", "messages": [{"role": "user", "content": "two words"}]}
    assert json.loads(curl(body))["choices"][0]["message"]["content"] == "cheap: two words"
    lines = curl({**body, "stream": True}).strip().split("\n\n")
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in chunks) == "cheap: two words"


@pytest.mark.parametrize("how", ["--no-stream", None])
def test_llm_answers_with_its_extra_models_file(serving, tmp_path, how):
    pytest.importorskip("llm")
    (tmp_path / "extra-openai-models.yaml").write_text(EXTRA.format(serving.url))
    env = {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none"}
    said = output(sys.executable, "-m", "llm", "-m", "served", "two words", *([how] if how else []), env=env)
    assert said.strip().endswith(": two words")


@pytest.mark.parametrize("how", ["--no-stream", None])
def test_llm_answers_with_its_endpoint_command(serving, tmp_path, how):
    pytest.importorskip("llm")
    env = {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none"}
    command = [sys.executable, "-m", "llm", "openai", "endpoint", f"{serving.url}/v1", "two words", "-m", "cheap"]
    assert output(*command, *([how] if how else []), env=env).strip() == "cheap: two words"


def test_langchain_answers_streams_and_counts(serving):
    langchain = pytest.importorskip("langchain_openai")
    model = langchain.ChatOpenAI(base_url=f"{serving.url}/v1", api_key="none", model="auto", stream_usage=True)
    answer = model.invoke("two words")
    assert answer.content == f"{answer.response_metadata['model_name']}: two words"
    assert answer.usage_metadata["total_tokens"] > 0
    pieces = list(model.stream("two words"))
    assert "".join(piece.content for piece in pieces).endswith(": two words")
    assert sum(piece.usage_metadata["output_tokens"] for piece in pieces if piece.usage_metadata) > 0


def test_langchain_calls_tools_and_brings_their_results(tmp_path):
    langchain = pytest.importorskip("langchain_openai")
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool

    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    behaviours = (lambda handler: handler.answer(CALLED), lambda handler: handler.answer(streamed("It is 15.")))
    with misbehaving(*behaviours) as server, Serving(tmp_path, SERVER.format(server.url)) as running:
        model = langchain.ChatOpenAI(base_url=f"{running.url}/v1", api_key="none", model="auto").bind_tools([add])
        asked = HumanMessage("What is 7 + 8?")
        called = model.invoke([asked])
        (call,) = called.tool_calls
        assert (call["name"], call["args"]) == ("add", {"a": 7, "b": 8})
        result = ToolMessage(str(add.invoke(call["args"])), tool_call_id=call["id"])
        assert model.invoke([asked, called, result]).content == "It is 15."


@pytest.fixture(scope="session")
def node_modules(root):
    """The folder with OpenAI's JavaScript package, installed once."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("Node is not installed")
    folder = root / ".cache" / "node"
    if not (folder / "node_modules" / "openai").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            "npm",
            "install",
            "--silent",
            "--no-fund",
            "--no-audit",
            "--ignore-scripts",
            "--prefix",
            ".",
            OPENAI_JS,
        ]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            pytest.skip(f"npm cannot install {OPENAI_JS}: {done.stderr[-200:]}")
    return folder


def test_the_javascript_package_answers_streams_and_knows_the_errors(serving, node_modules):
    script = node_modules / "client.mjs"  # beside the package, which Node looks for from there
    shutil.copy(MAKERS / "client.mjs", script)
    found = json.loads(output("node", script, serving.url, cwd=node_modules))
    assert found["models"] == ["auto", "cheap", "dear"]
    assert found["answer"] == f"{found['model']}: two words"
    assert found["header"] == found["model"]
    assert found["cost"] > 0
    assert found["text"] == found["accumulated"] == "cheap: two words"
    assert found["usage"]["total_tokens"] > 0
    assert found["errors"] == [
        ["NotFoundError", 404, "model_not_found"],
        ["BadRequestError", 400, None],
        ["BadRequestError", 400, "unsupported_value"],
    ]
