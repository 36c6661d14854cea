"""The live router: decisions, learning, and what the store keeps of them."""

import functools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from driving import drive
from making import learnable, prompts_for

from messctl.backends.base import Backend
from messctl.costs.meter import TokenMeter
from messctl.costs.prompt_cost import characters
from messctl.costs.tokens import FlopsMeter
from messctl.errors import BackendError, StoreError, UnfitError, UnknownNameError, UsageError
from messctl.learning.features import encode
from messctl.live.router import Router
from messctl.policies import build, live_build, live_names
from messctl.policies.bandit import calls
from messctl.records import Chat, Completion, Question
from messctl.replay.loading import load
from messctl.replay.play import replay
from messctl.replay.result import Conditions
from messctl.state.export import export_log
from messctl.state.ledger import Ledger
from messctl.state.store import Store
from messctl.zoo import CostPerToken, ModelSpec, Settings


class Recorded(Backend):
    """Answers from a trace: each answer names the row and the model."""

    def __init__(self, rounds, prompts):
        self.rounds, self.row_of, self.queried, self.fail = rounds, {}, [], ()
        for row, prompt in enumerate(prompts):
            self.row_of.setdefault(prompt, row)

    def complete(self, model, question, on_text=None, on_thinking=None):
        self.queried.append(model.name)
        if model.name in self.fail:
            raise BackendError(f"model {model.name!r} is out of order")
        row = self.row_of[question.prompt]
        answer = f"{row}/{model.name}"
        if on_text:
            on_text(answer)
        return Completion(model.name, answer, 1, 1, 0.1, 0.0, "stop")

    def close(self):
        pass


class RecordedMeter(TokenMeter):
    """Takes costs from a trace. It predicts no prompt costs, unless it has a price per prompt token."""

    unit, source = "J", "recorded"

    def quality(self, model):
        return "stated"

    def __init__(self, rounds, prompt=0.0):
        self.rounds, self.prompt = rounds, prompt

    def per_token(self, model):
        return CostPerToken("J", self.prompt, float(self.rounds.cost[:, self.rounds.zoo.index(model.name)].mean()))

    def cost(self, model, completion):
        row = int(completion.answer.split("/")[0])
        return float(self.rounds.cost[row, self.rounds.zoo.index(model.name)])


def judge(rounds):
    def grade(answer):
        row, model = answer.split("/")
        return float(rounds.satisfied[int(row), rounds.zoo.index(model)])

    return grade


only_messplus = pytest.mark.parametrize("world", ["messplus"], indirect=True)
only_bandit = pytest.mark.parametrize("world", ["bandit"], indirect=True)


@pytest.fixture(params=live_names())
def world(request, place):
    """A router, by every policy that serves live, over three recorded models, whose prompts are all different."""
    prompts = [f"{prompt} {row}" for row, prompt in enumerate(prompts_for(150))]
    rounds = replace(learnable(150), features=encode(pa.array(prompts, pa.large_string())))
    models = {name: ModelSpec(name, Path(f"{name}.gguf")) for name in rounds.zoo.models}
    backend = Recorded(rounds, prompts)
    store = Store(place)

    def router(models=models, meter=None, **settings):
        promise = replace(Settings(policy=request.param, alpha=0.85, v=0.2, c=0.8, seed=3), **settings)
        return Router(models, promise, backend, meter or RecordedMeter(rounds), store)

    yield router, rounds, prompts, backend, store
    store.close()


def assert_as_played(decision, played, t):
    models = played.zoo.models
    assert decision.served == models[played.served[t]]
    assert decision.explored == played.explored[t]
    assert decision.queue == played.queue_before[t]
    assert [decision.predicted[model] for model in models] == played.predicted[t].tolist()
    means = [decision.mean_cost.get(model, np.nan) for model in models]
    assert np.array(means).tobytes() == played.mean_cost[t].tobytes()


def assert_state_as_played(store, played, settings):
    snapshot = store.policy.snapshot(settings.policy)
    assert snapshot.queue == played.queue_final
    shown = played.satisfied[~np.isnan(played.satisfied)]
    assert snapshot.balance == pytest.approx((shown - settings.alpha).sum(), abs=1e-9)
    weights = live_build(settings.policy)(played.zoo, settings, snapshot).weights
    assert weights.weight.tobytes() == played.weights.weight.tobytes()
    assert weights.bias.tobytes() == played.weights.bias.tobytes()


