"""Thinking and empty answers at the command line, with servers that answer as real ones do."""

import json

import pyarrow.parquet as pq
import pytest
from live_making import Terminal, assert_one_line, assert_sound, at_terminal, typed
from servers import USAGE, chunk, events, misbehaving, streamed

from messctl.cli import run

pytestmark = pytest.mark.usefixtures("state")
THOUGHT = ("<think>17+25 is 41", "? no</th", "ink>\n\n", "42")


def sends(content):
    return lambda handler: handler.answer(content)


@pytest.fixture
def zoo(tmp_path):
    """Writes a zoo.yaml of servers, the cheapest first."""

    def written(*servers):
        models = "".join(
            f"- {{name: {name}, url: {server.url}, cost: {{unit: USD, prompt: {price}, generated: {price}}}}}\n"
            for name, price, server in zip("abc", (1, 10, 100), servers, strict=False)
        )
        (tmp_path / "zoo.yaml").write_text(f"defaults: {{retries: 0}}\nmodels:\n{models}")

    return written


def test_thinking_in_tags_is_not_the_answer_and_not_graded(zoo, capsys):
    with misbehaving(sends(streamed(*THOUGHT))) as server:
        zoo(server)
        assert run(["ask", "hi", "--expect", "41"]) == 0
        assert capsys.readouterr() == ("42\n", "")
        assert run(["ask", "hi", "--expect", "41", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["answer"], document["thinking"], document["satisfied"]) == ("42", "17+25 is 41? no", 0.0)
        assert run(["log", "--json"]) == 0
        logged = json.loads(capsys.readouterr().out)[-1]["answers"]["a"]
        assert (logged["answer"], logged["thinking"], logged["finish"]) == ("42", "17+25 is 41? no", "stop")
        assert run(["export", "-o", "log.parquet"]) == 0
        row = pq.read_table("log.parquet").to_pylist()[-1]
        assert (row["answer/a"], row["thinking/a"]) == ("42", "17+25 is 41? no")


def deltas(*parts):
    """Return a stream of these deltas, which ends as it should."""
    return events(*(chunk(delta=part) for part in parts), chunk(delta={}, finish_reason="stop"), {"usage": USAGE})


def whole(**message):
    """Return an answer that does not stream."""
    choice = {"message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": USAGE}).encode()


def thinking_part(text):
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


