"""The shapes in which servers answer, and what comes of each. docs/servers.md lists them; tests send them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from servers import USAGE, chunk, events

STREAM = "text/event-stream"
JSON = "application/json"
ANSWERED, TOO_LONG, REFUSED, FAILED = "answered", "too long", "refused", "failed"


@dataclass(frozen=True)
class Shape:
    """One response: its body, Content-Type, status, and `length`, larger than the body if the connection breaks.

    `outcome` is one of ANSWERED, TOO_LONG, REFUSED and FAILED. If it is answered, there are an answer, its thinking and
    the word for its end; otherwise an error that says `says`.
    """

    body: bytes
    kind: str | None = STREAM
    status: int = 200
    length: int | None = None
    outcome: str = ANSWERED
    answer: str = "one two"
    thinking: str = ""
    finish: str = "stop"
    says: str = ""


def says(text: str, **more: Any) -> dict[str, Any]:
    """Return a piece of a stream with this text."""
    return chunk(delta={"content": text}, **more)


ROLE = chunk(delta={"role": "assistant", "content": ""})
ONE, TWO = says("one"), says(" two")
STOP = chunk(delta={}, finish_reason="stop")
COUNTS = {"choices": [], "usage": USAGE}


def streamed(*documents: Any, **more: Any) -> Shape:
    """Return a stream of these documents, then the counts of tokens and [DONE]."""
    return Shape(events(*documents, COUNTS), **more)


def raw(*parts: str | bytes | dict[str, Any], **more: Any) -> Shape:
    """Return a stream of these parts as they are; documents become events."""
    body = b"".join(
        part if isinstance(part, bytes) else part.encode() if isinstance(part, str) else events(part, done=False)
        for part in parts
    )
    return Shape(body, **more)


def message(content: Any = "one two", finish: Any = "stop", **more: Any) -> dict[str, Any]:
    """Return a whole answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **more}, "finish_reason": finish}
    return {"object": "chat.completion", "choices": [choice], "usage": USAGE}


def whole(document: Any, kind: str | None = JSON, **more: Any) -> Shape:
    """Return a response that is one JSON document."""
    return Shape(json.dumps(document).encode(), kind, **more)


def error(status: int, document: Any, outcome: str, says: str = "", kind: str = JSON) -> Shape:
    """Return a response with an error status."""
    body = document.encode() if isinstance(document, str) else json.dumps(document).encode()
    return Shape(body, kind, status, outcome=outcome, says=says)


def openai(text: str, **more: Any) -> dict[str, Any]:
    """Return an error document as OpenAI writes it."""
    return {"error": {"message": text, "type": "invalid_request_error", **more}}


def fails(shape: Shape, says: str, outcome: str = FAILED) -> Shape:
    """Return the shape as one that is no answer."""
    return Shape(shape.body, shape.kind, shape.status, shape.length, outcome, says=says)


def delta(**more: Any) -> dict[str, Any]:
    """Return a piece of a stream with these keys in its delta."""
    return chunk(delta=more)


def part(kind: str, **more: Any) -> dict[str, Any]:
    """Return a part of a list."""
    return {"type": kind, **more}


THOUGHT = part("thinking", thinking=[part("text", text="hm")])
SAID = part("text", text="one two")
CONTEXT = openai(
    "the request exceeds the available context size (4096 tokens)",
    code=400,
    type="exceed_context_size_error",
    n_prompt_tokens=9000,
    n_ctx=4096,
)
LIMIT = "This model's maximum context length is 512 tokens. However, your messages resulted in 900 tokens."
EXTRA = {"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}
COMPLETION = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)
UNKNOWN = "sends its answer in a shape that is not known"
STOPS = "stops in the middle of its answer"
SHORTEN = "shorten it"

