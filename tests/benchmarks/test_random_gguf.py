"""The random-weight models of real shapes that measure a machine: small ones, loaded and queried by llama.cpp."""

from __future__ import annotations

import numpy as np
import pytest

from messctl.gguf import read_header
from messctl.records import Question
from messctl.zoo import ModelSpec

pytest.importorskip("gguf")
random_gguf = pytest.importorskip("random_gguf")


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_random_model_loads_and_answers(tmp_path, kind, tied):
    pytest.importorskip("llama_cpp")
    from dataclasses import replace

    from messctl.backends import LlamaCpp

    shape = replace(random_gguf.SHAPES["tiny"], tied=tied)
    path = tmp_path / "tiny.gguf"
    random_gguf.write(path, shape, kind)
    assert read_header(path).parameters == shape.parameters
    spec = ModelSpec("tiny", path, n_ctx=0, temperature=0.0)
    with LlamaCpp() as backend:
        got = backend.complete(spec, Question("lamp river stone", max_tokens=20, to_the_limit=True))
        assert got.tokens_out == 20
        other = backend.complete(spec, Question("stone river lamp", max_tokens=20, to_the_limit=True))
    assert got.answer
    assert tied or got.answer != other.answer  # a tied one repeats the last token


@pytest.mark.parametrize(("kind", "size"), [("Q8_0", (64, 256)), ("Q4_K", (64, 256))])
def test_random_weights_have_mean_zero_and_the_usual_spread(kind, size):
    import gguf

    quantised, _ = random_gguf.TYPES[kind]
    weights = gguf.dequantize(random_gguf._random(np.random.default_rng(0), size, quantised), quantised)
    assert weights.shape == size
    assert abs(weights.mean()) < 0.1 * random_gguf.SPREAD
    assert 0.5 * random_gguf.SPREAD < weights.std() < 2 * random_gguf.SPREAD


@pytest.mark.parametrize(("name", "billions"), [("1B", 1.24), ("3B", 3.21), ("8B", 8.03), ("14B", 14.9)])
def test_shapes_have_the_number_of_parameters_in_their_name(name, billions):
    assert random_gguf.SHAPES[name].parameters / 1e9 == pytest.approx(billions, rel=0.03)