def test_live_and_replay_take_identical_decisions(world):
    """Through SQLite, a new policy object for every step, and back: the same to the last bit."""
    router, rounds, prompts, _, store = world
    settings = router().settings
    played = build(settings.policy, rounds, settings).play(rounds)
    for t, prompt in enumerate(prompts):
        assert_as_played(router().ask(Question(prompt), grader=judge(rounds)).decision, played, t)
    assert_state_as_played(store, played, settings)
    assert store.check() == []


def test_predicted_prompt_costs_lead_to_the_same_decisions_in_live_and_replay(world):
    """A replay with the prompt costs of live requests decides the same, to the last bit. No tokens are counted."""
    router, rounds, prompts, backend, store = world
    complete = backend.complete
    backend.complete = lambda *arguments: replace(complete(*arguments), tokens_in=0)
    meter, prompt_costs, decisions = RecordedMeter(rounds, prompt=0.5), [], []
    for row, prompt in enumerate(prompts):
        turns = ((f"{prompt} " * (row % 7), "so"),) if row % 3 else ()
        answered = router(meter=meter).ask(Question(prompt, history=turns), grader=judge(rounds))
        decisions.append(answered.decision)
        prompt_costs.append([answered.decision.request.prompt_cost[model] for model in rounds.zoo.models])
    assert len({value for row in prompt_costs for value in row}) > 50
    settings = router().settings
    played = build(settings.policy, rounds, settings).play(replace(rounds, prompt_cost=np.array(prompt_costs)))
    for t, decision in enumerate(decisions):
        assert_as_played(decision, played, t)
    assert_state_as_played(store, played, settings)
    assert store.check() == []


def test_a_second_decision_gets_the_same_prompt_costs(world):
    router, rounds, prompts, backend, _ = world
    backend.fail, prompt_costs = ("small", "large"), []
    router(meter=RecordedMeter(rounds, 0.5), c=0.0).ask(
        Question(prompts[0]), on_decision=lambda decision: prompt_costs.append(decision.request.prompt_cost)
    )
    assert len(prompt_costs) > 1
    assert prompt_costs[0] == dict.fromkeys(rounds.zoo.models, 0.5 * 0.25 * len(prompts[0]))
    assert all(each == prompt_costs[0] for each in prompt_costs)


@only_bandit
def test_a_router_that_was_prepared_never_waits_for_a_compiler(world):
    router, _, prompts, _, _ = world
    prepared = router()
    prepared.prepare()
    functions = [calls.choose, calls.learn_cost, calls.learn_satisfaction, calls.record_balance]
    before = [list(function.dispatcher.signatures) for function in functions]
    assert all(before)
    for prompt in prompts:
        answered = prepared.ask(Question(prompt))
        prepared.feedback(answered.decision.request.request_id, 0.5)
    assert [function.dispatcher.signatures for function in functions] == before


@only_bandit
def test_the_expected_cost_follows_the_length_of_the_prompt(world):
    """Once a model's costs have followed from its prompts, what `ask --explain` shows does, too."""
    router, rounds, prompts, backend, _ = world
    complete = backend.complete
    backend.complete = lambda model, question, on_text=None, on_thinking=None: replace(
        complete(model, question, on_text), tokens_in=len(question.prompt) + 4
    )

    class ByToken(RecordedMeter):
        cost = TokenMeter.cost

        def per_token(self, model):
            return CostPerToken("J", 2.0, 3.0)

    for prompt in prompts[:60]:
        router(meter=ByToken(rounds)).ask(Question(prompt), model="middle")
    decision = router(meter=ByToken(rounds)).ask(Question(prompts[61])).decision
    expected = decision.weighed.terms["expected cost"]["middle"]
    assert expected == pytest.approx(2.0 * (len(prompts[61]) + 4) + 3.0, rel=0.1)


def fading(values):
    """Return the sum of values, oldest first, of which each counts a fiftieth less once another one comes."""
    return functools.reduce(lambda total, value: total * (1 - 1 / 50) + value, values, 0.0)


