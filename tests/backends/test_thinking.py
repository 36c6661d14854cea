"""What a model thinks is told apart from its answer, however the text is cut into pieces."""

from __future__ import annotations

import pytest

from messctl.backends.answer_text import AnswerText
from messctl.backends.thinking import opened_by
from messctl.records import is_blank

SHAPES = {
    "no thinking": ("42", "", "42"),
    "a block": ("<think>17 + 25</think>42", "17 + 25", "42"),
    "a block and blank lines": ("<think>\n17 + 25\n</think>\n\n42", "17 + 25", "42"),
    "white space first": (" \n<think>17 + 25</think> \r\n \n42\n", "17 + 25", "42\n"),
    "a block of nothing": ("<think>\n\n</think>\n\n42", "", "42"),
    "an answer that is indented": ("<think>a</think>\n\n    return 42", "a", "    return 42"),
    "a space between": ("<think>a</think> 42", "a", "42"),
    "a block that never ends": ("<think>17 + 25 is", "17 + 25 is", ""),
    "a block that ends in half a tag": ("<think>17 < 25</thin", "17 < 25</thin", ""),
    "a block and no answer": ("<think>17 + 25</think>\n\n", "17 + 25", ""),
    "a block in a block": ("<think>a <think> b</think>42", "a <think> b", "42"),
    "a tag further on": ("42 <think>no</think>", "", "42 <think>no</think>"),
    "two blocks": ("<think>a</think>42 <think>b</think>", "a", "42 <think>b</think>"),
    "a tag in code": ("```\n<think>\n</think>\n```", "", "```\n<think>\n</think>\n```"),
    "half a tag": ("<thin", "", "<thin"),
    "another tag": ("<thinner>42", "", "<thinner>42"),
    "the tag of another model": ("<thinking>a</think></thinking>42", "a</think>", "42"),
    "square brackets": ("[THINK]a[/THINK]\n42", "a", "42"),
    "a list": ("[THINGS] 42", "", "[THINGS] 42"),
    "a name before the tag": ("<seed:think>a</seed:think>42", "a", "42"),
    "wide tags": ("◁think▷a◁/think▷42", "a", "42"),
    "white space alone": (" \n\t", "", " \n\t"),
    "nothing": ("", "", ""),
    "wide characters": ("<think>é€😀</think>😀", "é€😀", "😀"),
    "the tag was opened in the prompt": ("17 + 25\n</think>\n\n42", "17 + 25", "42"),
    "the same on one line": ("17 + 25 is 41? no</think>\n\n42", "17 + 25 is 41? no", "42"),
    "the same without a line end": ("17 + 25</think>**42**", "17 + 25", "**42**"),
    "the same and no answer": ("17 + 25</think>\n", "17 + 25", ""),
    "the same without thinking": ("</think>42", "", "42"),
    "the closing tag in quotes": ("Split at '</think>'.", "", "Split at '</think>'."),
    "the closing tag in code": ("```\nx\n</think>\n```", "", "```\nx\n</think>\n```"),
    "the closing tag as a word": ("The </think> tag ends it.", "", "The </think> tag ends it."),
}


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(("text", "thinking", "answer"), SHAPES.values(), ids=SHAPES.keys())
def test_thinking_is_told_apart_from_the_answer(text: str, thinking: str, answer: str, size: int) -> None:
    growing, data = AnswerText(), text.encode()
    for start in range(0, len(data), size):
        growing.add(data[start : start + size])
    assert (growing.finish(), growing.thinking) == (answer, thinking)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_each_part_goes_to_its_own_listener_as_it_comes(size: int) -> None:
    said: list[str] = []
    thought: list[str] = []
    growing, data = AnswerText((), said.append, thought.append), b"\n<think>\nsum\n</think>\n\nforty\n<think>two"
    for start in range(0, len(data), size):
        growing.add(data[start : start + size])
    assert growing.finish() == "".join(said) == "forty\n<think>two"
    assert "".join(thought).strip() == growing.thinking == "sum"


INSIDE = [
    ([b"sum</thi", b"nk>\n\n", b"42"], "42", "sum"),
    ([b"\n<thi", b"nk>\nsum</think>42"], "42", "sum"),
    ([b"<thi", b"s> sum"], "", "<this> sum"),
    ([b"<th"], "", "<th"),
    ([b"</think>42"], "42", ""),
    ([b""], "", ""),
]


@pytest.mark.parametrize(("pieces", "answer", "thinking"), INSIDE)
def test_text_after_a_prompt_that_opened_the_tag_begins_within_the_thinking(pieces, answer, thinking) -> None:
    said: list[str] = []
    growing = AnswerText((), said.append, opened="<think>")
    for piece in pieces:
        growing.add(piece)
    assert (growing.finish(), growing.thinking, "".join(said)) == (answer, thinking, answer)


PROMPTS = [
    ("hi<think>\n", "<think>", "sum[/THINK]42", ""),
    ("hi[THINK]", "[THINK]", "sum", "42</think>"),
    ("<think>hi", None, "", "sum[/THINK]42</think>."),
]


@pytest.mark.parametrize(("prompt", "tag", "thinking", "answer"), PROMPTS)
def test_a_prompt_may_open_a_tag_at_its_end(prompt, tag, thinking, answer) -> None:
    assert opened_by(prompt) == tag
    growing = AnswerText(opened=tag)
    growing.add(b"sum[/THINK]42</think>" + b"." * (tag is None))
    assert (growing.finish(), growing.thinking) == (answer, thinking)


def test_thinking_that_comes_apart_ends_before_the_text() -> None:
    growing = AnswerText(opened="<think>")
    growing.add_thinking("sum")
    growing.add(b"42")
    assert (growing.finish(), growing.thinking) == ("42", "sum")


def test_thinking_that_the_server_keeps_apart_stays_apart() -> None:
    thought: list[str] = []
    growing = AnswerText((), None, thought.append)
    growing.add_thinking("sum ")
    growing.add_thinking("")
    growing.add_thinking("it")
    growing.add(b"Write </think>\nat the end")
    assert (growing.finish(), growing.thinking, thought) == ("Write </think>\nat the end", "sum it", ["sum ", "it"])


def test_a_stop_string_ends_thinking_and_answer_alike() -> None:
    growing = AnswerText(["<end>"])
    assert growing.add(b"<think>sum<end>")
    assert (growing.finish(), growing.thinking) == ("", "sum")


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\ufeff\n", "\u00a0"])
def test_an_answer_with_nothing_to_read_is_never_passed_on(text: str) -> None:
    said: list[str] = []
    growing = AnswerText((), said.append)
    growing.add(text.encode())
    assert growing.finish() == text
    assert said == []
    assert is_blank(text)