FORMS = {
    "a key of its own": deltas({"reasoning_content": "17 "}, {"reasoning_content": "+ 25"}, {"content": "42"}),
    "another key": deltas({"reasoning": "17 + 25", "content": ""}, {"content": "4"}, {"content": "2"}),
    "parts": deltas(
        {"content": [thinking_part("17 ")]},
        {"content": [thinking_part("+ 25")]},
        {"content": [{"type": "text", "text": "42"}]},
    ),
    "tags": deltas({"content": "<think>17 +"}, {"content": " 25</think>\n\n4"}, {"content": "2"}),
    "tags in parts": deltas({"content": [{"type": "text", "text": "<think>17 + 25</think>42"}]}),
    "a key and tags without anything between": deltas(
        {"reasoning_content": "17 + 25"}, {"content": "<think></think>"}, {"content": "\n\n42"}
    ),
    "no stream, a key": whole(reasoning_content="17 + 25", content="42"),
    "no stream, parts": whole(content=[thinking_part("17 + 25"), {"type": "text", "text": "42"}]),
    "no stream, tags": whole(content="<think>\n17 + 25\n</think>\n\n42"),
    "no stream, the closing tag alone": whole(content="17 + 25\n</think>\n\n42"),
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS.keys())
def test_thinking_is_kept_apart_in_whatever_form_it_comes(content, zoo, capsys):
    with misbehaving(sends(content)) as server:
        zoo(server)
        assert run(["ask", "hi", "--expect", "25", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
    assert (document["answer"], document["thinking"], document["satisfied"]) == ("42", "17 + 25", 0.0)


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_shown_thinking_goes_to_standard_error(options, zoo, capsys):
    with misbehaving(sends(streamed(*THOUGHT))) as server:
        zoo(server)
        assert run(["ask", "hi", "--show-thinking", *options]) == 0
        out, err = capsys.readouterr()
        assert (json.loads(out)["answer"] if options else out) == ("42" if options else "42\n")
        assert err == "17+25 is 41? no\n\n"


def test_a_chat_shows_thinking_and_sends_none_of_it_back(zoo, monkeypatch, capsys):
    with misbehaving(sends(streamed(*THOUGHT))) as server:
        zoo(server)
        typed(monkeypatch, b"one\ntwo\n")
        assert run(["chat", "--show-thinking"]) == 0
        assert capsys.readouterr() == ("42\n42\n", "17+25 is 41? no\n\n" * 2)
        sent = server.requests[-1][2]["messages"]
    assert [(each["role"], each["content"]) for each in sent] == [("user", "one"), ("assistant", "42"), ("user", "two")]


def test_at_a_terminal_thinking_is_dim_and_its_control_characters_are_shown(zoo):
    with misbehaving(sends(streamed("<think>\n\x1b[31mhm\n\nso</think>42"))) as server:
        zoo(server)
        code, out, err = at_terminal(["ask", "hi", "--show-thinking", "--no-log"])
    assert (code, out) == (0, b"42\r\n")
    assert b"\x1b[2m\\x1b[31mhm\x1b[0m\r\n\r\n\x1b[2mso\x1b[0m\r\n\r\n" in err


def test_at_a_terminal_thinking_comes_before_the_answer(zoo):
    with misbehaving(sends(streamed(*THOUGHT))) as server:
        zoo(server)
        with Terminal("ask", "hi", "--show-thinking", "--no-log") as terminal:
            code, shown = terminal.end()
    assert (code, b"no\x1b[0m\r\n\r\n42\r\n" in shown) == (0, True), shown


def test_thinking_without_its_opening_tag_is_told(zoo, tmp_path, capsys):
    with misbehaving(sends(streamed("17+25 is 41? no</think>\n\n", "42"))) as server:
        zoo(server)
        assert run(["ask", "hi", "--expect", "41", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["answer"], document["thinking"], document["satisfied"]) == ("42", "17+25 is 41? no", 0.0)
        assert run(["ask", "hi"]) == 0
        out, err = capsys.readouterr()
        assert out.endswith("</think>\n\n42\n")
        assert "the text before </think> is its thinking" in err
        text = (tmp_path / "zoo.yaml").read_text().replace("name: a,", "name: a, thinks: true,")
        (tmp_path / "zoo.yaml").write_text(text)
        assert run(["ask", "hi", "--show-thinking"]) == 0
        assert capsys.readouterr() == ("42\n", "17+25 is 41? no\n\n")


ENDINGS = [
    (streamed("one", finish="length"), "one", "cut at the limit of tokens (finish: length)"),
    (streamed("one", finish="content_filter"), "one", "cut by a filter (finish: content_filter)"),
    (streamed("", finish="stop"), "", "empty (finish: stop)"),
    (streamed(" \n", finish="length"), " \n", "empty, cut at the limit of tokens (finish: length)"),
]


@pytest.mark.parametrize(("content", "answer", "said"), ENDINGS)
def test_an_answer_that_was_cut_or_is_empty_says_so(content, answer, said, zoo, capsys):
    with misbehaving(sends(content)) as server:
        zoo(server)
        code, _, err = at_terminal(["ask", "hi", "--grade-empty"], b"\r")
        assert (code, said.encode() in b" ".join(err.split())) == (0, True)
        assert run(["ask", "hi", "--grade-empty", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["answer"], f"(finish: {document['finish']})" in said) == (answer, True)
        assert run(["log"]) == 0
        assert said in " ".join(capsys.readouterr().out.split())


def thinks_only(finish="length"):
    thought = "<think>Let me think"
    return events(
        chunk(delta={"content": thought}), chunk(delta={}, finish_reason=finish), {"choices": [], "usage": USAGE}
    )


EMPTY = [
    (thinks_only(), "all tokens went into thinking (3 tokens, finish: length): raise max_tokens in zoo.yaml"),
    (streamed(finish="length"), "it was cut before its first word (3 tokens, finish: length): raise max_tokens"),
    (streamed(finish="content_filter"), "a filter cut it (3 tokens, finish: content_filter): change the prompt"),
    (streamed(), "the model ended at once (3 tokens, finish: stop)"),
    (streamed(" ", "\n\n"), "the model ended at once (3 tokens, finish: stop)"),
    (streamed("<think>hm</think>", "\n"), "the model thought, and ended without an answer (3 tokens, finish: stop)"),
    (streamed("\ufeff\u200b"), "the model ended at once (3 tokens, finish: stop)"),
]


@pytest.mark.parametrize("options", [[], ["--json"], ["--model", "a"], ["--expect", "x"]])
@pytest.mark.parametrize(("content", "why"), EMPTY)
def test_an_empty_answer_is_an_error_and_no_grade(content, why, options, zoo, state, capsys):
    with misbehaving(sends(content)) as server:
        zoo(server)
        assert run(["ask", "hi", *options]) == 2
        assert f"the answer of model 'a' is empty: {why}" in assert_one_line(2, *capsys.readouterr())
    assert run(["status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["standing"]["judged"], status["unanswered"], status["cost_total"]) == (0, 1, 7 + 3)
    assert run(["log", "--json"]) == 0
    (logged,) = json.loads(capsys.readouterr().out)
    assert (logged["answers"], logged["satisfied"], logged["empty"]["a"]["cost"]) == ({}, None, 7 + 3)
    assert_sound(state, requests=1)


def test_another_model_answers_instead_of_an_empty_one(zoo, state, capsys):
    with misbehaving(sends(thinks_only())) as silent, misbehaving(sends(streamed("42"))) as other:
        zoo(silent, other)
        assert run(["ask", "hi", "--expect", "42", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["answer"], document["attempts"], document["satisfied"]) == ("42", ["a", "b"], 1.0)
        assert (document["cost"], "thinking" in document["failures"]["a"]) == (11 * 10, True)
        assert run(["ask", "hi", "--model", "a"]) == 2
        assert "all tokens went into thinking" in assert_one_line(2, *capsys.readouterr())
    assert_sound(state, requests=2)


def test_an_empty_answer_is_graded_on_request(zoo, capsys):
    with misbehaving(sends(thinks_only())) as server:
        zoo(server)
        assert run(["ask", "hi", "--expect", "42", "--grade-empty", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["answer"], document["satisfied"], document["judged"]) == ("", 0.0, 1)


def test_a_chat_goes_on_after_an_empty_answer(zoo, monkeypatch, capsys):
    for options, code in ([], 2), (["--grade-empty"], 0):
        with misbehaving(sends(streamed()), sends(streamed("42"))) as server:
            zoo(server)
            typed(monkeypatch, b"one\ntwo\n")
            assert run(["chat", "--no-log", *options]) == code
            out, err = capsys.readouterr()
            assert (out, "is empty" in err) == (("42\n", True) if code else ("\n42\n", False))
            assert [each["content"] for each in server.requests[-1][2]["messages"]] == ["two"]


@pytest.mark.parametrize(("content", "_why"), EMPTY)
def test_an_empty_answer_is_recorded_without_a_grade(content, _why, zoo, tmp_path, capsys):
    (tmp_path / "p.jsonl").write_text('{"prompt": "one", "reference": "42"}\n{"prompt": "two", "reference": "42"}\n')
    graded = {}
    for options in [], ["--grade-empty"]:
        with misbehaving(sends(content), sends(streamed(*THOUGHT))) as server:
            zoo(server)
            output = tmp_path / f"{len(options)}.parquet"
            assert run(["record", "p.jsonl", "-o", str(output), "--grader", "exact", "--json", *options]) == 0
            tally = json.loads(capsys.readouterr().out)["models"]["a"]
            resumed = ["record", "p.jsonl", "-o", str(output), "--grader", "exact", "--json", "--resume", *options]
            assert run(resumed) == 0
            assert json.loads(capsys.readouterr().out)["models"]["a"] == tally | {"failure": None}
        graded[bool(options)] = [row["satisfied/a"] for row in pq.read_table(output).to_pylist()]
        first, second = pq.read_table(output).to_pylist()
        assert (second["answer/a"], second["thinking/a"]) == ("42", "17+25 is 41? no")
        assert (first["answer/a"] is None, first["cost/a"]) == (not options, 10.0)
        assert (tally["answered"], tally["empty"], tally["failed"]) == (1 + bool(options), 1, 0)
    assert graded == {False: [None, 1.0], True: [0.0, 1.0]}


def test_the_table_of_a_recording_tells_of_empty_and_cut_answers(zoo, tmp_path, capsys):
    (tmp_path / "p.txt").write_text("one\ntwo\nthree\nfour\n")
    with misbehaving(*[sends(thinks_only())] * 3, sends(streamed("42", finish="length"))) as server:
        zoo(server)
        assert run(["record", "p.txt", "-o", "t.parquet", "--grader", "none"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split()[:4] == ["a", "1", "3", "0"]
    assert "3 answers of model 'a' are empty so far" in err
    assert "a: 3 prompts without an answer, most often: the answer of model 'a' is empty: all tokens went" in err
    assert "a: 1 answer cut at the limit of tokens or by a filter" in err