def test_tokens_are_estimated_from_each_models_earlier_questions(world):
    """By each model's own tokens per character, of questions without turns; four characters make a token before any."""
    router, rounds, prompts, backend, store = world
    meter = RecordedMeter(rounds, prompt=2.0)
    complete, seen = backend.complete, {}

    def counted(model, question, on_text=None, on_thinking=None):
        tokens = 7 + {"small": 2, "middle": 3, "large": 5}[model.name] * characters(question)
        if not question.history:
            seen.setdefault(model.name, []).append((tokens, characters(question)))
        return replace(complete(model, question, on_text), tokens_in=tokens)

    backend.complete = counted
    for row, prompt in enumerate(prompts[:30]):
        question = Question(prompt, system="Be brief." * (row % 2), history=(("a", "bc"),) * (row % 4 * (row % 2)))
        ratios = {
            name: fading(tokens for tokens, _ in read) / fading(size for _, size in read) for name, read in seen.items()
        }
        named = ("large", "middle", "small")[row % 3]
        answered = router(meter=meter).ask(question, model=named if row % 5 == 0 else None)
        for name in rounds.zoo.models:
            known = answered.decision.request.prompt_cost[name]
            tokens = min(4096, characters(question) * ratios.get(name, 0.25))
            assert known == pytest.approx(2.0 * tokens), (row, name)
        stored = store.requests.find("last").circumstances.characters
        assert stored == (None if question.history else characters(question))
    assert set(seen) == set(rounds.zoo.models)


@only_bandit
def test_the_cost_of_reading_is_learned_from_counted_tokens(world):
    """The rest of a cost is the cost less the price of the counted tokens; the estimate does not matter."""
    router, rounds, prompts, backend, store = world
    complete = backend.complete
    backend.complete = lambda *arguments: replace(complete(*arguments), tokens_in=7)
    answered = router(meter=RecordedMeter(rounds, prompt=2.0)).ask(Question(prompts[0]))
    assert answered.decision.request.prompt_cost[answered.completion.model] == pytest.approx(0.5 * len(prompts[0]))
    learned = store.policy.snapshot("bandit").models[answered.completion.model].cost_arrays["costs"]
    assert learned[:2].tolist() == [1.0, answered.cost - 14.0]


def test_a_model_without_a_known_price_is_queried_all_the_same(world):
    router, rounds, prompts, _, store = world

    class Unreadable(RecordedMeter):
        def per_token(self, model):
            if model.name == "middle":
                raise BackendError("no such file")
            return super().per_token(model)

    for prompt in prompts[:30]:
        answered = router(meter=Unreadable(rounds, 1.0), reference="large").ask(Question(prompt))
        assert set(answered.decision.request.prompt_cost) == {"small", "large"}
    assert store.check() == []


def test_a_margin_raises_the_aim_and_the_queue_but_not_the_promise(world):
    """What is logged, and what the certificate speaks of, is what was aimed at; late feedback counts under that too."""
    router, rounds, prompts, _, store = world
    settings = router(margin=0.05).settings
    assert (settings.alpha, settings.aim) == (0.85, pytest.approx(0.9))
    played = build(settings.policy, rounds, replace(settings, alpha=settings.aim, margin=0.0)).play(rounds)
    for t, prompt in enumerate(prompts[:60]):
        answered = router(margin=0.05).ask(Question(prompt), grader=judge(rounds))
        assert_as_played(answered.decision, played, t)
    assert store.requests.queue() == played.queue_after[59]
    unjudged = router(margin=0.05).ask(Question(prompts[60])).decision.request.request_id
    router(margin=0.0).feedback(unjudged, 0.0)
    assert store.requests.queue() == played.queue_after[59] + settings.aim
    assert store.check() == []


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "delay"), [(1.0, 3), (0.4, 0), (0.5, 7), (0.0, 0), (1.0, 150), (0.1, 40)])
@only_bandit
def test_live_and_replay_agree_on_late_and_missing_feedback(world, rate, delay):
    """Users who judge some of the answers, later."""
    router, rounds, prompts, _, store = world
    settings = router().settings
    arranged = rounds.arranged(seed=5, shuffle=False, feedback_rate=rate, feedback_delay=delay)
    played = build(settings.policy, rounds, settings).play(arranged)
    decisions = []

    def judge_request(t):
        if arranged.has_feedback[t]:
            served = rounds.zoo.index(decisions[t].served)
            router().feedback(decisions[t].request.request_id, rounds.satisfied[t, served])

    for t, prompt in enumerate(prompts):
        decisions.append(router().ask(Question(prompt)).decision)
        assert_as_played(decisions[t], played, t)
        if t >= delay:
            judge_request(t - delay)
    for t in range(150 - arranged.delay, 150):
        judge_request(t)
    assert_state_as_played(store, played, settings)
    assert store.check() == []


