"""The costs of loads, which request bears them, and when a load is worth its cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messctl.backends import Backend, Dispatch, LatestTurns, LlamaCpp, Scripted
from messctl.backends.base import OnText, resident
from messctl.backends.residency import Memory
from messctl.costs.load_costs import Loads
from messctl.costs.meter import Meter
from messctl.costs.metered_backend import MeteredBackend, cost_of
from messctl.costs.seconds import SecondsMeter
from messctl.costs.tokens import FlopsMeter, StatedMeter
from messctl.errors import BackendError
from messctl.gguf import read_header
from messctl.live.router import Answered, Router
from messctl.policies import live_names
from messctl.records import SURCHARGE, Completion, Decision, Question, Request, Weighed
from messctl.state.store import Store
from messctl.zoo import PACKAGED_FILE, CostPerToken, ModelSpec, Settings, load_zoo

LOAD = 20.0
ALPHA = 0.8


def decided(served: str, surcharge: dict[str, float], unit: float = 1.0, **free: float) -> Decision:
    """Return a decision that weighed `free` and the surcharge, in another unit than that of costs."""
    terms = {"free": free, SURCHARGE: {model: surcharge.get(model, 0.0) / unit for model in free}}
    return Decision(Request("r", "p", surcharge=surcharge), 1, served, (served,), weighed=Weighed(terms, {}))


def spec(name: str, load: float | None = None) -> ModelSpec:
    return ModelSpec(name, Path(name), cost=CostPerToken("J", 1, 1, load=load))


@pytest.mark.parametrize("unit", [1.0, 0.01, 50.0])
def test_a_model_is_loaded_once_the_regret_reaches_the_cost_of_a_load(unit: float) -> None:
    loads, surcharges, cold = Loads(), [], spec("cold", 10.0)
    while extra := dict(loads.surcharge([cold])):
        surcharges.append(extra["cold"])
        loads.add_regret(decided("warm", extra, unit, cold=0.0, warm=2.0 / unit))
        loads.observe(spec("warm"), 0.0, 0.0)
    assert surcharges == pytest.approx([10.0, 8.0, 6.0, 4.0, 2.0])
    loads.observe(cold, 10.0, 1.0)
    assert loads.surcharge([cold]) == {"cold": 10.0}


def test_an_unstated_load_cost_is_the_mean_of_measured_loads() -> None:
    loads, plain = Loads(), spec("a")
    assert loads.surcharge([plain, spec("b", 3.0)]) == {"b": 3.0}
    for cost, load_s in ((4.0, 0.5), (0.0, 0.0), (6.0, 0.5)):
        loads.observe(plain, cost, load_s)
    assert loads.surcharge([plain, spec("b", 3.0)]) == {"a": 5.0, "b": 3.0}


@pytest.mark.parametrize(
    "decision",
    [
        replace(decided("warm", {"cold": 9.0}, cold=0.0, warm=2.0), explored=True),
        replace(decided("warm", {"cold": 9.0}, cold=0.0, warm=2.0), weighed=None),
        decided("third", {"cold": 9.0}, cold=0.0, warm=2.0, third=5.0),
        decided("warm", {"cold": 9.0}, cold=2.0, warm=0.0),
        replace(
            decided("warm", {"cold": 9.0}, cold=0.0, warm=2.0),
            request=Request("r", "p", surcharge={"cold": 9.0}, excluded=frozenset({"cold"})),
        ),
    ],
    ids=["explored", "of the user's choice", "a trial", "not wanted", "out of order"],
)
def test_no_regret_if_the_loss_has_another_cause(decision: Decision) -> None:
    loads = Loads()
    loads.add_regret(decision)
    assert loads.surcharge([spec("cold", 9.0)]) == {"cold": 9.0}


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 30)), max_size=60), st.floats(0.1, 20))
def test_cost_is_at_most_twice_the_best_in_hindsight(costs: list[tuple[float, float]], load: float) -> None:
    """Of two models, one is loaded; the other is loaded at most once. The best in hindsight loads it at once or never.

    If the loaded model is better for a request, both strategies use it. The difference is that of rent and buy alone.
    """
    loads, spent, cold = Loads(), 0.0, True
    for warm_cost, cold_cost in costs:
        extra = dict(loads.surcharge([spec("cold", load)])) if cold else {}
        total = {"warm": warm_cost, "cold": cold_cost + extra.get("cold", 0.0)}
        served = min(sorted(total), key=lambda model: total[model])
        loads.add_regret(decided(served, extra, warm=warm_cost, cold=cold_cost))
        loads.observe(spec(served), 0.0, 0.0)
        spent += (cold_cost + cold * load) if served == "cold" else warm_cost
        cold = cold and served == "warm"
    least = sum(map(min, costs))
    rented = sum(warm for warm, _ in costs)
    assert spent - least <= 2 * min(rented - least, load) + 1e-6


# --- the costs of loads ------------------------------------------------------------------------------------------


class Loading:
    """A backend that loads its model for two seconds on every other request."""

    def __init__(self) -> None:
        self.load_s = 2.0

    def complete(
        self,
        model: ModelSpec,
        question: Question,
        on_text: OnText | None = None,
        on_thinking: OnText | None = None,
    ) -> Completion:
        self.load_s = 2.0 - self.load_s
        return Completion(model.name, "yes", 3, 2, 1.0, self.load_s, "stop")

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("meter", "loads", "cost", "load"),
    [
        (StatedMeter("USD"), Loads(), CostPerToken("USD", 1, 2, load=5.0), 5.0),
        (StatedMeter("USD"), Loads(30.0), CostPerToken("USD", 1, 2), 0.0),
        (FlopsMeter(2.0), Loads(30.0), None, 60.0),
        (FlopsMeter(2.0), Loads(), None, 0.0),
        (SecondsMeter(), Loads(), None, 2.0),
    ],
)
def test_the_cost_of_a_load_is_a_separate_part_of_the_cost(
    meter: Meter, loads: Loads, cost: CostPerToken | None, load: float
) -> None:
    model, backend = ModelSpec("m", Path("m"), cost=cost, parameters=1.0), MeteredBackend(Loading(), meter, loads)
    warm, cold = (cost_of(backend.complete(model, Question("a b"))) for _ in range(2))
    assert (warm.load, cold.load) == (0.0, pytest.approx(load))
    assert warm.amount > 0
    assert cold.amount == pytest.approx(warm.amount + load)
    assert cold.answer == pytest.approx(warm.amount)


def test_zoo_yaml_states_load_costs(tmp_path: Path) -> None:
    path = tmp_path / "zoo.yaml"
    path.write_text(
        "energy: {load_watts: 12}\nmodels:\n"
        "- {name: a, path: a.gguf, cost: {unit: J, prompt: 1, generated: 1, load: 7}}\n"
        "- {name: b, path: b.gguf, cost: {unit: J, prompt: 1, generated: 1}}\n"
    )
    described = load_zoo(path)
    assert described.load_watts == 12.0
    assert [model.cost and model.cost.load for model in described.models] == [7.0, None]


# --- a router whose models have to be loaded ---------------------------------------------------------------------


class OneAtATime:
    """One model at a time is loaded. `left` and `right` answer prompts of their own kind, `both` every prompt."""

    def __init__(self) -> None:
        self.memory: Memory[str] = Memory({"cpu": 1})
        self.broken: frozenset[str] = frozenset()

    def complete(
        self,
        model: ModelSpec,
        question: Question,
        on_text: OnText | None = None,
        on_thinking: OnText | None = None,
    ) -> Completion:
        if model.name in self.broken:
            raise BackendError(f"{model.name} is out of order")
        load_s = 0.0 if self.resident(model) else 1.0
        for other in () if not load_s else self.memory.to_evict({"cpu": 1}) or ():
            self.memory.free(other)
        self.memory.take(model.name, {"cpu": 1})
        answer = "good" if model.name in ("both", question.prompt.split()[0]) else "bad"
        return Completion(model.name, answer, 1, 0, 0.1, load_s, "stop")

    def resident(self, model: ModelSpec) -> bool:
        return model.name in tuple(self.memory)

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class HidesLoaded:
    """A backend that hides which models are loaded."""

    backend: OneAtATime

    def complete(
        self,
        model: ModelSpec,
        question: Question,
        on_text: OnText | None = None,
        on_thinking: OnText | None = None,
    ) -> Completion:
        return self.backend.complete(model, question, on_text, on_thinking)

    def close(self) -> None:
        pass


@contextmanager
def routing(folder: Path, backend: Backend, load: float, **settings: Any) -> Iterator[Router]:
    models = {
        name: ModelSpec(name, Path(name), cost=CostPerToken("J", cost, 0.0, load=load))
        for name, cost in (("left", 1.0), ("right", 1.0), ("both", 3.0))
    }
    promise = Settings(**{"alpha": ALPHA, "c": 0.1, "seed": 1, **settings})
    with Store(folder / f"{type(backend).__name__}-state") as store:
        yield Router(models, promise, backend, StatedMeter("J"), store, lambda answer: float(answer == "good"))


def alternating(router: Router, requests: int) -> list[Answered]:
    return [router.ask(Question(f"{('left', 'right')[t % 2]} question {t % 7}")) for t in range(requests)]


@pytest.mark.slow
@pytest.mark.parametrize("policy", live_names())
def test_alternating_prompts_do_not_thrash_and_the_promise_holds(policy: str, tmp_path: Path) -> None:
    loads, cost = {}, {}
    for kind in (OneAtATime, lambda: HidesLoaded(OneAtATime())):
        with routing(tmp_path, backend := kind(), LOAD, policy=policy) as router:
            answered = alternating(router, 1000)
            assert router.standing().attained >= ALPHA - 0.01
        # MESS+ queries every model when it explores, loaded or not.
        loads[type(backend)] = sum(each.completion.load_s > 0 for each in answered if not each.decision.explored)
        cost[type(backend)] = sum(each.cost for each in answered)
    assert loads[OneAtATime] < loads[HidesLoaded] / 5
    assert cost[OneAtATime] < cost[HidesLoaded] / 2


@pytest.mark.slow
@pytest.mark.parametrize("policy", live_names())
def test_the_promise_holds_however_expensive_a_load_is(policy: str, tmp_path: Path) -> None:
    """Only cold models satisfy, and a load costs as much as 500 answers."""
    with routing(tmp_path, OneAtATime(), 500.0, policy=policy, c=0.0) as router:
        router.ask(Question("right"), model="left")
        answered = [router.ask(Question(f"right question {t % 7}")) for t in range(600)]
        standing = router.standing()
    assert standing.attained >= ALPHA - 0.01
    assert 1 <= sum(each.completion.load_s > 0 for each in answered) <= 10


@pytest.mark.parametrize("policy", live_names())
def test_a_load_counts_for_its_request_but_not_for_the_learned_costs(policy: str, tmp_path: Path) -> None:
    with routing(tmp_path, OneAtATime(), LOAD, policy=policy) as router:
        costs = [router.ask(Question("left"), model=name).cost for name in ("left", "left", "right", "both", "left")]
        assert costs == [LOAD + 1, 1, LOAD + 1, LOAD + 3, LOAD + 1]
        answered = router.ask(Question("left question"))
        assert answered.decision.mean_cost == {"left": 1.0, "right": 1.0, "both": 3.0}
        assert answered.decision.request.surcharge == {"right": LOAD, "both": LOAD}
        assert answered.decision.weighed is not None
        assert answered.decision.weighed.terms[SURCHARGE]["left"] == 0.0
        assert answered.decision.weighed.terms[SURCHARGE]["both"] > 0.0
        with Store(router.state_path) as store:
            stored = [each.answers[each.decision.served].cost for each in store.requests]
        assert stored == [*costs, answered.cost]


@pytest.mark.parametrize("policy", live_names())
def test_a_failed_model_is_excluded_and_the_request_is_decided_again(policy: str, tmp_path: Path) -> None:
    backend = OneAtATime()
    with routing(tmp_path, backend, LOAD, policy=policy) as router:
        router.ask(Question("left"), model="left")
        backend.broken = frozenset({"left"})
        tried = (router.ask(Question("left")) for _ in range(50))
        answered = next(answered for answered in tried if "left" in answered.attempts)
        assert answered.completion.model != "left"
        assert "left" in answered.decision.request.excluded


def test_wrappers_report_which_models_their_backend_has_loaded() -> None:
    backend, model = OneAtATime(), ModelSpec("left", Path("left"))
    before = LatestTurns(Dispatch(lambda: backend, lambda: Scripted({})), lambda _: None)
    metered = MeteredBackend(before, FlopsMeter(1.0))
    assert not resident(metered, model)
    backend.complete(model, Question("left"))
    assert resident(metered, model)
    assert resident(metered, ModelSpec("far", url="http://localhost:1/v1"))
    assert resident(Scripted({}), ModelSpec("right", Path("right")))


def test_real_models_in_a_budget_for_two_are_loaded_and_unloaded(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    described = load_zoo(PACKAGED_FILE)
    models, meter = {model.name: model for model in described.models}, FlopsMeter(1e10)
    budget = sum(read_header(models[name].file).memory_bytes(0) for name in ("micro-400k", "mini-1m"))
    with LlamaCpp(budget={"cpu": budget}) as backend, Store(tmp_path / "state") as store:
        router = Router(models, Settings(), backend, meter, store, loads=Loads(20.0))
        for name in [*models, *models]:
            cold = not backend.resident(models[name])
            answered = router.ask(Question("What is 3 + 4?"), model=name)
            assert (answered.completion.load_s > 0) == cold
            answering = meter.cost(models[name], answered.completion)
            assert answered.cost == pytest.approx(answering + 20.0 * answered.completion.load_s)
        answered = router.ask(Question("What is 5 + 4?"))
        assert {name for name in models if name not in answered.decision.request.surcharge} == {"micro-400k", "mini-1m"}
