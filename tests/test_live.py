"""The live router: decisions, learning, and what is kept of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from making import learnable, prompts_for

from messctl.backends.base import Backend
from messctl.errors import BackendError, UnknownNameError, UsageError
from messctl.export import export
from messctl.graders import expect_regex, expect_text
from messctl.ledger import Ledger
from messctl.live import Router
from messctl.policies import build
from messctl.recording import load
from messctl.records import Completion, Question
from messctl.replay import Conditions, replay
from messctl.store import Store
from messctl.zoo import CostPerToken, ModelSpec, Settings


class Recorded(Backend):
    """Answers as a trace has it: the answer tells the row and the model, the tokens what it cost."""

    def __init__(self, rounds, prompts):
        self.rounds, self.row_of, self.asked, self.fail = rounds, {}, [], ()
        for row, prompt in enumerate(prompts):
            self.row_of.setdefault(prompt, row)

    def complete(self, model, question, on_text=None):
        self.asked.append(model.name)
        if model.name in self.fail:
            raise BackendError(f"model {model.name!r} is out of order")
        row = self.row_of[question.prompt]
        answer = f"{row}/{model.name}"
        if on_text:
            on_text(answer)
        return Completion(model.name, answer, 1, 1, 0.1, 0.0, "stop")

    def close(self):
        pass


class RecordedMeter:
    unit, source = "J", "recorded"

    def __init__(self, rounds):
        self.rounds = rounds

    def per_token(self, model):
        return CostPerToken("J", 1.0, float(self.rounds.cost[:, self.rounds.zoo.index(model.name)].mean()))

    def cost(self, model, completion):
        row = int(completion.answer.split("/")[0])
        return float(self.rounds.cost[row, self.rounds.zoo.index(model.name)])


def judge(rounds):
    def grade(answer):
        row, model = answer.split("/")
        return float(rounds.satisfied[int(row), rounds.zoo.index(model)])

    return grade


@pytest.fixture
def world(tmp_path):
    """A router over three recorded models, whose prompts are all different."""
    rounds = learnable(150)
    prompts = [f"{prompt} {row}" for row, prompt in enumerate(prompts_for(150))]
    models = {name: ModelSpec(name, Path(f"{name}.gguf")) for name in rounds.zoo.models}
    backend = Recorded(rounds, prompts)
    store = Store(tmp_path / "state")

    def router(**settings):
        promise = replace(Settings(alpha=0.85, v=0.2, c=0.8, seed=3), **settings)
        return Router(models, promise, backend, RecordedMeter(rounds), store)

    yield router, rounds, prompts, backend, store
    store.close()


def test_live_and_replay_take_identical_decisions(world):
    """Through SQLite, a new policy object for every step, and back: the same to the last bit."""
    router, rounds, prompts, _, store = world
    import pyarrow as pa

    from messctl.features import encode

    settings = Settings(alpha=0.85, v=0.2, c=0.8, seed=3)
    rounds = replace(rounds, features=encode(pa.array(prompts, pa.large_string())))
    played = build("messplus", rounds, settings).play(rounds)
    grade = judge(rounds)
    for t, prompt in enumerate(prompts):
        decision = router().ask(Question(prompt), grader=grade).decision
        assert decision.served == rounds.zoo.models[played.served[t]]
        assert decision.explored == played.explored[t]
        assert decision.queue == played.queue_before[t]
        assert [decision.predicted[model] for model in rounds.zoo.models] == played.predicted[t].tolist()
        means = [decision.mean_cost.get(model, np.nan) for model in rounds.zoo.models]
        assert np.array(means).tobytes() == played.mean_cost[t].tobytes()
    snapshot = store.snapshot()
    assert snapshot.queue == played.queue_final
    for index, model in enumerate(rounds.zoo.models):
        assert snapshot.models[model].weight.tobytes() == played.weights.weight[index].tobytes()
        assert snapshot.models[model].bias == played.weights.bias[index]
    assert store.check() == []


def test_status_export_and_replay_of_the_export_agree(world, tmp_path):
    router, rounds, prompts, _, store = world
    ids = []
    for row, prompt in enumerate(prompts[:60]):
        # The promise changes on the way: every answer counts under the one that it was given under.
        promise = {"alpha": 0.6} if row > 40 else {}
        asked = router(**promise).ask(Question(prompt), grader=judge(rounds) if row % 3 == 0 else None)
        ids.append(asked.decision.request.request_id)
    for row in range(59, 0, -2):  # late, out of order, not for all, some graded by a rule already
        router().feedback(ids[row], 0.25 * (row % 5))
    export(store, tmp_path / "log.parquet")
    ledger = Ledger.of(store)
    recording = load(tmp_path / "log.parquet", partial=True)
    result = replay(recording, ["logged"], Settings(alpha=0.85), Conditions()).results[0]
    assert result.requests == ledger.answered == 60
    assert result.attained == pytest.approx(ledger.standing.attained, abs=1e-12)
    assert result.queue_final == ledger.standing.queue == store.queue()
    assert result.certificate == pytest.approx(ledger.standing.certificate, abs=1e-12)
    assert result.total_cost == pytest.approx(ledger.cost_total)
    assert result.cost_vs_costliest == pytest.approx(ledger.cost_vs_costliest)
    assert result.explored == pytest.approx(ledger.explored / 60)
    shares = {model: share for model, share in result.model_share.items() if share}
    assert shares == pytest.approx(dict(ledger.model_share))


def test_without_a_grader_it_never_explores_and_learns_from_the_served_answer(world):
    router, rounds, prompts, backend, store = world
    for row, prompt in enumerate(prompts[:40]):
        asked = router(c=10.0).ask(Question(prompt))
        assert (asked.decision.explored, asked.decision.p_explore, len(asked.decision.queried)) == (False, 0.0, 1)
        before = store.snapshot()
        router(c=10.0).feedback("last", float(row % 2))
        after = store.snapshot()
        served = asked.decision.served
        for model in rounds.zoo.models:
            assert (after.models[model].steps - before.models[model].steps) == (model == served)
    assert len(backend.asked) == 40
    assert set(backend.asked) == set(rounds.zoo.models)


def test_exploring_queries_and_grades_all_and_serves_the_reference(world):
    router, rounds, prompts, backend, store = world
    heard = []
    asked = router(c=10.0).ask(Question(prompts[0]), grader=judge(rounds), on_text=heard.append)
    assert asked.decision.explored
    assert asked.decision.served == "large"
    assert backend.asked == ["large", "middle", "small"]
    assert "".join(heard) == "0/large"
    assert asked.cost == pytest.approx(rounds.cost[0].sum())
    logged = store.find("last")
    assert {model: outcome.satisfied for model, outcome in logged.answers.items()} == dict(
        zip(rounds.zoo.models, rounds.satisfied[0], strict=True)
    )


def test_a_model_of_the_users_choice_is_logged_as_forced(world):
    router, rounds, prompts, _, store = world
    asked = router().ask(Question(prompts[0]), model="middle", grader=judge(rounds))
    assert (asked.forced, asked.decision.served, asked.decision.queried) == (True, "middle", ("middle",))
    logged = store.find("last")
    assert (logged.circumstances.forced, logged.propensity) == (True, None)
    assert store.snapshot().models["middle"].cost_count == 1
    with pytest.raises(UnknownNameError, match="did you mean 'middle'"):
        router().ask(Question(prompts[0]), model="midle")


def test_a_model_that_fails(world):
    router, rounds, prompts, backend, store = world
    backend.fail = ("small",)
    asked = router(c=10.0).ask(Question(prompts[0]), grader=judge(rounds))
    assert list(asked.failures) == ["small"]
    assert set(store.find("last").answers) == {"large", "middle"}
    export(store, store.path.with_name("log.parquet"))
    recording = load(store.path.with_name("log.parquet"), partial=True)
    assert replay(recording, ["logged"], Settings(), Conditions()).results[0].explored == 1.0
    assert Ledger.of(store).explored == 1
    backend.fail = ("large", "middle", "small")
    with pytest.raises(BackendError, match="out of order"):
        router().ask(Question(prompts[1]))
    ledger = Ledger.of(store)
    assert (ledger.answered, ledger.unanswered) == (1, 1)
    unanswered = store.newest(1)[0].decision.request.request_id
    with pytest.raises(UsageError, match="was never answered"):
        router().feedback(unanswered, 1.0)
    assert store.check() == []


def test_an_interrupted_answer_leaves_a_sound_state(world):
    router, rounds, prompts, backend, store = world

    def stop(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        router().ask(Question(prompts[0]), on_text=stop)
    assert store.check() == []
    assert Ledger.of(store).unanswered == 1
    assert router().ask(Question(prompts[1])).decision.request_number == 2


def test_a_correction_recomputes_the_queue(world):
    router, _, prompts, _, store = world
    asked = [router().ask(Question(prompt)).decision.request.request_id for prompt in prompts[:3]]
    for request_id in asked:
        router().feedback(request_id, 0.0)
    assert store.snapshot().queue == pytest.approx(3 * 0.85)
    served = store.find(asked[0]).decision.served
    steps = store.snapshot().models[served].steps
    _, corrected = router().feedback(asked[0], 1.0)
    assert corrected == 0.0
    assert store.snapshot().queue == store.queue() == pytest.approx(2 * 0.85)
    assert store.snapshot().models[served].steps == steps + 1
    router().feedback(asked[0], 1.0)  # the same again is nothing new
    assert store.snapshot().models[served].steps == steps + 1


def test_costs_of_another_source_are_forgotten_and_what_was_learned_is_not(world):
    router, rounds, prompts, backend, store = world
    for prompt in prompts[:20]:
        router().ask(Question(prompt), grader=judge(rounds))
    before = store.snapshot()

    class Dollars(RecordedMeter):
        unit = "USD"

    models = {name: ModelSpec(name, Path(name)) for name in rounds.zoo.models}
    priced = Router(models, Settings(alpha=0.85, c=0.0), backend, Dollars(rounds), store)
    asked = priced.ask(Question(prompts[30]))
    assert asked.decision.mean_cost == {}
    after = store.snapshot()
    assert sum(model.cost_count for model in after.models.values()) == 1
    assert all(after.models[name].weight.tobytes() == before.models[name].weight.tobytes() for name in models)


def test_what_was_seen_is_kept_while_the_others_are_asked(world):
    """An interruption after the served answer loses none of it."""
    router, rounds, prompts, backend, store = world

    class Stop(KeyboardInterrupt):
        pass

    def complete(model, question, on_text=None):
        if model.name == "small":
            raise Stop
        return Recorded.complete(backend, model, question, on_text)

    backend.complete = complete
    with pytest.raises(Stop):
        router(c=10.0).ask(Question(prompts[0]), grader=judge(rounds))
    assert set(store.find("last").answers) == {"large"}
    router().feedback("last", 1.0)
    assert store.check() == []


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_feedback_out_of_range(world, value):
    router, _, prompts, _, _ = world
    router().ask(Question(prompts[0]))
    with pytest.raises(UsageError, match="it must lie in 0..1"):
        router().feedback("last", value)


def test_a_state_of_another_zoo(world):
    """Models that are gone are kept, models that are new start fresh, the rest goes on."""
    router, rounds, prompts, backend, store = world
    for prompt in prompts[:30]:
        router().ask(Question(prompt), grader=judge(rounds))
    before = store.snapshot()
    specs = {name: ModelSpec(name, Path(name)) for name in ("small", "large", "new")}

    class Meter(RecordedMeter):
        def per_token(self, model):
            return CostPerToken("J", 1.0, 100.0) if model.name == "new" else super().per_token(model)

        def cost(self, model, completion):
            return 50.0 if model.name == "new" else super().cost(model, completion)

    other = Router(specs, Settings(alpha=0.85, c=0.0, reference="new"), backend, Meter(rounds), store)
    asked = other.ask(Question(prompts[40]))
    assert set(asked.decision.predicted) == {"small", "large", "new"}
    assert asked.decision.predicted["new"] == 0.5
    after = store.snapshot()
    assert set(after.models) == {"small", "middle", "large", "new"}
    assert after.models["middle"].weight.tobytes() == before.models["middle"].weight.tobytes()
    assert after.queue == before.queue


def test_a_policy_that_cannot_serve_live(world):
    router = world[0]
    with pytest.raises(UsageError, match="policy 'hindsight' cannot serve live"):
        router(policy="hindsight")


@pytest.mark.parametrize(
    ("expected", "answer", "satisfied"),
    [
        ("42", "42", 1),
        ("42", " It is 42.\n", 1),
        ("42", "142", 0),
        ("42", "4.2", 0),
        ("42", "42.5", 0),
        ("42", "42, of course", 1),
        ("42", "1,42", 0),
        ("42", "-42", 0),
        ("42", "it is −42", 0),
        ("3", "1/3", 0),
        ("-3", "-3", 1),
        ("42", "", 0),
        ("Paris", "It's paris!", 1),
        ("Paris", "comparison", 0),
        ("new  york", "New\nYork", 1),
        ("-3", "x = -3", 1),
        ("a.b", "axb", 0),
        ("c++", "I like C++ best", 1),
    ],
)
def test_expected_text(expected, answer, satisfied):
    assert expect_text(expected)(answer) == satisfied


@pytest.mark.parametrize(
    ("expression", "answer", "satisfied"), [(r"^\d+$", "42", 1), (r"^\d+$", "42 ", 0), ("(?i)YES|no", "yes", 1)]
)
def test_expected_pattern(expression, answer, satisfied):
    assert expect_regex(expression)(answer) == satisfied


def test_expectations_that_are_none():
    with pytest.raises(UsageError, match="--expect is empty"):
        expect_text("  ")
    with pytest.raises(UsageError, match="not a regular expression"):
        expect_regex("(")