class Stored:
    """A policy of which nothing lives on between two calls but what a store holds."""

    def __init__(self, zoo, settings, store):
        self.zoo, self.settings, self.store = zoo, settings, store

    def _policy(self):
        snapshot = self.store.policy.snapshot(self.settings.policy).costs_from("J: recorded")
        return live_build(self.settings.policy)(self.zoo, self.settings, snapshot)

    def _save(self, policy):
        self.store.policy.save(policy.snapshot().with_source("J: recorded"))

    def decide(self, request):
        policy = self._policy()
        decision = policy.decide(request)
        self._save(policy)
        return decision

    def learn(self, decision, feedback):
        policy = self._policy()
        policy.learn(decision, feedback)
        self._save(policy)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "delay"), [(1.0, 0), (1.0, 3), (0.4, 0), (0.5, 7), (0.0, 0), (1.0, 500), (0.1, 40)])
@pytest.mark.parametrize("name", live_names())
def test_a_stored_policy_and_replay_agree_on_late_and_missing_feedback(name, rate, delay, place):
    """Grades of everything that was queried, explored or not, as no person gives them."""
    rounds = learnable(150).arranged(seed=5, shuffle=True, feedback_rate=rate, feedback_delay=delay)
    settings = Settings(policy=name, alpha=0.85, v=0.2, c=0.8, seed=3)
    played = build(name, rounds, settings).play(rounds)
    with Store(place) as store:
        steps = drive(Stored(rounds.zoo, settings, store), rounds, prompts_for(150))
        for t, (decision, _) in enumerate(steps):
            assert_as_played(decision, played, t)
        assert_state_as_played(store, played, settings)


def test_status_export_and_replay_of_the_export_agree(world, tmp_path):
    router, rounds, prompts, _, store = world
    ids = []
    for row, prompt in enumerate(prompts[:60]):
        # The promise changes on the way: every answer counts under the one that it was given under.
        promise = {"alpha": 0.6} if row > 40 else {}
        answered = router(**promise).ask(Question(prompt), grader=judge(rounds) if row % 3 == 0 else None)
        ids.append(answered.decision.request.request_id)
    for row in range(59, 0, -2):  # late, out of order, not for all, some graded by a rule already
        router().feedback(ids[row], 0.25 * (row % 5))
    export_log(store, tmp_path / "log.parquet")
    ledger = Ledger.of(store)
    recording = load(tmp_path / "log.parquet", partial=True)
    result = replay(recording, ["logged"], Settings(alpha=0.85), Conditions()).results[0]
    assert result.requests == ledger.answered == 60
    assert result.attained == pytest.approx(ledger.standing.attained, abs=1e-12)
    assert result.queue_final == ledger.standing.queue == store.requests.queue()
    assert result.certificate == pytest.approx(ledger.standing.certificate, abs=1e-12)
    assert result.total_cost == pytest.approx(ledger.cost_total)
    assert result.cost_vs_costliest == pytest.approx(ledger.cost_vs_costliest)
    assert result.explored == pytest.approx(ledger.explored / 60)
    shares = {model: share for model, share in result.model_share.items() if share}
    assert shares == pytest.approx(dict(ledger.model_share))


def changed(before, after):
    """The models of which something else is believed than before.

    Counts that fade with time, and the times at which a model served, are left out.
    """
    left_out = ("good", "answers", "served_at")

    def part(model):
        return {name: array.tobytes() for name, array in model.arrays.items() if name not in left_out}

    return {name for name in after.models if part(after.models[name]) != part(before.models[name])}


def test_without_a_grader_it_never_explores_and_learns_from_the_served_answer(world):
    router, rounds, prompts, backend, store = world
    policy = router().settings.policy
    for row, prompt in enumerate(prompts[:40]):
        answered = router(c=10.0).ask(Question(prompt))
        assert (answered.decision.explored, answered.decision.p_explore, len(answered.decision.queried)) == (
            False,
            0.0,
            1,
        )
        before = store.policy.snapshot(policy)
        router(c=10.0).feedback("last", float(row % 2))
        assert changed(before, store.policy.snapshot(policy)) == {answered.decision.served}
    assert len(backend.queried) == 40
    assert set(backend.queried) == set(rounds.zoo.models)


