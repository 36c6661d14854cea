"""The metrics of a real `messctl serve`: each request is counted once, under what became of it."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import TWO, Serving, until

pytest.importorskip("prometheus_client")
from prometheus_client.parser import text_string_to_metric_families as families

pytestmark = pytest.mark.slow

LABELS = {"tenant", "model", "outcome", "kind", "unit", "le"}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


def scraped(serving, accept="text/plain", **headers):
    connection = serving.connection()
    connection.request("GET", "/metrics", headers={"accept": accept, **headers})
    response = connection.getresponse()
    assert response.status == 200
    kind, text = response.getheader("content-type"), response.read().decode()
    connection.close()
    return kind, text


def values(serving, **headers):
    """Return the value of every series: by its name, and the values of its labels in the order of their names."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in families(scraped(serving, **headers)[1])
        for sample in family.samples
    }


@pytest.fixture
def serving(tmp_path):
    with Serving(tmp_path, TWO, scripted=0) as serving:
        yield serving


def test_answers_are_counted_with_their_tokens_and_cost(serving):
    answers = [serving.chat(model=name)[2] for name in ("cheap", "dear", "dear")]
    found = values(serving)
    for name in ("cheap", "dear"):
        own = [answer for answer in answers if answer["model"] == name]
        assert found["messctl_requests_total", name, "answered", "default"] == len(own)
        assert found["messctl_attempts_total", name, "answered", "default"] == len(own)
        cost = sum(answer["messctl"]["cost"] for answer in own)
        assert found["messctl_cost_total", name, "default", "USD"] == pytest.approx(cost)
        for kind, key in (("read", "prompt_tokens"), ("written", "completion_tokens")):
            assert found["messctl_tokens_total", kind, name, "default"] == sum(each["usage"][key] for each in own)
    assert found["messctl_decision_seconds_count", "default"] == 3


@pytest.mark.parametrize(
    ("asked", "status"),
    [({"model": "nobody"}, 404), ({"messages": []}, 400), ({"tools": TOOLS}, 400), ({"messages": 5}, 400)],
)
def test_requests_at_fault_are_counted_under_no_model(serving, asked, status):
    assert serving.chat(**asked)[0] == status
    requests = {key: value for key, value in values(serving).items() if key[0] == "messctl_requests_total"}
    assert requests == {("messctl_requests_total", "", "invalid", "default"): 1}


def test_requests_that_find_the_queue_full_are_counted_as_busy(tmp_path):
    with Serving(tmp_path, TWO, "--queue", "0", scripted=0) as serving, ThreadPoolExecutor(3) as pool:
        with serving.held("cheap"):
            asked = [pool.submit(serving.chat, model="cheap") for _ in range(3)]
            until(lambda: sum(each.done() for each in asked) == 2)
        assert sorted(each.result()[0] for each in asked) == [200, 429, 429]
        found = values(serving)
    assert found["messctl_requests_total", "cheap", "answered", "default"] == 1
    assert found["messctl_requests_total", "cheap", "busy", "default"] == 2


def test_a_failed_model_and_the_one_that_answers_for_it_are_counted(tmp_path):
    from servers import misbehaving, streamed

    zoo = """
defaults: {{retries: 0}}
models:
- {{name: cheap, url: "{}", cost: {{unit: USD, prompt: 1, generated: 1}}}}
- {{name: dear, url: "{}", cost: {{unit: USD, prompt: 5, generated: 5}}}}
"""
    with (
        misbehaving(lambda handler: handler.answer(b"{}", 500, "application/json")) as broken,
        misbehaving(lambda handler: handler.answer(streamed("yes"))) as works,
        Serving(tmp_path, zoo.format(broken.url, works.url)) as serving,
    ):
        assert serving.chat()[0] == 200
        assert serving.chat(model="cheap")[0] == 502
        found = values(serving)
    assert found["messctl_attempts_total", "cheap", "failed", "default"] == 2
    assert found["messctl_attempts_total", "dear", "answered", "default"] == 1
    assert found["messctl_requests_total", "dear", "answered", "default"] == 1
    assert found["messctl_requests_total", "cheap", "failed", "default"] == 1
    assert found["messctl_model_out", "cheap", "default"] == 1
    assert found["messctl_model_out", "dear", "default"] == 0


