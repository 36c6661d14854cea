"""A real embedding model, all-MiniLM-L6-v2, as a GGUF file: its embeddings, and routing by them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
pytest.importorskip("gguf", reason="gguf is not installed")

from bert import Bert
from live_making import typed
from minilm_gguf import convert
from real_models import minilm_folder, smollm2_file

from messctl.backends.embedding import GgufEncoder
from messctl.cli import run
from messctl.gguf import read_header
from messctl.learning.features import WORDS
from messctl.state.store import Store

pytestmark = pytest.mark.slow

TEXTS = (
    "What is the capital of France?",
    "Ünïcödé naïve café, déjà-vu!",
    "你好，世界。1+1=2",
    "unbelievably antidisestablishmentarianism $3.14 #tag ##s [MASK]",
    "def f(x):\n    return x**2\n",
    "🎈 party 🎉",
    "",
    "river " * 300,
)


@pytest.fixture(scope="module")
def folder() -> Path:
    return minilm_folder()


def embeddings(path: Path) -> np.ndarray:
    """Return what messctl sees of the texts: embeddings that are folded, of length 1."""
    encoder = GgufEncoder(path)
    return np.array([encoder.one(text).csr().toarray()[0, :WORDS] / 2.0 for text in TEXTS])


@pytest.mark.parametrize(("kind", "least"), [("F32", 0.999), ("F16", 0.999), ("Q8_0", 0.99)])
def test_embeddings_are_those_that_numpy_computes_from_the_original(
    folder: Path, tmp_path: Path, kind: str, least: float
) -> None:
    from messctl.backends.embedding import folded

    path = tmp_path / "minilm.gguf"
    convert(folder, path, kind)
    original = Bert(folder)
    expected = np.array([folded(original.embed(text).astype(np.float64)) / 2.0 for text in TEXTS])
    assert (embeddings(path) * expected).sum(axis=1).min() > least
    assert (expected @ expected.T)[0, 1:].max() < 0.9  # so that the texts do differ
    assert read_header(path).parameters == pytest.approx(22.6e6, rel=0.01)


def test_a_question_is_routed_by_its_meaning(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    convert(folder, tmp_path / "minilm.gguf")
    (tmp_path / "zoo.yaml").write_text(
        "router: {features: {gguf: minilm.gguf}}\n"
        f"models: [{{name: smol, path: '{smollm2_file()}', n_ctx: 512, temperature: 0, max_tokens: 24}}]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESSCTL_STATE", str(tmp_path / "state"))
    typed(monkeypatch)
    for expected in ("4", "five"):
        assert run(["ask", "What is 2+2?", "--expect", expected, "--json"]) == 0
        answered = json.loads(capsys.readouterr().out)
        assert answered["satisfied"] == float(re.search(expected, answered["answer"]) is not None)
    with Store(tmp_path / "state") as store:
        assert store.policy.snapshot("bandit").encoder == GgufEncoder(tmp_path / "minilm.gguf").version
