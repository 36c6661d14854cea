"""docs/serve.md: what it says to copy works as it stands, but for the port, from the first minutes to each client."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import browser as browsers
import pages
import pytest
import yaml
from serving import BOX, Serving

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

TEXT = (pages.ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8080"
PROGRAMS = Path(sys.executable).parent


def copied(language, word):
    """Return the only block of a language on the page that holds a word."""
    found = [block.text for block in pages.blocks(TEXT) if block.language == language and word in block.text]
    assert len(found) == 1
    return found[0]


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    pytest.importorskip("llama_cpp")
    with Serving(tmp_path_factory.mktemp("copied"), BOX, "--show-prompts") as serving:
        yield serving


def status(serving):
    return serving.ask("/v1/status")[2]


def run(command, serving, folder, **env):
    environment = os.environ | {"PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}", "LLM_USER_PATH": str(folder)}
    environment.pop("OPENAI_API_KEY", None)
    done = subprocess.run(
        command, env=environment | env, cwd=folder, capture_output=True, text=True, check=False, timeout=300,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def here(text, serving):
    assert ADDRESS in text
    return text.replace(ADDRESS, serving.url)


def test_the_first_five_minutes(serving, tmp_path):
    """A chat in a client, a thumb on the page, and the page shows what is attained."""
    pytest.importorskip("llm")
    before = status(serving)["standing"]["judged"]
    chat = copied("sh", "llm openai endpoint")
    printed = run(["bash", "-c", here(chat, serving)], serving, tmp_path)
    with browsers.chromium() as browser, browsers.opened(browser, serving.url) as page:
        browsers.live(page)
        row = browsers.part(page, "latest").locator("tr").first
        assert "What is 7 + 8?" in row.inner_text()
        row.locator("summary").click()
        assert row.locator(".answer").inner_text() == printed.strip()
        row.locator(".thumb.up").click()
        row.locator(".thumb.up[aria-pressed=true]").wait_for()
        gives_up = time.monotonic() + 20
        while "judged answer" not in browsers.part(page, "attained-note").inner_text():
            assert time.monotonic() < gives_up
            time.sleep(0.05)
    assert status(serving)["standing"]["judged"] == before + 1


def test_the_server_is_started_as_the_page_says(tmp_path):
    """The command is the one that the other tests start, on another port."""
    words = copied("sh", "pip install '.[serve,llama]'").splitlines()[-1].split()
    assert words == ["messctl", "serve", "--show-prompts"]
    assert f"{ADDRESS}/v1" in TEXT


def test_curl(serving, tmp_path):
    command = here(copied("sh", "curl http://127.0.0.1:8080/v1/chat"), serving)
    answer = json.loads(run(["bash", "-c", command], serving, tmp_path))
    assert answer["choices"][0]["message"]["content"] == "15"


def test_feedback_by_curl(serving, tmp_path):
    _, _, answer = serving.chat()
    command = here(copied("sh", "/v1/feedback"), serving).replace("chatcmpl-…", answer["id"])
    said = json.loads(run(["bash", "-c", command], serving, tmp_path))
    assert (said["object"], said["value"]) == ("feedback", 1.0)


@pytest.mark.parametrize(("library", "judged"), [("openai", 1), ("langchain_openai", 0)])
def test_python_packages(serving, tmp_path, library, judged):
    pytest.importorskip(library)
    before = status(serving)["standing"]["judged"]
    printed = run([sys.executable, "-c", here(copied("python", f"from {library} import"), serving)], serving, tmp_path)
    assert printed.split()[0] == "15"
    assert status(serving)["standing"]["judged"] == before + judged


@pytest.mark.parametrize("options", [[], ["--no-stream"]])
def test_llm_with_its_file_of_models(serving, tmp_path, options):
    pytest.importorskip("llm")
    (tmp_path / "extra-openai-models.yaml").write_text(here(copied("yaml", "model_id"), serving), encoding="utf-8")
    assert Path(run(["llm", "logs", "path"], serving, tmp_path).strip()).parent == tmp_path
    (name,) = re.findall(r"`llm -m (\w+)`", TEXT)
    assert run(["llm", "-m", name, *options, "What is 7 + 8?"], serving, tmp_path) == "15\n"


def test_what_is_not_tested_names_the_same_address_and_model():
    setup = yaml.safe_load(copied("yaml", "apiBase"))
    assert (setup["models"][0]["apiBase"], setup["models"][0]["model"]) == (f"{ADDRESS}/v1", "auto")
    assert f"OPENAI_API_BASE={ADDRESS}/v1" in copied("sh", "aider")
    assert f"OPENAI_API_BASE_URL={ADDRESS}/v1" in copied("sh", "open-webui serve")
