"""Log-probabilities of servers: asked for if they are wanted, added up, and not asked for again if they are refused."""

from __future__ import annotations

import contextlib
import json
from types import SimpleNamespace

import pytest
from servers import USAGE, chunk, events, misbehaving, streamed

from messctl.backends import OpenAICompatible
from messctl.backends.logprobs import LogprobMean
from messctl.errors import BackendError
from messctl.records import Chat, Question
from messctl.zoo import ModelSpec

WANTED = Question("What is 17 + 25?", logprob=True)


def tokens(*values):
    return {"content": [{"token": "a", "logprob": value, "bytes": None, "top_logprobs": []} for value in values]}


def in_stream(*pieces):
    """Return a streamed answer "4", "2", … whose pieces have these `logprobs`."""
    parts = [chunk(delta={"content": str(at)}, logprobs=logprobs) for at, logprobs in enumerate(pieces)]
    return events(*parts, chunk(delta={}, finish_reason="stop"), {"choices": [], "usage": USAGE})


def whole(logprobs):
    choice = {"index": 0, "message": {"content": "42"}, "finish_reason": "stop", "logprobs": logprobs}
    return json.dumps({"choices": [choice], "usage": USAGE}).encode()


def sends(content, status=200):
    kind = "text/event-stream" if content.startswith(b"data") else "application/json"
    return lambda handler: handler.answer(content, status, kind)


def says(status, message, **more):
    return (
        sends(b"", status)
        if not message
        else sends(json.dumps({"error": {"message": message, **more}}).encode(), status)
    )


def completed(server, question=WANTED, backend=None, **more):
    made = backend or OpenAICompatible(pause=lambda _: None)
    try:
        return made.complete(ModelSpec("m", url=server.url, timeout_s=5, **more), question)
    finally:
        if backend is None:
            made.close()