STREAMS: dict[tuple[str, str], dict[str, Shape]] = {
    ("a stream of events, with any line ends and cut anywhere", "the answer"): {
        "as OpenAI sends it": streamed(ROLE, ONE, TWO, STOP),
        "with carriage returns and line feeds": Shape(events(ONE, TWO, STOP, COUNTS).replace(b"\n", b"\r\n")),
        "with carriage returns": Shape(events(ONE, TWO, STOP, COUNTS).replace(b"\n", b"\r")),
        "with a byte order mark": raw(b"\xef\xbb\xbf", ONE, TWO, STOP, COUNTS, "data: [DONE]\n\n"),
        "without a space after the colon": Shape(events(ONE, TWO, STOP, COUNTS).replace(b"data: ", b"data:")),
        "with ids and times to retry": raw("id: 1\nretry: 10\n", ONE, "id: 2\n", TWO, STOP, COUNTS),
        "with documents on several lines": raw(
            'data: {"choices": [{"delta":\ndata: {"content": "one two"}}]}\n\n', STOP, COUNTS
        ),
        "without blank lines": Shape(events(ONE, TWO, STOP, COUNTS).replace(b"\n\n", b"\n")),
        "with the usual type of event": raw("event: message\n", ONE, "event: message\n", TWO, STOP, COUNTS),
        "without [DONE]": raw(ONE, TWO, STOP, COUNTS),
        "without a blank line after the last event": Shape(events(ONE, TWO, STOP, COUNTS, done=False)[:-2]),
        "without a blank line after [DONE]": Shape(events(ONE, TWO, STOP, COUNTS)[:-2]),
        "with [DONE] in quotation marks": raw(ONE, TWO, STOP, COUNTS, 'data: "[DONE]"\n\n'),
        "with text after [DONE]": raw(ONE, TWO, STOP, COUNTS, "data: [DONE]\n\n", says(" three")),
    },
    ("comments, keep-alives, and events of other types", "skipped"): {
        "comments": raw(": OPENROUTER PROCESSING\n\n", ONE, ":\n\n: hi\n", TWO, STOP, COUNTS),
        "empty data": raw(ONE, "data:\n\n", "data: \n\ndata\n\n", TWO, STOP, COUNTS),
        "a comment in data": raw("data: : still processing\n\n", ONE, "data: : ping\n\n", TWO, STOP, COUNTS),
        "a word in data": raw("data: ping\n\n", ONE, "data: keep-alive\n\n", TWO, STOP, COUNTS),
        "null in data": raw(ONE, "data: null\n\n", TWO, STOP, COUNTS),
        "an event of another type with data": raw(ONE, 'event: ping\ndata: {"type": "ping"}\n\n', TWO, STOP, COUNTS),
        "an event of another type with an answer": raw(ONE, "event: draft\n", says(" no"), TWO, STOP, COUNTS),
        "a document that is a sign of life": streamed(ONE, {"type": "ping"}, {"status": "working"}, {}, TWO, STOP),
    },
    ("a stream without a Content-Type, or with a wrong one", "the answer: its first characters decide"): {
        "none": raw(ONE, TWO, STOP, COUNTS, kind=None),
        "text": raw(ONE, TWO, STOP, COUNTS, kind="text/plain; charset=utf-8"),
        "JSON": raw(ONE, TWO, STOP, COUNTS, kind=JSON),
        "bytes, and a comment first": raw(": hi\n\n", ONE, TWO, STOP, COUNTS, kind="application/octet-stream"),
        "text, and a byte order mark first": raw(b"\xef\xbb\xbf\n", ONE, TWO, STOP, COUNTS, kind="text/plain"),
        "text, and a type of event first": raw("event: message\n", ONE, TWO, STOP, COUNTS, kind="text/plain"),
    },
    ("one JSON document instead of a stream, with any Content-Type", "the answer"): {
        "JSON": whole(message()),
        "events": whole(message(), STREAM),
        "none": whole(message(), None),
        "text": whole(message(), "text/plain"),
        "blanks before it": Shape(b" \n\r\n\n" + json.dumps(message()).encode(), JSON),
        "a byte order mark before it": Shape(b"\xef\xbb\xbf" + json.dumps(message()).encode(), JSON),
        "over several lines": Shape(json.dumps(message(), indent=2).encode(), JSON),
        "in one event": raw(message(), "data: [DONE]\n\n"),
    },
    ("`choices` that are null, missing or empty in a part of a stream", "skipped"): {
        "null at the end": raw(ONE, TWO, STOP, {"choices": None, "usage": USAGE}),
        "missing at the end": raw(ONE, TWO, STOP, {"usage": USAGE}),
        "null in the middle": streamed(ONE, {"choices": None}, TWO, STOP),
        "missing in the middle": streamed(ONE, {"id": "c"}, TWO, STOP),
        "empty at the beginning": streamed({"choices": [], "prompt_filter_results": []}, ONE, TWO, STOP),
    },
    ("no word for the end, but `[DONE]` after some text", "the answer; `finish` is `stop`"): {
        "null in every piece": streamed(ONE, TWO),
        "empty in every piece": streamed(says("one", finish_reason=""), says(" two", finish_reason="")),
        "a whole answer with null": whole(message(finish=None)),
        "a whole answer with an empty word": whole(message(finish="")),
    },
    ("another word for the end", "the answer; `finish` is that word"): {
        "length": streamed(ONE, TWO, chunk(delta={}, finish_reason="length"), finish="length"),
        "a filter": streamed(ONE, TWO, chunk(delta={}, finish_reason="content_filter"), finish="content_filter"),
        "a word of another server": whole(message(finish="end_turn"), finish="end_turn"),
        "with the last text": streamed(ONE, says(" two", finish_reason="length"), finish="length"),
        "empty words before it": streamed(
            says("one", finish_reason=""), says(" two", finish_reason="length"), finish="length"
        ),
        "an empty word after it": streamed(
            ONE, says(" two", finish_reason="length"), chunk(delta={}, finish_reason=""), finish="length"
        ),
    },
    ("the connection breaks after text and a word for the end", "the answer"): {
        "without [DONE]": raw(ONE, TWO, STOP, COUNTS, length=99_999),
        "a whole event later": raw(ONE, TWO, STOP, COUNTS, ": hi\n\n", length=99_999),
    },
    ("the stream ends, or breaks, before the answer does", "an error"): {
        "no word for the end": fails(raw(ONE, TWO), STOPS),
        "empty words in every piece": fails(raw(says("one", finish_reason=""), says(" two", finish_reason="")), STOPS),
        "blank words in every piece": fails(
            raw(says("one", finish_reason=" "), says(" two", finish_reason=" ")), STOPS
        ),
        "within a document": fails(raw(ONE, 'data: {"choices": [{"delta": {"cont'), "sends invalid JSON"),
        "[DONE] and no text": fails(raw(ROLE, "data: [DONE]\n\n"), STOPS),
        "only [DONE]": fails(raw("data: [DONE]\n\n"), STOPS),
        "nothing": fails(raw(""), STOPS),
        "only comments": fails(raw(": hi\n\n"), STOPS),
        "only the counts of tokens": fails(raw(COUNTS, "data: [DONE]\n\n"), "sends JSON that is not an answer"),
        "too few bytes": fails(raw(ONE, TWO, length=99_999), "closes the connection too early"),
        "the server says that it gave up": fails(
            streamed(ONE, chunk(delta={}, finish_reason="error")), "fails during its answer"
        ),
        "the server aborted it": fails(streamed(ONE, chunk(delta={}, finish_reason="abort")), "finish_reason: abort"),
    },
}