@only_messplus
def test_exploring_queries_and_grades_all_and_serves_the_reference(world):
    router, rounds, prompts, backend, store = world
    shown = []
    answered = router(c=10.0).ask(Question(prompts[0]), grader=judge(rounds), on_text=shown.append)
    assert answered.decision.explored
    assert answered.decision.served == "large"
    assert backend.queried == ["large", "middle", "small"]
    assert "".join(shown) == "0/large"
    assert answered.cost == pytest.approx(rounds.cost[0].sum())
    logged = store.requests.find("last")
    assert {model: outcome.satisfied for model, outcome in logged.answers.items()} == dict(
        zip(rounds.zoo.models, rounds.satisfied[0], strict=True)
    )


def test_a_model_of_the_users_choice_is_logged_as_forced(world):
    """The router does not count it as its own decision, but it learns the cost and the grade, and the promise holds."""
    router, rounds, prompts, _, store = world
    router().ask(Question(prompts[1]))
    before = store.policy.snapshot(router().settings.policy)
    answered = router().ask(Question(prompts[0]), model="middle", grader=judge(rounds))
    assert (answered.forced, answered.decision.served, answered.decision.queried) == (True, "middle", ("middle",))
    logged = store.requests.find("last")
    assert (logged.circumstances.forced, logged.propensity) == (True, None)
    after = store.policy.snapshot(router().settings.policy)
    assert after.models["middle"].cost_count == before.models["middle"].cost_count + 1
    assert (after.decided, after.balance) == (before.decided, rounds.satisfied[0, 1] - 0.85)
    assert after.queue == store.requests.queue()
    assert changed(before, after) == {"middle"}
    with pytest.raises(UnknownNameError, match="did you mean 'middle'"):
        router().ask(Question(prompts[0]), model="midle")


@only_messplus
def test_a_failed_model_has_no_answer_and_no_feedback(world, tmp_path):
    router, rounds, prompts, backend, store = world
    backend.fail = ("small",)
    answered = router(c=10.0).ask(Question(prompts[0]), grader=judge(rounds))
    assert list(answered.failures) == ["small"]
    assert set(store.requests.find("last").answers) == {"large", "middle"}
    export_log(store, (tmp_path / "log.parquet"))
    recording = load((tmp_path / "log.parquet"), partial=True)
    assert replay(recording, ["logged"], Settings(), Conditions()).results[0].explored == 1.0
    assert Ledger.of(store).explored == 1
    backend.fail = ("large", "middle", "small")
    with pytest.raises(BackendError, match="out of order"):
        router().ask(Question(prompts[1]))
    ledger = Ledger.of(store)
    assert (ledger.answered, ledger.unanswered) == (1, 1)
    unanswered = store.requests.newest(1)[0].decision.request.request_id
    with pytest.raises(UsageError, match="has no answer to give feedback on"):
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


def test_an_answer_is_not_stored_if_the_state_was_reset_meanwhile(world):
    """The user has seen the answer, but it is not stored."""
    router, _, prompts, _, store = world
    shown = []

    def listen(text):
        shown.append(text)
        store.reset()

    with pytest.raises(
        StoreError, match="was reset or pruned while the model answered, so the answer is not stored; ask again"
    ):
        router().ask(Question(prompts[0]), on_text=listen)
    assert len(shown) == 1
    assert (store.check(), store.requests.newest(1), store.policy.snapshot().decided) == ([], [], 0)


@pytest.mark.parametrize(("fails", "asks"), [(True, 1), (False, 3)])
def test_a_reset_before_another_model_is_asked_says_so(world, fails, asks):
    router, _, prompts, backend, store = world

    def reset(decision):
        backend.fail = (decision.served,) if fails else ()
        store.reset()

    asking = router(asks=asks) if router().settings.policy == "bandit" else router()
    with pytest.raises(StoreError, match="was reset or pruned while the model answered, so the answer is not stored"):
        asking.ask(Question(prompts[0]), on_decision=reset)
    assert (store.check(), store.requests.count()) == ([], 0)


def test_a_grade_corrects_feedback_that_came_while_the_answer_was_graded(world):
    router, _, prompts, _, store = world

    def grade(_):
        router().feedback("last", 0.0)
        return 1.0

    router().ask(Question(prompts[0]), grader=grade)
    assert store.requests.newest(1)[0].satisfied == 1.0
    assert store.policy.snapshot().queue == store.requests.queue() == 0.0
    assert store.check() == []


def test_what_no_model_can_serve_undoes_nothing(world):
    """After what is undone, the whole policy is read again."""
    router, _, prompts, _, store = world
    router().ask(Question(prompts[0]))
    with store.transaction():
        before = store.policy.stamp
    tools = {"tools": [{"type": "function"}]}
    with pytest.raises(UnfitError):
        router().ask(Question("one", chat=Chat(({"role": "user", "content": "one"},), tools)))
    with store.transaction():
        assert store.policy.stamp == before
    assert store.requests.count() == 1