ANSWERS = {
    "of each piece of a stream": (in_stream(tokens(-0.5), tokens(-1.0), tokens(-1.5)), -1.0),
    "several tokens in one piece": (in_stream(tokens(-0.5, -1.0), tokens(-1.5)), -1.0),
    "of a whole answer": (whole(tokens(-0.25, -0.75)), -0.5),
    "none in a stream": (streamed("4", "2"), None),
    "null in a stream": (in_stream(None, None), None),
    "none in a whole answer": (whole(None), None),
    "an empty list": (whole({"content": []}), None),
    "a list that is none": (whole({"content": "-1"}), None),
    "not a document": (whole([-1.0]), None),
    "only some pieces": (in_stream(tokens(-2.0), None), -2.0),
    "what is no number is skipped": (whole(tokens("-1", None, True, [-1], -3.0)), -3.0),
    "infinite ones are skipped": (whole(tokens(float("-inf"), float("nan"), -3.0)), -3.0),
    "immense ones are skipped": (whole(tokens(-(10**400), -1e308, -3.0)), -3.0),
    "more than certain is certain": (whole(tokens(0.5, -1.0)), -0.5),
    "zero is certain": (whole(tokens(0, 0)), 0.0),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_has_the_mean_of_its_tokens(case):
    content, expected = ANSWERS[case]
    with misbehaving(sends(content)) as server:
        assert completed(server).logprob == (expected if expected is None else pytest.approx(expected))
        assert server.requests[0][2]["logprobs"] is True


def test_they_are_neither_asked_for_nor_given_unless_they_are_wanted():
    with misbehaving(sends(in_stream(tokens(-1.0)))) as server:
        assert completed(server, Question("hi")).logprob is None
        assert completed(server, lacks=("logprobs",)).logprob is None
        own = Chat(({"role": "user", "content": "hi"},), {"logprobs": False})
        assert completed(server, Question("hi", logprob=True, chat=own)).logprob is None
    assert [body.get("logprobs") for _, _, body in server.requests] == [None, None, False]


REFUSALS = {
    "OpenAI's reasoning models": (403, "You are not allowed to request logprobs from this model"),
    "an unknown field": (400, "Unrecognized request argument supplied: logprobs"),
    "a validator": (422, "logprobs: Extra inputs are not permitted"),
    "with streams": (400, "logprobs cannot be used with `stream`"),
    "in words": (400, "This server does not support log probabilities."),
    "llama-cpp-python": (500, "logprobs is not supported for models created with logits_all=False"),
    "not implemented": (501, "logprobs: not implemented"),
    "without a word": (400, ""),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("retries", [0, 2])
def test_a_server_that_refuses_them_is_asked_again_without_and_from_then_on(case, retries):
    refusal = says(*REFUSALS[case])
    with (
        misbehaving(refusal, sends(streamed("4", "2"))) as server,
        OpenAICompatible(pause=lambda _: None) as backend,
    ):
        for _ in range(3):
            got = completed(server, WANTED, backend, retries=retries)
            assert (got.answer, got.logprob) == ("42", None)
        assert [body.get("logprobs") for _, _, body in server.requests] == [True, None, None, None]


def test_a_refusal_in_a_place_of_its_own_or_in_a_stream_counts_too():
    places = says(400, "Unsupported parameter.", param="logprobs")
    in_a_stream = sends(events({"error": {"message": "logprobs is not supported", "code": 400}}))
    for refusal in (places, in_a_stream):
        with misbehaving(refusal, sends(streamed("4", "2"))) as server:
            assert completed(server).answer == "42"
            assert server.served == 2


def test_another_model_at_the_same_server_is_asked_for_them_all_the_same():
    with (
        misbehaving(says(400, "logprobs: no"), sends(in_stream(tokens(-1.0)))) as server,
        OpenAICompatible(pause=lambda _: None) as backend,
    ):
        assert completed(server, WANTED, backend, model="one").logprob is None
        assert completed(server, WANTED, backend, model="two").logprob == -1.0


@pytest.mark.parametrize("status", [400, 401, 404, 422, 503])
def test_other_complaints_are_errors_as_before(status):
    with misbehaving(says(status, "the model is not what it was")) as server:
        with pytest.raises(BackendError, match="not what it was"):
            completed(server, retries=0)
        assert server.served == 1


def test_a_refusal_after_a_part_was_shown_is_an_error():
    broken = events(chunk(delta={"content": "4"}), {"error": {"message": "logprobs failed", "code": 500}}, done=False)
    with (
        misbehaving(sends(broken)) as server,
        OpenAICompatible(pause=lambda _: None) as backend,
        pytest.raises(BackendError, match="logprobs failed"),
    ):
        backend.complete(ModelSpec("m", url=server.url), WANTED, [].append)
    assert server.served == 1


def test_whoever_did_not_ask_for_them_does_not_get_them_passed_on():
    taken = []
    chat = Chat(({"role": "user", "content": "hi"},))
    call = chunk(delta={"tool_calls": [{"index": 0, "function": {"name": "f"}}]}, logprobs=tokens(-1.0))
    content = events(call, chunk(delta={"content": "4"}, logprobs=tokens(-1.0)), chunk(delta={}, finish_reason="stop"))

    recipient = SimpleNamespace(shown=False, check=lambda: None, cutting=contextlib.nullcontext, take=taken.append)
    with misbehaving(sends(content[: -len(b"data: [DONE]\n\n")] + events({"choices": [], "usage": USAGE}))) as server:
        completed(server, Question("hi", logprob=True, chat=chat, recipient=recipient))
        assert [set(part) for part in taken] == [{"index", "delta"}, {"usage"}]
        taken.clear()
        completed(server, Question("hi", chat=chat, recipient=recipient))
        assert [set(part) for part in taken] == [*[{"index", "delta", "logprobs"}] * 2, {"usage"}]


def test_the_mean_of_nothing_is_none():
    mean = LogprobMean()
    mean.add(None)
    assert mean.value is None