ANSWERS: dict[tuple[str, str], dict[str, Shape]] = {
    ("content as a list of parts", "text parts are the answer"): {
        "one": whole(message([SAID])),
        "several": whole(message([part("text", text="one"), part("text", text=" two")])),
        "in a stream": streamed(
            delta(content=[part("text", text="one")]), delta(content=[part("text", text=" two")]), STOP
        ),
        "text as its value": whole(message([part("text", text={"value": "one two", "annotations": []})])),
        "output text": whole(message([part("output_text", text="one two")])),
        "without a type": whole(message([{"text": "one two"}])),
        "texts": whole(message(["one", " two"])),
        "a part that stands alone": whole(message(SAID)),
        "with references": whole(message([SAID, part("reference", reference_ids=[1])])),
        "empty parts and a list without parts": streamed(
            delta(content=[]), delta(content=[part("text", text="")]), ONE, TWO, STOP
        ),
    },
    ("what the model thinks, in parts or under a key of its own", "kept apart from the answer"): {
        "a thinking part": whole(message([THOUGHT, SAID]), thinking="hm"),
        "a thinking part in a stream": streamed(delta(content=[THOUGHT]), delta(content=[SAID]), STOP, thinking="hm"),
        "a thinking part with text": whole(
            message([part("thinking", thinking="hm", signature="x"), SAID]), thinking="hm"
        ),
        "a reasoning part": whole(message([part("reasoning", text="hm"), SAID]), thinking="hm"),
        "a part marked as a thought": whole(message([part("text", text="hm", thought=True), SAID]), thinking="hm"),
        "hidden thinking": whole(message([part("redacted_thinking", data="x"), SAID])),
        "reasoning_content": streamed(
            delta(reasoning_content="h"), delta(reasoning_content="m"), ONE, TWO, STOP, thinking="hm"
        ),
        "reasoning_content beside null": streamed(
            delta(content=None, reasoning_content="hm"), ONE, TWO, STOP, thinking="hm"
        ),
        "reasoning": whole(message(reasoning="hm"), thinking="hm"),
        "both, which are the same": whole(message(reasoning="hm", reasoning_content="hm"), thinking="hm"),
        "reasoning with its details": whole(
            message(reasoning="hm", reasoning_details=[part("reasoning.text", text="hm")]), thinking="hm"
        ),
        "only the details": whole(message(reasoning_details=[part("reasoning.text", text="hm")]), thinking="hm"),
        "thinking in an unknown shape": whole(message(reasoning={"steps": 3})),
        "tags in the text": streamed(says("<think>h"), says("m</think>one two"), STOP, thinking="hm"),
    },
    ("only thinking, and no answer", "an empty answer, with the word for its end"): {
        "in a stream": streamed(
            delta(reasoning_content="hm"),
            chunk(delta={}, finish_reason="length"),
            answer="",
            thinking="hm",
            finish="length",
        ),
        "whole": whole(message("", "length", reasoning_content="hm"), answer="", thinking="hm", finish="length"),
        "whole, with null": whole(message(None, "length", reasoning="hm"), answer="", thinking="hm", finish="length"),
        "as a part": whole(message([THOUGHT], "length"), answer="", thinking="hm", finish="length"),
    },
    ("no content", "an empty answer, with the word for its end"): {
        "an empty text": whole(message(""), answer=""),
        "null": whole(message(None), answer=""),
        "null beside a call of a tool": whole(
            message(None, "tool_calls", tool_calls=[{"id": "x"}]), answer="", finish="tool_calls"
        ),
        "a stream without text": streamed(ROLE, STOP, answer=""),
        "a stream that a filter cut": streamed(
            chunk(delta={}, finish_reason="content_filter"), answer="", finish="content_filter"
        ),
        "an empty list": whole(message([]), answer=""),
        "unknown keys without text": whole(message("", fields={"refusal": None, "parts": [""]}, list=[]), answer=""),
    },
    ("a refusal by the model", "it is the answer"): {
        "under a key": whole(message(None, refusal="one two")),
        "in a stream": streamed(delta(refusal="one"), delta(refusal=" two"), STOP),
        "as a part": whole(message([part("refusal", refusal="one two")])),
    },
    ("the text under another key", "the answer"): {
        "`text`, as in old completions": whole(
            {"choices": [{"text": "one two", "finish_reason": "stop"}], "usage": USAGE}
        ),
        "`text` in a stream": streamed(
            {"choices": [{"text": "one"}]}, {"choices": [{"text": " two", "finish_reason": "stop"}]}
        ),
        "`message` in a stream": streamed(chunk(message={"content": "one"}), chunk(message={"content": " two"}), STOP),
        "`message` at the end of a stream": streamed(
            ONE, TWO, chunk(message={"content": "one two"}, finish_reason="stop")
        ),
        "`delta` in a whole answer": whole(
            {"choices": [{"delta": {"content": "one two"}, "finish_reason": "stop"}], "usage": USAGE}
        ),
        "an empty `text` before": streamed({"choices": [{"text": "", "delta": None}]}, ONE, TWO, STOP),
        "an empty `delta` beside it": streamed(
            chunk(delta={}, message={"content": "one"}), chunk(delta={}, message={"content": " two"}), STOP
        ),
        "`delta` null at the end": streamed(ONE, TWO, chunk(delta=None, finish_reason="stop")),
        "no `delta` at the end": streamed(ONE, TWO, chunk(finish_reason="stop")),
    },
    ("the counts of tokens", "the last ones count"): {
        "in every piece": streamed({**ONE, "usage": {"prompt_tokens": 7, "completion_tokens": 1}}, TWO, STOP),
        "null in other pieces": streamed({**ONE, "usage": None}, {**TWO, "usage": None}, STOP),
        "in the last choice": raw(ONE, TWO, chunk(delta={}, finish_reason="stop", usage=USAGE)),
        "empty at the end": streamed(ONE, TWO, {**STOP, "usage": USAGE}, {"choices": [], "usage": {}}),
    },
    ("words of an error within an answer", "the answer"): {
        "in the text": streamed(says(LIMIT), STOP, answer=LIMIT),
        "an empty error": streamed({**ONE, "error": None}, {**TWO, "error": {}}, STOP),
    },
    ("an answer in an unknown shape", "an error that names the shape"): {
        "a part of an unknown type": fails(
            whole(message([part("image_url", image_url="x")])),
            f"{UNKNOWN} (a part of the type 'image_url' in `content`)",
        ),
        "beside text": fails(whole(message([SAID, part("hologram", data="x")])), "a part of the type 'hologram'"),
        "in a stream": fails(streamed(delta(content=[part("blob", x="one two")]), STOP), "a part of the type 'blob'"),
        "a text part without text": fails(whole(message([part("text", value="one two")])), "a part of the type 'text'"),
        "a part without a type": fails(whole(message([{"value": "one two"}])), UNKNOWN),
        "a list of numbers": fails(whole(message([1, 2])), f"{UNKNOWN} (a number in `content`)"),
        "a list in a list": fails(whole(message([["one two"]])), f"{UNKNOWN} (a list in `content`)"),
        "a number": fails(whole(message(42)), f"{UNKNOWN} (`content` is a number)"),
        "true": fails(streamed(delta(content=True), STOP), "`content` is true or false"),
        "keys and values": fails(whole(message({"answer": "one two"})), UNKNOWN),
        "an unknown key": fails(whole(message(None, output="one two")), f"{UNKNOWN} (`output`)"),
        "an unknown key in a stream": fails(streamed(delta(words="one"), delta(words=" two"), STOP), "`words`"),
        "an unknown key of the choice": fails(
            streamed(ROLE, chunk(delta={}, output="one two", finish_reason="stop")), f"{UNKNOWN} (`output`)"
        ),
        "an unknown key with parts": fails(whole(message("", output=[{"text": {"value": "one two"}}])), "(`output`)"),
        "no delta": fails(streamed(chunk(), chunk(finish_reason="stop")), f"{UNKNOWN} (choices without a message)"),
        "speech": fails(whole(message(None, audio={"data": "x"})), "`audio`"),
        "text instead of a message": fails(
            whole({"choices": [{"message": "one two", "finish_reason": "stop"}]}), "`message` without keys"
        ),
        "text instead of a delta": fails(streamed(chunk(delta="one two"), STOP), "`delta` without keys"),
        "no message": fails(whole({"choices": [{"finish_reason": "stop"}]}), "choices without a message"),
        "text instead of a choice": fails(whole({"choices": ["one two"]}), UNKNOWN),
        "only events of another type": fails(
            raw("event: chunk\n", ONE, "event: chunk\n", STOP), "sends only events of the type 'chunk'"
        ),
    },
    ("no answer", "an error"): {
        "no choices": fails(whole({"object": "chat.completion", "usage": USAGE}), "sends JSON that is not an answer"),
        "choices are null": fails(whole({"choices": None, "usage": USAGE}), "sends JSON that is not an answer"),
        "choices are empty": fails(whole({"choices": [], "usage": USAGE}), "sends JSON that is not an answer"),
        "choices have keys": fails(streamed({"choices": {"0": "one two"}}, STOP), "sends JSON that is not an answer"),
        "Ollama's own protocol": fails(
            whole({"message": {"content": "one two"}, "done": True}), "sends JSON that is not an answer"
        ),
        "Anthropic's own protocol": fails(
            raw({"type": "content_block_delta", "delta": {"text": "one two"}}), "sends JSON that is not an answer"
        ),
        "a page": fails(Shape(b"<html>welcome</html>", "text/html"), "sends invalid JSON"),
        "text": fails(Shape(b"one two", "text/plain"), "sends invalid JSON"),
        "text in a stream": fails(
            raw("data: one\n\n", "data: two\n\n", "data: [DONE]\n\n"), "sends invalid JSON (two)"
        ),
        "half a document": fails(raw(ONE, 'data: {"choices": [\n\n', STOP), "sends invalid JSON"),
        "nothing": fails(Shape(b"", JSON), "sends an empty answer"),
        "blanks": fails(Shape(b" \n\n ", JSON), "sends an empty answer"),
    },
}