@pytest.mark.parametrize("length", [1, 100, 2000])
def test_nobody_waits_while_the_files_of_models_are_read(world, monkeypatch, length):
    router, _, prompts, backend, store = world
    prompt = prompts[0] + " more" * length
    backend.row_of[prompt] = 0
    waits = []

    def read(path):
        waits.append(store.database.inside)
        return SimpleNamespace(context_length=4096, active_parameters=1_000_000)

    for module in ("tokens", "prompt_cost"):
        monkeypatch.setattr(f"messctl.costs.{module}.read_header", read)
    asking = router(meter=FlopsMeter(1e9), reference="middle")
    for _ in range(2):
        asking.ask(Question(prompt))
    assert set(waits) == {False}
    assert len(waits) == (6 if length == 2000 else 3)


def test_a_correction_recomputes_queue_and_balance(world):
    router, _, prompts, _, store = world
    policy = router().settings.policy
    answered = [router().ask(Question(prompt)).decision.request.request_id for prompt in prompts[:3]]
    for request_id in answered:
        router().feedback(request_id, 0.0)
    assert store.policy.snapshot().queue == pytest.approx(3 * 0.85)
    assert store.policy.snapshot().balance == pytest.approx(-3 * 0.85)
    served, before = store.requests.find(answered[0]).decision.served, store.policy.snapshot(policy)
    _, corrected = router().feedback(answered[0], 1.0)
    after = store.policy.snapshot(policy)
    assert corrected == 0.0
    assert after.queue == store.requests.queue() == pytest.approx(2 * 0.85)
    assert after.balance == store.requests.balance() == pytest.approx(1 - 3 * 0.85)
    assert changed(before, after) == {served}
    router().feedback(answered[0], 1.0)  # the same again is nothing new
    assert changed(after, store.policy.snapshot(policy)) == set()
    assert store.policy.snapshot().balance == after.balance


def counted(store):
    """The bandit's counts of its own decisions: all, those with feedback, the latest of these, and how late it came."""
    shared = store.policy.snapshot("bandit").shared
    return (*shared["counts"].tolist()[:3], shared["lateness"].tolist()[0])


@only_bandit
def test_a_correction_does_not_count_as_new_feedback(world):
    router, _, prompts, _, store = world
    for prompt in prompts[:10]:
        router().ask(Question(prompt))
    first = store.requests.newest(10)[0].decision.request.request_id
    for value in (0.0, 0.5, 1.0, 0.5):
        router().feedback(first, value)
        assert counted(store) == (10, 1, 1, 9.0)
    assert store.policy.snapshot("bandit").balance == pytest.approx(0.5 - 0.85)


@only_bandit
def test_feedback_on_models_the_user_chose_does_not_change_the_feedback_rate(world):
    router, _, prompts, _, store = world
    for row, prompt in enumerate(prompts[:90]):
        if router().ask(Question(prompt), model=None if row % 3 else "large").forced:
            router().feedback("last", 1.0)
    assert counted(store) == (60, 0, 0, -1.0)
    assert store.policy.snapshot("bandit").balance == pytest.approx(30 * 0.15)
    routed = [each.decision.served for each in store.requests if not each.circumstances.forced]
    assert all(routed.count(model) <= 9 for model in router().zoo.models if model != router().zoo.reference)
    assert [each.decision.request_number for each in store.requests][:6] == [0, 1, 2, 0, 3, 4]


@only_bandit
def test_late_feedback_counts_for_its_own_decision(world):
    """Whichever policy decided in between."""
    router, _, prompts, _, store = world
    ids = []
    for policy, count in (("bandit", 10), ("messplus", 20), ("bandit", 5)):
        ids += [
            router(policy=policy).ask(Question(prompts[len(ids)])).decision.request.request_id for _ in range(count)
        ]
    assert counted(store)[0] == 15
    router().feedback(ids[25], 1.0)  # messplus's
    assert counted(store) == (15, 0, 0, -1.0)
    router().feedback(ids[9], 1.0)  # its own tenth
    assert counted(store) == (15, 1, 10, 5.0)
    router().feedback(ids[31], 1.0)  # its own twelfth
    assert counted(store)[:3] == (15, 2, 12)


