"""Warm starts: a router that has learned from a trace routes well from its first request on."""

import json
from pathlib import Path

import numpy as np
import pytest
from live_making import STATED, assert_one_line, assert_sound, typed
from making import write_trace

from messctl.backends import Scripted
from messctl.cli import run
from messctl.costs.meter import TokenMeter
from messctl.errors import TraceError, UsageError
from messctl.learning.snapshot import Snapshot
from messctl.live.router import Router
from messctl.live.warm_start import learn_from
from messctl.policies import live_build, live_names
from messctl.records import Completion, Feedback, Question, Request
from messctl.state.export import export_log
from messctl.state.store import Store
from messctl.trace import Outcome, Row, TraceFile, TraceMetadata, TraceWriter
from messctl.zoo import CostPerToken, ModelSpec, Settings, Zoo

MODELS = ("large", "middle", "small")
ZOO = Zoo.of(MODELS, "large")
every_policy = pytest.mark.parametrize("name", live_names())


def world(n, seed=0):
    """Prompts, satisfaction and cost: proofs are hard, and most so for the small model."""
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.5
    prompts = [f"{'prove theorem' if one else 'name a river'} {row}" for row, one in enumerate(hard)]
    chance = np.where(hard[:, None], [0.9, 0.6, 0.2], [0.95, 0.9, 0.9])
    return (
        prompts,
        (rng.random((n, 3)) < chance).astype(float),
        np.array([20.0, 4.0, 1.0]) * rng.lognormal(0, 0.2, (n, 1)),
    )


def traced(path, n=1200, seed=0, models=MODELS, unit="J", meter="recorded"):
    """A trace of that world; `models` may lack some of it, and have others, which never satisfy."""
    prompts, satisfied, cost = world(n, seed)
    with TraceWriter(path, TraceMetadata(models=models, cost_unit=unit, meter=meter)) as writer:
        for row in range(n):
            outcomes = {model: Outcome(0.0, 1000.0) for model in models}
            for index, model in enumerate(MODELS):
                if model in outcomes:
                    outcomes[model] = Outcome(satisfied[row, index], cost[row, index])
            writer.append(Row(f"r{row}", prompts[row], outcomes))
    return TraceFile(path)


def first_decisions(policy, n=60, seed=1):
    """Mean satisfaction and cost of the first decisions in that world, with feedback at once."""
    prompts, satisfied, cost = world(n, seed)
    got = []
    for row in range(n):
        decision = policy.decide(Request(f"q{row}", prompts[row], gradable=False))
        index = MODELS.index(decision.served)
        got.append((satisfied[row, index], cost[row, index]))
        costs, satisfaction = ({decision.served: value} for value in got[-1][::-1])
        policy.learn(decision, Feedback(costs=costs, satisfied=satisfaction))
    return np.mean(got, axis=0)


@pytest.mark.slow
@every_policy
def test_the_first_decisions_after_a_warm_start_route_well(name, tmp_path):
    """Over the first requests of several worlds: nearer the promise at once, and by the bandit cheaper."""
    settings = Settings(policy=name, alpha=0.85)
    learned = learn_from(traced(tmp_path / "t"), ZOO, settings)
    assert (learned.requests, learned.left_out, learned.models) == (1200, 0, MODELS)

    def first(snapshot, n, worlds=16):
        runs = [first_decisions(live_build(name)(ZOO, settings, snapshot), n, seed) for seed in range(1, worlds + 1)]
        return np.mean(runs, axis=0)

    assert first(learned.snapshot, 20, 96)[0] > first(Snapshot(), 20, 96)[0] + 0.01
    (warm, warm_cost), (_, cold_cost) = first(learned.snapshot, 60), first(Snapshot(), 60)
    assert warm > 0.85 - 0.03
    assert warm_cost < (0.8 if name == "bandit" else 1.1) * cold_cost


@every_policy
def test_a_warm_policy_knows_which_prompts_are_hard_for_a_model(name, tmp_path):
    settings = Settings(policy=name, alpha=0.85)
    learned = learn_from(traced(tmp_path / "t"), ZOO, settings).snapshot
    policy = live_build(name)(ZOO, settings, learned)
    easy, hard = (policy.decide(Request("q", prompt)) for prompt in ("name a river", "prove theorem"))
    assert easy.predicted["small"] > hard.predicted["small"] + 0.3
    assert hard.predicted["large"] > hard.predicted["small"] + 0.2
    assert (easy.request_number, easy.queue) == (1, 0.0)