def test_the_first_token_is_timed_in_streams_alone(serving):
    serving.chat(model="cheap")
    assert ("messctl_first_token_seconds_count", "cheap", "default") not in values(serving)
    connection = serving.connection()
    body = b'{"model": "cheap", "stream": true, "messages": [{"role": "user", "content": "a b c"}]}'
    connection.request("POST", "/v1/chat/completions", body)
    assert b"[DONE]" in connection.getresponse().read()
    connection.close()
    assert values(serving)["messctl_first_token_seconds_count", "cheap", "default"] == 1


def test_gauges_are_what_the_status_says_and_follow_feedback_of_other_programs(serving):
    ids = [serving.chat(model="cheap")[2]["id"] for _ in range(4)]
    assert ("messctl_attained", "default") not in values(serving)
    for identity, value in zip(ids, (True, False, 0.5, True), strict=True):
        assert serving.ask("/v1/feedback", {"id": identity, "value": value})[0] == 200
    found, (_, _, status) = values(serving), serving.ask("/v1/status")
    assert found["messctl_alpha", "default"] == status["alpha"] == 0.75
    for name in ("attained", "certificate"):
        assert found[f"messctl_{name}", "default"] == status["standing"][name]
    assert found["messctl_debt", "default"] == status["standing"]["queue"] > 0
    assert found["messctl_pending", "default"] == 0
    for outcome, count in (("good", 2), ("bad", 1), ("between", 1)):
        assert found["messctl_feedback_total", "cheap", outcome, "default"] == count
    from messctl.cli import run

    assert run(["feedback", ids[1].removeprefix("chatcmpl-"), "good", "--state", str(serving.state)]) == 0
    assert values(serving)["messctl_attained", "default"] > found["messctl_attained", "default"]


def test_a_queue_has_a_length_as_long_as_requests_wait(tmp_path):
    def length():
        return values(serving)["messctl_queue_length", "cheap"]

    with Serving(tmp_path, TWO, scripted=0) as serving, ThreadPoolExecutor(3) as pool:
        assert length() == 0
        with serving.held("cheap"):
            asked = [pool.submit(serving.chat, model="cheap") for _ in range(3)]
            until(lambda: length() == 3)
        assert [each.result()[0] for each in asked] == [200] * 3
        assert length() == 0


def test_names_and_labels_are_few_and_openmetrics_is_spoken(serving):
    serving.chat("a secret prompt")
    kind, text = scraped(serving, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert "secret" not in text
    names = {name for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE) if not name.startswith("process_")}
    assert names
    assert all(name.startswith("messctl_") for name in names)
    assert set(re.findall(r'[{,](\w+)="', text)) <= LABELS


def test_with_keys_each_tenant_sees_its_own_metrics(tmp_path):
    from messctl.server.keys import hash_of

    keys = {"search": "the key of search", "batch": "the key of batch"}
    lines = (f'- {{name: {name}, key_hash: "{hash_of(key)}", models: [cheap]}}\n' for name, key in keys.items())
    with Serving(tmp_path, f"{TWO}tenants:\n{''.join(lines)}", scripted=0) as serving:
        assert serving.ask("/metrics")[0] == 401
        authorization = f"Bearer {keys['search']}"
        body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
        assert serving.ask("/v1/chat/completions", body, {"authorization": authorization})[0] == 200
        found = values(serving, authorization=authorization)
        assert found["messctl_requests_total", "cheap", "answered", "search"] == 1
        assert found["messctl_alpha", "search"] == 0.75
        text = scraped(serving, authorization=authorization)[1]
        assert "batch" not in text
        assert "dear" not in text
        text = scraped(serving, authorization=f"Bearer {keys['batch']}")[1]
        assert "search" not in text
        assert 'tenant="batch"' in text