def test_only_costs_are_forgotten_if_they_come_from_another_source(world):
    router, rounds, prompts, backend, store = world
    policy = router().settings.policy
    for prompt in prompts[:20]:
        router().ask(Question(prompt), grader=judge(rounds))
    before = store.policy.snapshot(policy)

    class Dollars(RecordedMeter):
        unit = "USD"

    dollars = Dollars(rounds)
    answered = router(meter=dollars, c=0.0).ask(Question(prompts[30]))
    assert answered.decision.mean_cost == {}
    if policy == "bandit":
        assert set(answered.decision.weighed.terms["expected cost"].values()) == {0.0}
    after = store.policy.snapshot(policy)
    assert sum(model.cost_count for model in after.models.values()) == 1
    assert changed(before, after) == set()
    assert (after.queue, after.balance) == (before.queue, before.balance)
    # What a fresh policy would know of the same costs is what this one knows.
    with Store(Path(":memory:")) as other:
        models = {name: ModelSpec(name, Path(name)) for name in rounds.zoo.models}
        fresh = Router(models, replace(router().settings, c=0.0), backend, dollars, other)
        fresh.ask(Question(prompts[30]), model=answered.decision.served)
        served = answered.decision.served
        expected = other.policy.snapshot(policy)
    known = after.models[served].cost_arrays
    for name in known:
        assert known[name].tobytes() == expected.models[served].cost_arrays[name].tobytes(), name


@only_messplus
def test_the_served_answer_is_stored_before_the_others_are_queried(world):
    """An interruption after the served answer loses none of it."""
    router, rounds, prompts, backend, store = world

    class Stop(KeyboardInterrupt):
        pass

    def complete(model, question, on_text=None, on_thinking=None):
        if model.name == "small":
            raise Stop
        return Recorded.complete(backend, model, question, on_text)

    backend.complete = complete
    with pytest.raises(Stop):
        router(c=10.0).ask(Question(prompts[0]), grader=judge(rounds))
    assert set(store.requests.find("last").answers) == {"large"}
    router().feedback("last", 1.0)
    assert store.check() == []


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_feedback_out_of_range_is_refused(world, value):
    router, _, prompts, _, _ = world
    router().ask(Question(prompts[0]))
    with pytest.raises(UsageError, match="it must lie in 0..1"):
        router().feedback("last", value)


class WithNew(RecordedMeter):
    """Knows one model more than was recorded, the dearest."""

    def per_token(self, model):
        return CostPerToken("J", 1.0, 100.0) if model.name == "new" else super().per_token(model)

    def cost(self, model, completion):
        return 50.0 if model.name == "new" else super().cost(model, completion)


def part_of(snapshot, model):
    known = snapshot.models[model]
    arrays = {name: array.tobytes() for name, array in (*known.arrays.items(), *known.cost_arrays.items())}
    return known.mean_cost, known.cost_count, arrays


def test_models_may_leave_the_zoo_and_come_back(world):
    """What was learned of a model that left is still there if it returns; a new model starts fresh."""
    router, rounds, prompts, _, store = world
    settings = router().settings
    for prompt in prompts[:30]:
        router().ask(Question(prompt), grader=judge(rounds))
    before = store.policy.snapshot(settings.policy)
    gone = store.requests.newest(1)[0]
    others = {name: ModelSpec(name, Path(name)) for name in rounds.zoo.models if name != gone.decision.served}
    others["new"] = ModelSpec("new", Path("new"))
    changed_zoo = {"models": others, "meter": WithNew(rounds), "c": 0.0, "reference": "new"}
    answered = router(**changed_zoo).ask(Question(prompts[40]))
    assert set(answered.decision.predicted) == set(others)
    # A newcomer is thought of as if all were new to it; by the bandit, as one of this zoo.
    if settings.policy == "messplus":
        assert answered.decision.predicted["new"] == 0.5
    assert "new" not in answered.decision.mean_cost
    router(**changed_zoo).feedback(answered.decision.request.request_id, 1.0)
    # Feedback on a model that has left counts toward the promise; the policy learns nothing from it.
    router(**changed_zoo).feedback(gone.decision.request.request_id, 0.5)
    after = store.policy.snapshot(settings.policy)
    assert set(after.models) == {*rounds.zoo.models, "new"}
    assert part_of(after, gone.decision.served) == part_of(before, gone.decision.served)
    assert (after.queue, after.decided) == (store.requests.queue(), 31)
    assert after.balance == pytest.approx(store.requests.balance(), abs=1e-12)
    assert store.check() == []
    again = live_build(settings.policy)(rounds.zoo, settings, store.policy.snapshot(settings.policy)).snapshot()
    known = again.models[gone.decision.served], before.models[gone.decision.served]
    assert len({(model.mean_cost, model.cost_count) for model in known}) == 1
    assert all(known[0].arrays[name].tobytes() == array.tobytes() for name, array in known[1].arrays.items())
    for prompt in prompts[50:60]:
        decision = router().ask(Question(prompt), grader=judge(rounds)).decision
        assert set(decision.predicted) == set(rounds.zoo.models)
    assert store.check() == []