ERRORS: dict[tuple[str, str], dict[str, Shape]] = {
    ("the prompt is too long, with any status", "the prompt is refused, and the model stays in use"): {
        "OpenAI": error(400, openai(LIMIT, code="context_length_exceeded", param="messages"), TOO_LONG, SHORTEN),
        "OpenAI, in other words": error(400, openai("Your input exceeds the context window of this model."), TOO_LONG),
        "llama.cpp": error(400, CONTEXT, TOO_LONG, SHORTEN),
        "llama.cpp with status 500": error(500, CONTEXT, TOO_LONG, SHORTEN),
        "llama.cpp while it answers": error(500, openai("Context size has been exceeded."), TOO_LONG),
        "llama.cpp, by its numbers only": error(500, openai("no", n_prompt_tokens=9000, n_ctx=4096), TOO_LONG),
        "llama-cpp-python": error(500, openai("Requested tokens (900) exceed context window of 512"), TOO_LONG),
        "vLLM": error(
            400,
            {
                "object": "error",
                "message": "The decoder prompt (length 900) is longer than the maximum model length of 512.",
                "code": 400,
            },
            TOO_LONG,
        ),
        "vLLM, of the limit": error(
            400,
            openai(
                "'max_tokens' or 'max_completion_tokens' is too large: 900. This model's maximum context length is 512 "
                "tokens and your request has 100 input tokens",
                param="max_tokens",
            ),
            TOO_LONG,
        ),
        "SGLang": error(
            400, openai("The input (900 tokens) is longer than the model's context length (512 tokens)."), TOO_LONG
        ),
        "SGLang, of the total": error(
            400, openai("Requested token count exceeds the model's maximum context length of 512 tokens."), TOO_LONG
        ),
        "TGI": error(
            422,
            {
                "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 512. Given: 900",
                "error_type": "validation",
            },
            TOO_LONG,
        ),
        "TGI, of the input": error(
            422, {"error": "Input validation error: `inputs` must have less than 512 tokens. Given: 900"}, TOO_LONG
        ),
        "Mistral": error(
            400,
            {
                "object": "error",
                "message": "Prompt contains 900 tokens and 0 draft, too large for model with 512 maximum context",
                "type": "invalid_request_prompt",
            },
            TOO_LONG,
        ),
        "Anthropic": error(
            400,
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "prompt is too long: 200251 tokens > 199999 maximum",
                },
            },
            TOO_LONG,
        ),
        "Anthropic, with the limit": error(
            400,
            openai(
                "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease input length or "
                "`max_tokens` and try again"
            ),
            TOO_LONG,
        ),
        "Google": error(
            400,
            [
                {
                    "error": {
                        "code": 400,
                        "message": "The input token count (1048580) exceeds the maximum number of tokens allowed.",
                        "status": "INVALID_ARGUMENT",
                    }
                }
            ],
            TOO_LONG,
        ),
        "Bedrock": error(400, {"message": "Input is too long for requested model."}, TOO_LONG),
        "Cohere": error(
            400, {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081"}, TOO_LONG
        ),
        "Groq": error(
            400, openai("Please reduce the length of the messages or completion.", param="messages"), TOO_LONG
        ),
        "xAI": error(
            400,
            {
                "code": "Client specified an invalid argument",
                "error": "This model's maximum prompt length is 512 but the request contains 900 tokens.",
            },
            TOO_LONG,
        ),
        "Moonshot": error(400, openai("Invalid request: Your request exceeded model token limit: 8192"), TOO_LONG),
        "Qwen": error(400, openai("Range of input length should be [1, 30720]"), TOO_LONG),
        "Ollama": error(400, {"error": "the input length exceeds the context length"}, TOO_LONG),
        "LM Studio": error(
            400,
            {
                "error": "Trying to keep the first 900 tokens when context the overflows. However, the model is loaded "
                "with context length of only 512 tokens, which is not enough."
            },
            TOO_LONG,
        ),
        "LiteLLM with status 503": error(
            503,
            openai("litellm.ServiceUnavailableError: litellm.ContextWindowExceededError: OpenAIException"),
            TOO_LONG,
        ),
        "OpenRouter, within the message of another": error(
            400,
            {
                "error": {
                    "message": "Provider returned error",
                    "code": 400,
                    "metadata": {"raw": json.dumps(openai(LIMIT))},
                }
            },
            TOO_LONG,
        ),
        "FastAPI, as text": error(422, {"detail": "Prompt is too long"}, TOO_LONG),
        "FastAPI, as a list": error(
            422,
            {
                "detail": [
                    {
                        "type": "string_too_long",
                        "loc": ["body", "messages", 0, "content"],
                        "msg": "String should have at most 900 characters",
                    }
                ]
            },
            TOO_LONG,
        ),
        "as text": error(500, "prompt exceeds the maximum length of 512", TOO_LONG, kind="text/plain"),
        "by a code alone": error(400, {"error": {"code": "CONTEXT_LENGTH_EXCEEDED"}}, TOO_LONG),
        "by a code with status 429": error(429, openai("slow down", code="context_length_exceeded"), TOO_LONG),
        "by status 413": error(413, "", TOO_LONG),
        "status 200 and an error": whole(CONTEXT, outcome=TOO_LONG),
        "status 200 and an error as text": whole({"error": "prompt is too long"}, outcome=TOO_LONG),
        "status 200 and a detail": whole({"detail": LIMIT}, outcome=TOO_LONG),
        "in a stream": raw(CONTEXT, outcome=TOO_LONG),
        "in a stream, after text": raw(ONE, CONTEXT, outcome=TOO_LONG),
        "in an event of the type error": raw("event: error\n", CONTEXT, outcome=TOO_LONG),
        "in an event of the type error, as text": raw("event: error\ndata: prompt is too long\n\n", outcome=TOO_LONG),
        "in a field error": raw(f"error: {json.dumps(CONTEXT['error'])}\n\n", outcome=TOO_LONG),
        "in a choice": streamed(chunk(delta={}, error=CONTEXT["error"], finish_reason="error"), outcome=TOO_LONG),
    },
    ("a parameter is refused", "an error with the line to add to zoo.yaml"): {
        "OpenAI": error(
            400,
            openai(COMPLETION, param="max_tokens", code="unsupported_parameter"),
            REFUSED,
            "add `max_tokens_key: max_completion_tokens` to model 'm' in zoo.yaml",
        ),
        "OpenAI, of a value": error(
            400,
            openai(
                "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is.",
                param="temperature",
                code="unsupported_value",
            ),
            REFUSED,
            "add `omit: [temperature]` to model 'm' in zoo.yaml",
        ),
        "Anthropic": error(
            400,
            openai("`temperature` and `top_p` cannot both be specified for this model. Please use only one."),
            REFUSED,
            "refuses `top_p` with 400",
        ),
        "FastAPI": error(422, {"detail": [EXTRA]}, REFUSED, "add `omit: [stream_options]` to model 'm' in zoo.yaml"),
        "vLLM": error(
            400,
            {"object": "error", "message": f"[{EXTRA}]", "type": "BadRequestError", "code": 400},
            REFUSED,
            "add `omit: [stream_options]`",
        ),
        "Mistral": error(
            422,
            {
                "object": "error",
                "message": {"detail": [{**EXTRA, "loc": ["body", "stream_options", "include_usage"]}]},
                "type": "invalid_request_error",
            },
            REFUSED,
            "add `omit: [stream_options]`",
        ),
        "Fireworks": error(
            400,
            openai("Extra inputs are not permitted, field: 'stream_options'"),
            REFUSED,
            "add `omit: [stream_options]`",
        ),
        "NVIDIA": error(
            422,
            {
                "title": "Unprocessable Entity",
                "status": 422,
                "detail": "body -> top_p\n  Extra inputs are not permitted (type=extra_forbidden)",
            },
            REFUSED,
            "add `omit: [top_p]`",
        ),
        "Google": error(
            400,
            [
                {
                    "error": {
                        "code": 400,
                        "message": 'Invalid JSON payload received. Unknown name "seed": Cannot find field.',
                    }
                }
            ],
            REFUSED,
            "add `omit: [seed]`",
        ),
        "a server that crashes": error(
            500,
            {"detail": "create() got an unexpected keyword argument 'stream_options'"},
            REFUSED,
            "add `omit: [stream_options]`",
        ),
        "without another name for the limit": error(
            400,
            openai("Unrecognized request argument supplied: max_tokens"),
            REFUSED,
            "add `max_tokens_key: max_completion_tokens` or `omit: [max_tokens]` to model 'm'",
        ),
        "a server that does not stream": error(
            400, openai("Streaming is not supported by this model"), REFUSED, "add `omit: [stream]` to model 'm'"
        ),
        "a server that does not stream, in other words": error(
            400, {"detail": "this model does not support streaming"}, REFUSED, "add `omit: [stream]` to model 'm'"
        ),
        "a server that reads JSON strictly": error(
            400, {"error": 'json: unknown field "stream_options"'}, REFUSED, "add `omit: [stream_options]` to model 'm'"
        ),
        "LiteLLM": error(
            400,
            openai("litellm.BadRequestError: top_p is not supported", param="None", code="400"),
            REFUSED,
            "omit: [top_p]",
        ),
        "a value out of range": error(
            400,
            openai(
                "max_tokens is too large: 900. This model supports at most 512 completion tokens.", param="max_tokens"
            ),
            REFUSED,
            "change `max_tokens`, or add `omit: [max_tokens]` to model 'm' in zoo.yaml",
        ),
        "another value out of range": error(
            422,
            {
                "detail": [
                    {
                        "type": "less_than_equal",
                        "loc": ["body", "top_p"],
                        "msg": "Input should be less than or equal to 0.9",
                    }
                ]
            },
            REFUSED,
            "change `top_p`, or add",
        ),
        "status 200 and an error": whole(
            openai("top_p is not supported", code=400), outcome=REFUSED, says="add `omit: [top_p]`"
        ),
    },
    ("the prompt is refused for another reason", "an error; after three in a row the model is left alone"): {
        "a filter": error(
            400,
            openai("The prompt was blocked by the content filter", code="content_filter"),
            REFUSED,
            "check which prompts and parameters",
        ),
        "a filter that repeats the prompt": error(
            400,
            openai("blocked: 'at which temperature does a stream of seeds freeze?'"),
            REFUSED,
            "check which prompts",
        ),
        "an unknown model": error(400, openai("The model `x` does not exist"), REFUSED, "check which prompts"),
        "an invalid message": error(
            400,
            openai("messages: at least one is required; top_p is not checked", param="messages"),
            REFUSED,
            "check which",
        ),
        "an invalid message, told by words": error(400, openai("invalid messages: none given"), REFUSED, "check which"),
        "an unknown parameter that was not sent": error(
            400, openai("Unrecognized request argument: logit_bias", param="logit_bias"), REFUSED, "check which prompts"
        ),
    },
    ("another error, with any status or in a stream", "an error; the model is left alone for a while"): {
        "too many tokens per minute": error(
            429, openai("Rate limit reached: too many tokens per minute"), FAILED, "gets too many requests"
        ),
        "too many tokens per minute, status 400": error(
            400, openai("Rate limit: too many tokens per minute (TPM)"), REFUSED, "check which prompts"
        ),
        "too many tokens per minute, status 503": error(
            503, openai("Too many tokens, please wait before trying again."), FAILED, "fails with 503"
        ),
        "a request too large for a rate": error(
            429,
            openai("Request too large on tokens per min (TPM): Limit 100, Requested 120"),
            FAILED,
            "gets too many requests",
        ),
        "the time is up": error(504, openai("context deadline exceeded"), FAILED, "fails with 504"),
        "the request was cancelled": error(500, openai("context canceled"), FAILED, "fails with 500"),
        "no money": error(402, openai("You exceeded your current quota of tokens"), FAILED, "fails with 402"),
        "a wrong key": error(
            401, openai("Incorrect API key provided"), FAILED, "refuses the key with 401 (Incorrect API key provided)"
        ),
        "an unknown address": error(404, {"detail": "Not Found"}, FAILED, "is not found, 404 (Not Found)"),
        "out of memory": error(
            500, openai("CUDA out of memory: the input tensor is too big"), FAILED, "fails with 500"
        ),
        "in a stream": fails(raw(ONE, openai("out of memory")), "fails during its answer (out of memory)"),
        "in a stream, as text": fails(raw(ONE, {"error": "out of memory"}), "fails during its answer (out of memory)"),
        "in a stream, with a status": fails(raw(ONE, openai("busy", code=503)), "fails with 503 (busy)"),
        "in a stream, not as JSON": fails(
            raw(ONE, "data: Internal Server Error\n\n", "data: [DONE]\n\n"),
            "sends invalid JSON (Internal Server Error)",
        ),
        "status 200": fails(
            whole({"object": "error", "message": "out of memory", "code": 50001}),
            "fails during its answer (out of memory)",
        ),
        "status 200, as a list": fails(
            whole([{"error": {"message": "out of memory"}}]), "fails during its answer (out of memory)"
        ),
    },
}

SECTIONS = {"Streams": STREAMS, "Answers": ANSWERS, "Errors": ERRORS}
"""The sections of docs/servers.md: what a server sends, and what comes of it, as the page says; then the shapes."""
