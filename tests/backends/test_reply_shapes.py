"""Every shape in which a server answers, good or bad, from a real server, and what comes of it."""

from __future__ import annotations

import re

import pages
import pytest
from reply_shapes import ANSWERED, REFUSED, SECTIONS, TOO_LONG, Shape
from servers import misbehaving

from messctl.backends import OpenAICompatible
from messctl.errors import BackendError, PromptTooLongError, RefusedError
from messctl.records import Question
from messctl.zoo import ModelSpec

SHAPES = [
    pytest.param(shape, id=f"{sent}: {name}")
    for rows in SECTIONS.values()
    for (sent, _), shapes in rows.items()
    for name, shape in shapes.items()
]


def asked(shape: Shape, pieces, thoughts):
    def behaves(handler):
        handler.answer(shape.body, shape.status, shape.kind, shape.length)

    with misbehaving(behaves) as server, OpenAICompatible() as backend:
        model = ModelSpec("m", url=server.url, timeout_s=20, retries=0)
        return backend.complete(model, Question("hi", seed=1), pieces.append, thoughts.append)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_of_a_reply_has_its_outcome(shape):
    pieces, thoughts = [], []
    if shape.outcome == ANSWERED:
        got = asked(shape, pieces, thoughts)
        assert (got.answer, got.thinking, got.finish) == (shape.answer, shape.thinking, shape.finish)
        assert (got.tokens_in, got.tokens_out) == (7, 3)
        assert ("".join(pieces), "".join(thoughts)) == (shape.answer, shape.thinking)
        return
    with pytest.raises(BackendError) as raised:
        asked(shape, pieces, thoughts)
    assert shape.says in str(raised.value)
    assert isinstance(raised.value, PromptTooLongError) == (shape.outcome == TOO_LONG)
    assert isinstance(raised.value, RefusedError) == (shape.outcome == REFUSED)


def test_there_are_many_shapes_and_each_is_another_one():
    assert len(SHAPES) > 150
    bodies = [
        (each.values[0].body, each.values[0].kind, each.values[0].status, each.values[0].length) for each in SHAPES
    ]
    assert len(set(bodies)) == len(bodies)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_lists_what_is_understood_and_nothing_else(section):
    page = (pages.ROOT / "docs" / "servers.md").read_text(encoding="utf-8")
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in text.splitlines() if "|" in line]
    assert rows[2:] == list(SECTIONS[section])