@only_bandit
def test_recent_prompts_stay_if_models_leave_the_zoo(world):
    """λ is solved on prompts alone, on which any model can be weighed anew."""
    from messctl.policies.bandit.state import TALLY

    router, rounds, prompts, _, store = world
    stored = TALLY.names.index("prompts")

    def recalled():
        return int(store.policy.snapshot("bandit").shared["counts"][stored])

    for prompt in prompts[:10]:
        router().ask(Question(prompt), grader=judge(rounds))
    assert recalled() == 10
    two = {name: ModelSpec(name, Path(name)) for name in rounds.zoo.models[:2]}
    router(models=two).ask(Question(prompts[10]))
    router().ask(Question(prompts[11]))
    assert recalled() == 12


def test_an_answer_is_stored_also_if_the_sums_of_feedback_are_damaged_meanwhile(world):
    router, rounds, prompts, backend, store = world
    router().ask(Question(prompts[0]), grader=judge(rounds))
    complete = backend.complete

    def complete_with_damage(*arguments):
        with store.transaction():
            store.database.execute("UPDATE feedback_sums SET satisfied = 99.0")
        return complete(*arguments)

    backend.complete = complete_with_damage
    with pytest.raises(StoreError, match="damaged"):
        router().ask(Question(prompts[1]))
    assert store.requests.find("last").decision.request.prompt == prompts[1]


def test_the_policy_may_be_changed_and_changed_back(world):
    """Queue, balance, costs and log go on; what each policy has learned waits for its next turn."""
    router, rounds, prompts, _, store = world
    mine = router().settings.policy
    (other,) = set(live_names()) - {mine}
    for prompt in prompts[:20]:
        router().ask(Question(prompt), grader=judge(rounds))
    before, others = store.policy.snapshot(mine), store.policy.snapshot(other)
    assert (others.decided, others.queue, others.balance) == (20, before.queue, before.balance)
    assert {name: model.mean_cost for name, model in others.models.items()} == {
        name: model.mean_cost for name, model in before.models.items()
    }
    assert not any(model.arrays or model.cost_arrays for model in others.models.values())
    for row, prompt in enumerate(prompts[20:40]):
        decision = router(policy=other).ask(Question(prompt), grader=judge(rounds)).decision
        assert decision.request_number == 21 + row
        assert store.check() == []
    assert set(decision.mean_cost) >= {name for name, model in before.models.items() if model.cost_count}
    after = store.policy.snapshot(mine)
    assert (after.decided, after.queue, after.balance) == (
        40,
        store.requests.queue(),
        pytest.approx(store.requests.balance()),
    )
    assert changed(before, after) == set()
    assert all(part_of(after, name)[2] == part_of(before, name)[2] for name in rounds.zoo.models)
    assert router().ask(Question(prompts[40])).decision.request_number == 41
    assert {each.circumstances.policy for each in store.requests} == {mine, other}


@only_bandit
def test_costs_that_changed_while_another_policy_served_are_forgotten(world):
    router, rounds, prompts, _, store = world

    class Dollars(RecordedMeter):
        unit = "USD"

    for prompt in prompts[:20]:
        router().ask(Question(prompt), grader=judge(rounds))
    router(policy="messplus", meter=Dollars(rounds)).ask(Question(prompts[20]))
    known = store.policy.snapshot("bandit").costs_from("USD: recorded")
    assert known.models["small"].arrays
    assert not any(model.cost_arrays for model in known.models.values())
    assert not known.cost_shared


def test_a_policy_for_replay_alone_is_refused_live(world):
    router = world[0]
    with pytest.raises(
        UsageError, match="policy 'hindsight' cannot serve live; use 'messplus' or 'bandit' or 'always:<model>'"
    ):
        router(policy="hindsight")
    with pytest.raises(UnknownNameError, match="did you mean 'bandit'"):
        router(policy="bandi")