@every_policy
def test_a_warm_start_brings_no_debt(name, tmp_path):
    saved = learn_from(traced(tmp_path / "t", n=50), ZOO, Settings(policy=name, alpha=1.0)).snapshot
    assert (saved.decided, saved.queue, saved.balance, saved.policy) == (0, 0.0, 0.0, name)
    assert all(model.cost_count for model in saved.models.values())


@every_policy
def test_models_are_matched_by_name(name, tmp_path):
    """What only the trace has is left out; what only the zoo has is not in the snapshot, the reference included."""
    settings = Settings(policy=name, alpha=0.85, c=1.0)
    trace = traced(tmp_path / "t", n=300, models=("a stranger", "middle", "small"))
    learned = learn_from(trace, ZOO, settings)
    assert learned.models == ("middle", "small")
    assert set(learned.snapshot.models) == {"middle", "small"}
    assert {model.mean_cost < 10 for model in learned.snapshot.models.values()} == {True}
    decision = live_build(name)(ZOO, settings, learned.snapshot).decide(Request("q", "name a river"))
    assert set(decision.predicted) == set(MODELS)
    with pytest.raises(UsageError, match="has none of the zoo's models; it has a stranger, .*, the zoo x, y"):
        learn_from(trace, Zoo.of(["x", "y"], "x"), settings)


class Told(TokenMeter):
    """Answers with the prompt's row; a meter too, at the cost of the learnable world."""

    unit, source = "J", "recorded"

    def quality(self, model):
        return "stated"

    def per_token(self, model):
        return CostPerToken("J", 1.0, {"small": 1.0, "middle": 4.0, "large": 20.0}[model.name])

    def cost(self, model, completion):
        return {"small": 1.0, "middle": 4.0, "large": 20.0}[model.name]

    def complete(self, model, question, on_text=None, on_thinking=None):
        return Completion(model.name, "yes", 1, 1, 0.1, 0.0, "stop")

    def close(self):
        pass


def router(store, name, **settings):
    models = {model: ModelSpec(model, Path(model)) for model in MODELS}
    return Router(models, Settings(policy=name, alpha=0.85, **settings), Told(), Told(), store)


@every_policy
@pytest.mark.parametrize(("unit", "meter"), [("J", "recorded"), ("USD", "recorded"), ("J", "another")])
def test_a_router_starts_from_a_warm_start(name, unit, meter, tmp_path, place):
    """Costs of another source are learned anew, all else is there."""
    with Store(place) as store:
        routing = router(store, name)
        learned = learn_from(traced(tmp_path / "t", n=300, unit=unit, meter=meter), routing.zoo, routing.settings)
        routing.start_from(learned.snapshot)
        assert store.check() == []
        answered = routing.ask(Question("name a river in france"))
        assert (answered.decision.request_number, answered.decision.queue) == (1, 0.0)
        assert answered.decision.predicted == predicted(name, learned.snapshot)
        same_source = (unit, meter) == ("J", "recorded")
        assert set(answered.decision.mean_cost) == (set(MODELS) if same_source else set())
        with pytest.raises(UsageError, match="has requests, and has learned from them; give --overwrite"):
            routing.start_from(learned.snapshot)


def predicted(name, snapshot):
    decided = live_build(name)(ZOO, Settings(policy=name, alpha=0.85), snapshot).decide(
        Request("q", "name a river in france", gradable=False)
    )
    return decided.predicted


@every_policy
def test_overwriting_keeps_requests_and_debt(name, tmp_path, place):
    with Store(place) as store:
        routing = router(store, name)
        for row in range(10):
            routing.ask(Question(f"name a river {row}"))
            routing.feedback("last", 0.0)
        before = store.policy.snapshot(name)
        learned = learn_from(traced(tmp_path / "t", n=200, unit="USD"), routing.zoo, routing.settings).snapshot
        routing.start_from(learned, overwrite=True)
        after = store.policy.snapshot(name)
        assert (after.decided, after.queue, after.balance) == (10, before.queue, before.balance)
        assert after.queue > 8
        # Costs in dollars are of no use here; those in joules are still known.
        assert {model: known.mean_cost for model, known in after.models.items()} == {
            model: before.models[model].mean_cost for model in MODELS
        }
        decision = routing.ask(Question("name a river in france")).decision
        assert decision.predicted == pytest.approx(predicted(name, learned), abs=1e-12)
        assert store.check() == []


