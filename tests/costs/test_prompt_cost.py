"""The predicted cost of reading a question, limited by the model's context."""

from pathlib import Path

import pytest
from gguf_making import write_gguf

from messctl.costs.prompt_cost import LEAST_CONTEXT, Forecast
from messctl.costs.tokens import StatedMeter
from messctl.gguf import read_header
from messctl.zoo import CostPerToken, ModelSpec

PRICE = CostPerToken("USD", 2.0, 50.0, fixed=1.0)


def forecast(**keys):
    model = ModelSpec("m", **{"cost": PRICE, **keys})
    return Forecast([model], StatedMeter("USD"))


@pytest.mark.parametrize(
    ("keys", "own", "tokens"),
    [
        ({}, 300, 300),
        ({}, 8192, 4096),
        ({}, 0, 4096),
        ({"n_ctx": 0}, 300, 300),
        ({"n_ctx": 0}, 8192, 8192),
        ({"n_ctx": 0}, 131_072, 10_000),
        ({"n_ctx": 64}, 300, 64),
        ({"n_ctx": 512}, 300, 512),
        ({"path": None, "url": "http://h"}, 300, 10_000),
    ],
)
def test_predicted_tokens_are_limited_by_the_context(tmp_path, keys, own, tokens):
    found = forecast(**{"path": write_gguf(tmp_path / "m.gguf", context=own), **keys})
    assert found.tokens(20_000, {"m": 0.5}) == {"m": tokens}
    assert found.of_characters(20_000, {"m": 0.5}) == {"m": 1.0 + 2.0 * tokens}


def test_an_unreadable_file_leaves_the_default_limit():
    assert forecast(path=Path("absent.gguf")).tokens(20_000, {"m": 0.5}) == {"m": 4096}
    assert forecast(path=Path("absent.gguf"), n_ctx=0).tokens(20_000, {"m": 0.5}) == {"m": 10_000}


def test_a_header_is_read_once_and_only_for_long_questions(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("messctl.costs.prompt_cost.read_header", lambda path: read.append(path) or read_header(path))
    found = forecast(path=write_gguf(tmp_path / "m.gguf", context=300))
    assert found.tokens(LEAST_CONTEXT, {"m": 1.0}) == {"m": LEAST_CONTEXT}
    assert read == []
    for _ in range(3):
        assert found.tokens(LEAST_CONTEXT + 200, {"m": 1.0}) == {"m": 300}
    assert len(read) == 1
