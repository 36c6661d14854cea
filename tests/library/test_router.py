"""The router of a program: it decides for models that the program runs, and learns what came of it."""

from __future__ import annotations

import pytest

import messctl
from messctl.errors import ConfigError, StoreError, UnknownNameError, UsageError
from messctl.state.ledger import Ledger
from messctl.state.store import Store

COSTS = {"small": 0.001, "large": 0.03}


@pytest.fixture
def router(tmp_path):
    with messctl.open_router(COSTS, tmp_path / "s.sqlite", alpha=0.8, unit="USD") as opened:
        yield opened


def good(decision, k):
    return decision.served == "large" or k % 3 > 0


def test_a_router_keeps_its_promise_over_the_programs_own_models(router):
    for k in range(300):
        decision = router.decide(f"what is {k}?")
        standing = router.learn(decision, satisfied=good(decision, k))
    assert standing.judged == 300
    assert standing.attained == pytest.approx(0.8, abs=0.03)
    assert standing == router.standing()


def test_the_costs_of_all_answers_are_stored(tmp_path, router):
    spent = 0.0
    for k in range(20):
        decision = router.decide("hello")
        router.learn(decision, cost=0.001 * k, satisfied=1)
        spent += 0.001 * k
    router.close()
    with Store(tmp_path / "s.sqlite") as store:
        ledger = Ledger.of(store)
    assert (ledger.cost_unit, ledger.answered, ledger.meters) == ("USD", 20, ("stated by the program",))
    assert ledger.cost_total == pytest.approx(spent)


def test_feedback_may_come_later_from_another_process_and_be_corrected(tmp_path, router):
    decision = router.decide("hello", request_id="a-1")
    router.learn(decision, answer="hi")
    assert router.standing().judged == 0
    with messctl.open_router(COSTS, tmp_path / "s.sqlite", alpha=0.8, unit="USD") as other:
        assert other.learn("a-1", satisfied=False).attained == 0
        assert other.learn("a-1", satisfied=0.5).attained == 0.5
    assert router.learn(decision, satisfied=True).attained == 1


def test_models_left_out_do_not_serve(router):
    served = {router.decide(f"prompt {k}", without=["small"]).served for k in range(10)}
    assert served == {"large"}


def test_what_is_learned_outlives_the_process(tmp_path):
    for part in range(3):
        with messctl.open_router(["small", "large"], str(tmp_path / "s.sqlite"), unit="EUR") as router:
            decision = router.decide("hello")
            router.learn(decision, cost=1.5, satisfied=1)
            assert router.standing().judged == part + 1


@pytest.mark.parametrize(
    ("zoo", "reference"),
    [(["a", "b"], "b"), ({"a": 2.0, "b": 1.0}, "a"), ({"a": None, "b": None}, "b"), ({"a": None, "b": 1.0}, "b")],
)
def test_the_reference_is_the_costliest_or_the_last(zoo, reference):
    with messctl.open_router(zoo, ":memory:") as router:
        assert router.zoo.reference == reference


def test_a_zoo_file_may_name_models_that_the_program_runs(tmp_path):
    path = tmp_path / "zoo.yaml"
    path.write_text("sla: {alpha: 0.9}\nmodels:\n  - {name: small}\n  - {name: large}\n")
    with messctl.open_router(path, ":memory:", margin=0.01) as router:
        assert (router.zoo.models, router.alpha) == (("large", "small"), 0.9)
        assert router.decide("hello").served in router.zoo.models
    path.write_text("models:\n  - {name: small}\n  - {name: small}\n")
    with pytest.raises(ConfigError, match="given twice"):
        messctl.open_router(path, ":memory:")


WRONG_CALLS = [
    (lambda r: r.learn(r.decide("p"), satisfied=2), UsageError, "satisfied is 2; it must lie in 0..1"),
    (lambda r: r.learn(r.decide("p"), cost=-1), UsageError, "cost is -1; it must be finite and not negative"),
    (lambda r: r.learn(r.decide("p"), cost=float("nan")), UsageError, "cost is nan"),
    (lambda r: r.learn("nobody", satisfied=1), UsageError, "unknown request id 'nobody'"),
    (lambda r: r.decide("p", without=["smal"]), UnknownNameError, "did you mean 'small'"),
    (lambda r: r.decide("p", without=["small", "large"]), UsageError, "every model is left out"),
    (lambda r: [r.decide("p", request_id="x"), r.decide("p", request_id="x")], UsageError, "'x' is logged already"),
    (lambda r: r.ask("p"), UsageError, "the program runs these models itself; call decide"),
]


@pytest.mark.parametrize(("call", "error", "part"), WRONG_CALLS)
def test_a_wrong_call_says_what_to_do(router, call, error, part):
    with pytest.raises(error, match=part):
        call(router)


def test_a_cost_that_is_nowhere_stated_is_asked_for():
    with (
        messctl.open_router(["a", "b"], ":memory:", unit="USD") as router,
        pytest.raises(UsageError, match="the cost of its answer is unknown; give cost, in USD"),
    ):
        router.learn(router.decide("p"), satisfied=1)


@pytest.mark.parametrize(
    ("zoo", "settings", "error", "part"),
    [
        ([], {}, UsageError, "there is no model"),
        (["a", "a"], {}, UsageError, "two models have one name"),
        (["a"], {"aplha": 0.5}, UnknownNameError, "unknown setting 'aplha' .did you mean 'alpha'"),
        (["a"], {"alpha": 2}, UsageError, "alpha"),
        (["a", "b"], {"reference": "c"}, UnknownNameError, "unknown reference model 'c'"),
        ("nowhere.yaml", {}, ConfigError, "nowhere.yaml"),
    ],
)
def test_a_router_that_cannot_be_opened_says_why(zoo, settings, error, part):
    with pytest.raises(error, match=part):
        messctl.open_router(zoo, ":memory:", **settings)


def test_a_state_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "s.sqlite").write_text("no database, but long enough to look like one " * 50)
    with pytest.raises(StoreError, match=r"s\.sqlite"):
        messctl.open_router(["a", "b"], tmp_path / "s.sqlite")


def test_several_models_per_request_are_refused():
    with (
        messctl.open_router(["a", "b"], ":memory:", asks=3) as router,
        pytest.raises(UsageError, match="asks is 3; one model is decided on per request here"),
    ):
        router.decide("p")


def test_a_router_shows_how_the_promise_is_kept(router):
    assert repr(router) == "<Router of large, small: no feedback yet of 0.8 over 0>"
    assert "Router of large, small" in router._repr_html_()