def test_after_overwriting_pending_feedback_counts_at_once(tmp_path, place):
    """However long the trace was: an answer with pending feedback counts as its model's mean, less a doubt."""
    with Store(place) as store:
        routing = router(store, "bandit")
        for row in range(10):
            routing.ask(Question(f"name a river {row}"))
            routing.feedback("last", 0.0)
        learned = learn_from(traced(tmp_path / "t", n=200), routing.zoo, routing.settings).snapshot
        routing.start_from(learned, overwrite=True)
        balances = [routing.ask(Question(f"name a river {row}")).decision.weighed.figures["balance"] for row in (1, 2)]
        assert balances[0] == pytest.approx(store.policy.snapshot("bandit").balance)
        assert balances[1] != pytest.approx(balances[0], abs=0.01)
        assert store.policy.snapshot("bandit").shared["counts"].tolist()[:3] == [2, 0, 0]


@every_policy
def test_a_policy_learns_the_served_answers_of_an_exported_log(name, tmp_path, place):
    """An exported log warms another state, whatever its policy would have served."""
    with Store(place) as store:
        routing = router(store, name)
        for row in range(30):
            routing.ask(Question(f"prove {row}"), model="small")
            if row % 3:
                routing.feedback("last", 0.0)
        export_log(store, tmp_path / "log")
    learned = learn_from(TraceFile(tmp_path / "log"), ZOO, Settings(policy=name, alpha=0.85))
    assert (learned.requests, learned.left_out, learned.models) == (30, 0, ("small",))
    assert learned.snapshot.models["small"].cost_count == 30
    fresh = live_build(name)(ZOO, Settings(policy=name, alpha=0.85), Snapshot()).decide(Request("q", "prove"))
    warm = live_build(name)(ZOO, Settings(policy=name, alpha=0.85), learned.snapshot).decide(Request("q", "prove"))
    assert warm.predicted["small"] < fresh.predicted["small"] - 0.2


@every_policy
def test_rows_without_a_usable_outcome_are_left_out(name, tmp_path):
    rows = [{"a": (1.0, 1.0), "b": (0.0, 2.0)}, {"a": (1.0, None), "b": (0.0, 2.0)}, {"a": (None, 1.0)}]
    learned = learn_from(TraceFile(write_trace(tmp_path / "t", rows)), Zoo.of("ab", "b"), Settings(policy=name))
    assert (learned.requests, learned.left_out) == (1, 2)
    with pytest.raises(TraceError, match="no row has an outcome of every model"):
        learn_from(TraceFile(write_trace(tmp_path / "none", rows[1:])), Zoo.of("ab", "b"), Settings(policy=name))
    with pytest.raises(TraceError, match="request ids must be unique"):
        learn_from(
            TraceFile(write_trace(tmp_path / "twice", rows[:1] * 2, ["r", "r"])),
            Zoo.of("ab", "b"),
            Settings(policy=name),
        )


@pytest.fixture
def typed_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESSCTL_STATE", str(tmp_path / "state"))
    typed(monkeypatch)
    (tmp_path / "zoo.yaml").write_text(STATED)
    monkeypatch.setattr("messctl.backends.LlamaCpp", lambda **_: Scripted({"cheap[red]": "no", "dear": "yes"}))
    rows = [{"cheap[red]": (float(row % 2), 1.0), "dear": (1.0, 9.0)} for row in range(40)]
    write_trace(tmp_path / "t.parquet", rows, models=("cheap[red]", "dear"))
    return tmp_path


def test_the_warm_command(typed_here, policy, capsys):
    assert run(["warm", "t.parquet"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"{policy} learned from 40 requests: cheap[red], dear",
        "the trace's costs are J: unknown, unlike here; costs are learned anew",
    ]
    assert err == ""
    assert run(["warm", "t.parquet", "--json"]) == 0  # there are no requests yet
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "version": 1, "trace": "t.parquet", "policy": policy, "requests": 40, "left_out": 0,
        "models": ["cheap[red]", "dear"], "new_models": [], "costs_kept": False,
    }  # fmt: skip
    assert err == ""
    assert run(["ask", "prompt 7", "--json", "--expect", "yes"]) == 0
    capsys.readouterr()
    error = assert_one_line(run(["warm", "t.parquet"]), *capsys.readouterr())
    assert "state: has requests, and has learned from them; give --overwrite" in error
    assert run(["warm", "t.parquet", "--overwrite"]) == 0
    assert_sound(typed_here / "state", requests=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.parquet"], "no such file"),
        (["zoo.yaml"], "not a Parquet file"),
        (["other.parquet"], "has none of the zoo's models; it has a, b, the zoo cheap[red], dear"),
        ([], "Missing argument"),
    ],
)
def test_an_unusable_trace_is_refused(arguments, message, typed_here, capsys):
    write_trace(typed_here / "other.parquet", [{"a": (1.0, 1.0), "b": (0.0, 2.0)}])
    assert message in assert_one_line(run(["warm", *arguments]), *capsys.readouterr())
