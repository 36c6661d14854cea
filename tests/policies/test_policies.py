"""The conformance suite: what every policy must do, for each policy that is found."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from driving import drive
from hypothesis import given, settings
from hypothesis import strategies as st
from making import arbitrary_rounds, learnable, make_recording, make_rounds, prompts_for, with_reading_costs

from messctl.errors import UnknownNameError, UsageError
from messctl.learning.compiled import plainly
from messctl.learning.snapshot import Snapshot
from messctl.policies import build, default_names, kind_of, kinds, live_build, live_names
from messctl.records import HELD_BACK, TRIED, Decision, Feedback, Request
from messctl.replay.play import replay
from messctl.replay.result import Conditions
from messctl.zoo import Settings, Zoo

NAMES = [name for name in default_names(["m0", "m1"]) if name != "always:m1"]
LEARNERS = [name for name in NAMES if kind_of(name).learns]
YARDSTICKS = [name for name in NAMES if not kind_of(name).learns]
every_policy = pytest.mark.parametrize("name", NAMES)
weighs_by_v = pytest.mark.parametrize("name", ["messplus"])
every_learner = pytest.mark.parametrize("name", LEARNERS)
# hindsight fits dozens of regressions per example
few = settings(max_examples=15)

promises = st.builds(
    Settings,
    alpha=st.sampled_from([0.0, 0.3, 0.6, 0.8, 1.0]),
    v=st.sampled_from([0.0, 0.05, 1.0, 30.0]),
    c=st.sampled_from([0.0, 0.1, 1.0]),
    seed=st.integers(0, 3),
)


def outcome(played):
    """All results of a run, as bytes."""
    arrays = (played.cost, played.satisfied, played.queue_before, played.queue_after, played.share)
    chosen = b"" if played.served is None else played.served.tobytes()
    return b"".join(array.tobytes() for array in arrays) + chosen


def test_policies_are_found_from_the_worst_to_the_best_informed():
    assert list(kinds()) == [
        "always",
        "random",
        "static-mix",
        "messplus",
        "bandit",
        "logged",
        "hindsight",
        "hindsight-cascade",
        "clairvoyant",
    ]
    assert "logged" not in default_names(["a", "b"])
    assert default_names(["a", "b"])[:2] == ["always:a", "always:b"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("mesplus", UnknownNameError, "did you mean 'messplus'"),
        ("", UnknownNameError, "unknown policy ''"),
        ("random:m0", UnknownNameError, "unknown policy 'random:m0'"),
        ("always", UsageError, "always:m0"),
        ("always:m9", UnknownNameError, "known: always:m0, always:m1"),
    ],
)
def test_an_unknown_policy_is_refused(name, error, message):
    rounds = make_rounds([[0, 1]], [[1, 2]])
    with pytest.raises(error, match=message):
        build(name, rounds, Settings())


@every_policy
@few
@given(
    rounds=arbitrary_rounds(),
    promise=promises,
    rate=st.sampled_from([0.0, 0.5, 1.0]),
    delay=st.sampled_from([0, 1, 3, 1000]),
)
def test_the_certificate_holds_on_any_input(name, rounds, promise, rate, delay):
    """With feedback on any share of the requests, and with any delay."""
    rounds = rounds.arranged(seed=promise.seed, shuffle=True, feedback_rate=rate, feedback_delay=delay)
    played = build(name, rounds, promise).play(rounds)
    has_feedback = played.satisfied[~np.isnan(played.satisfied)]
    assert has_feedback.sum() >= promise.alpha * len(has_feedback) - played.queue_final - 1e-9
    assert len(has_feedback) == 0 or played.certificate <= played.attained + 1e-9
    queue = 0.0
    for satisfied in has_feedback:
        queue = max(0.0, queue + promise.alpha - satisfied)
    assert played.queue_final == queue
    assert played.queue_before[0] == 0
    assert played.queue_before[1:].tolist() == played.queue_after[:-1].tolist()


@pytest.mark.slow
@every_policy
@few
@given(rounds=arbitrary_rounds(), promise=promises, data=st.data())
def test_the_order_of_the_models_does_not_matter(name, rounds, promise, data):
    """The same models in another order are the same zoo."""
    models = list(rounds.zoo.models)
    order = data.draw(st.permutations(range(len(models))))
    again = make_rounds(
        rounds.satisfied[:, order],
        rounds.cost[:, order],
        [models[index] for index in order],
        reference=rounds.zoo.reference,
    )
    again = replace(again, features=rounds.features)
    assert outcome(build(name, rounds, promise).play(rounds)) == outcome(build(name, again, promise).play(again))


@pytest.mark.slow
@every_policy
@few
@given(rounds=arbitrary_rounds(), promise=promises, power=st.integers(-8, 8))
def test_the_unit_of_cost_does_not_matter(name, rounds, promise, power):
    """By powers of two, so that not even rounding differs."""
    scaled = replace(rounds, cost=rounds.cost * 2.0**power)
    one, other = (build(name, each, promise).play(each) for each in (rounds, scaled))
    assert one.share.tolist() == other.share.tolist()
    assert one.satisfied.tobytes() == other.satisfied.tobytes()
    assert (one.cost * 2.0**power).tobytes() == other.cost.tobytes()


@pytest.mark.slow
@every_policy
@few
@given(rounds=arbitrary_rounds(), promise=promises)
def test_the_same_seed_gives_the_same_bytes(name, rounds, promise):
    arranged = rounds.arranged(seed=promise.seed, shuffle=True, feedback_rate=0.7, feedback_delay=2)
    first, second = (build(name, rounds, promise).play(arranged) for _ in range(2))
    assert outcome(first) == outcome(second)


@every_policy
def test_decisions_are_well_formed_and_feedback_may_come_in_any_order(name):
    rounds = learnable(50)
    prompts = prompts_for(50)
    policy = build(name.replace("m0", "small"), rounds, Settings(c=1.0))
    decisions = []
    for row in range(50):
        decision = policy.decide(Request(f"r{row}", prompts[row]))
        assert isinstance(decision, Decision)
        assert decision.request.request_id == f"r{row}"
        assert decision.request_number == row + 1
        assert decision.served in decision.queried
        assert set(decision.queried) <= set(rounds.zoo.models)
        assert 0 < decision.propensity <= 1
        assert 0 <= decision.p_explore <= 1
        assert decision.queue >= 0
        decisions.append(decision)
    for decision in reversed(decisions):
        policy.learn(decision, Feedback())
        policy.learn(decision, Feedback(satisfied={decision.served: 0.5}))
        policy.learn(decision, Feedback(costs=dict.fromkeys(decision.queried, 1.0)))


@every_learner
@pytest.mark.parametrize("form", [plainly, nullcontext])
@pytest.mark.parametrize("reading", [False, True])
@pytest.mark.parametrize(("rate", "delay"), [(1.0, 0), (1.0, 3), (0.4, 0), (0.5, 7), (0.0, 0), (1.0, 500)])
def test_both_drivers_take_the_same_decisions(name, rate, delay, reading, form):
    """Live, one request at a time, and replay, in one compiled loop, agree to the last bit.

    Live runs in plain Python alone, or in plain Python first and compiled code after that.
    """
    requests = 60 if form is plainly else 200
    rounds, prompts = learnable(requests), prompts_for(requests)
    rounds = with_reading_costs(rounds) if reading else rounds
    arranged = rounds.arranged(seed=5, shuffle=True, feedback_rate=rate, feedback_delay=delay)
    promise = Settings(alpha=0.85, v=0.2, c=0.8, seed=5)
    played = build(name, rounds, promise).play(arranged)
    policy = build(name, rounds, promise)
    with form():
        steps = list(drive(policy, arranged, prompts))
    models = rounds.zoo.models
    assert [decision.served for decision, _ in steps] == [models[index] for index in played.served]
    assert [decision.explored for decision, _ in steps] == played.explored.tolist()
    assert [decision.queue for decision, _ in steps] == played.queue_before.tolist()
    assert [decision.p_explore for decision, _ in steps] == played.p_explore.tolist()
    predicted = [[decision.predicted[model] for model in models] for decision, _ in steps]
    assert np.array(predicted).tobytes() == played.predicted.tobytes()
    means = np.array([[decision.mean_cost.get(model, np.nan) for model in models] for decision, _ in steps])
    assert means.tobytes() == played.mean_cost.tobytes()
    assert policy.queue == played.queue_final
    assert policy.weights.weight.tobytes() == played.weights.weight.tobytes()
    assert policy.weights.bias.tobytes() == played.weights.bias.tobytes()
    has_feedback = [satisfied for _, satisfied in steps]
    assert [None if np.isnan(value) else value for value in played.satisfied] == has_feedback


@pytest.mark.parametrize("name", YARDSTICKS)
def test_a_yardstick_serves_live_by_the_odds_that_it_is_scored_by(name):
    rounds, prompts = learnable(400), prompts_for(400)
    name = name.replace("m0", "small")
    policy = build(name, rounds, Settings(alpha=0.8))
    served = [decision.served for decision, _ in drive(policy, rounds, prompts)]
    share = build(name, rounds, Settings(alpha=0.8)).play(rounds).share
    for model, expected in zip(rounds.zoo.models, share, strict=True):
        # Five standard deviations of a coin flipped 400 times.
        assert served.count(model) / 400 == pytest.approx(expected, abs=5 * 0.5 / 20)


@every_policy
def test_playing_does_not_change_the_policy(name):
    rounds = learnable(60)
    policy = build(name.replace("m0", "small"), rounds, Settings())
    assert outcome(policy.play(rounds)) == outcome(policy.play(rounds))


@weighs_by_v
@given(rounds=arbitrary_rounds(), v=st.sampled_from([0.01, 1.0, 50.0]))
def test_at_alpha_0_there_is_no_debt_and_the_cheapest_known_model_serves(name, rounds, v):
    played = build(name, rounds, Settings(alpha=0.0, v=v, c=0.0)).play(rounds)
    assert (played.queue_after == 0).all()
    for served, means in zip(played.served, played.mean_cost, strict=True):
        assert served == int(np.nan_to_num(means).argmin())


@weighs_by_v
@given(rounds=arbitrary_rounds(), alpha=st.sampled_from([0.3, 0.9]))
def test_at_v_0_cost_does_not_matter_while_there_is_debt(name, rounds, alpha):
    played = build(name, rounds, Settings(alpha=alpha, v=0.0, c=0.5)).play(rounds)
    for queue, served, predicted, explored in zip(
        played.queue_before, played.served, played.predicted, played.explored, strict=True
    ):
        if queue > 0 and not explored:
            assert alpha - predicted[served] == (alpha - predicted).min()


@pytest.mark.slow
@given(arbitrary_rounds(), st.sampled_from([0.0, 0.2, 0.5, 0.75, 1.0]), st.integers(0, 3))
@few
def test_no_policy_that_meets_alpha_costs_less_than_clairvoyant(rounds, alpha, seed):
    """And static-mix never costs more than a single model that meets α."""
    if alpha > rounds.satisfied.max(axis=1).mean():
        return
    promise = Settings(alpha=alpha, c=0.5, seed=seed)
    names = default_names(rounds.zoo.models)
    results = {result.policy: result for result in replay(make_recording(rounds), names, promise, Conditions()).results}
    floor = results["clairvoyant"]
    assert floor.sla_met
    for result in results.values():
        if result.sla_met:
            assert result.mean_cost >= floor.mean_cost - 1e-9
        assert 0 <= result.explored <= 1
        assert sum(result.model_share.values()) == pytest.approx(1)
    singles = [result.mean_cost for name, result in results.items() if name.startswith("always:") and result.sla_met]
    if singles:
        assert results["static-mix"].sla_met
        assert results["static-mix"].mean_cost <= min(singles) + 1e-12


every_live = pytest.mark.parametrize("name", live_names())


def test_the_policies_that_learn_can_serve_live():
    assert live_names() == LEARNERS


@every_live
def test_the_terms_of_a_decision_explain_which_model_serves(name):
    """The one with the least sum, unless the note tells of a trial or of a model that is held back."""
    rounds, prompts = learnable(300), prompts_for(300)
    policy = build(name, rounds, Settings(alpha=0.93, c=0.5))
    noted = 0
    for decision, _ in drive(policy, rounds, prompts):
        weighed = decision.weighed
        sums = {model: sum(term[model] for term in weighed.terms.values()) for model in rounds.zoo.models}
        least = min(sums, key=lambda model: (sums[model], decision.mean_cost.get(model, 0.0), model))
        assert decision.explored or (decision.served != least) == (weighed.note in (TRIED, HELD_BACK))
        assert weighed.figures["Q"] == decision.queue
        noted += bool(weighed.note)
    assert (noted > 0) == (name == "bandit")


@every_live
def test_an_empty_snapshot_is_a_fresh_start(name):
    rounds, prompts = learnable(60), prompts_for(60)
    settings = Settings(alpha=0.85, c=0.5)
    ones = drive(build(name, rounds, settings), rounds, prompts)
    others = drive(live_build(name)(rounds.zoo, settings, Snapshot()), rounds, prompts)
    assert list(ones) == list(others)


@every_live
@pytest.mark.parametrize("other", ["encoder", "version", "policy", "shape", "type"])
def test_a_restored_policy_forgets_only_the_parts_that_are_void(name, other):
    rounds, prompts = learnable(80), prompts_for(80)
    settings = Settings(alpha=0.85, c=0.5)
    policy = build(name, rounds, settings)
    list(drive(policy, rounds, prompts))
    saved = policy.snapshot()

    def bent(arrays):
        if other == "shape":
            return {name: np.zeros((*array.shape, 2)) for name, array in arrays.items()}
        return {name: array.astype(np.float32) for name, array in arrays.items()}

    if other in ("shape", "type"):
        models = {
            model: replace(known, arrays=bent(known.arrays), cost_arrays=bent(known.cost_arrays))
            for model, known in saved.models.items()
        }
        strange = replace(saved, shared=bent(saved.shared), cost_shared=bent(saved.cost_shared), models=models)
    else:
        strange = replace(saved, **{other: {"encoder": "words-0", "version": 99, "policy": "x"}[other]})
    after = live_build(name)(rounds.zoo, settings, strange)
    fresh = live_build(name)(rounds.zoo, settings, Snapshot())
    again = after.snapshot()
    assert (again.decided, again.queue, again.balance) == (80, saved.queue, saved.balance)
    for model in rounds.zoo.models:
        assert again.models[model].mean_cost == saved.models[model].mean_cost
        assert again.models[model].cost_count == saved.models[model].cost_count
    if other == "encoder" and name == "bandit":  # plain tallies do not look at prompts
        answers = {model: float(known.arrays["answers"]) for model, known in again.models.items()}
        assert answers == {model: float(known.arrays["answers"]) for model, known in saved.models.items()}
        assert not after.weights.weight.any()
    else:
        assert after.weights.weight.tobytes() == fresh.weights.weight.tobytes()
        assert after.weights.bias.tobytes() == fresh.weights.bias.tobytes()
    assert after.decide(Request("next", prompts[0])).served in rounds.zoo.models


@every_live
def test_feedback_on_a_removed_model_counts_in_the_debt(name):
    rounds, prompts = learnable(20), prompts_for(20)
    settings = Settings(alpha=0.85, c=0.0)
    before = build(name, rounds, settings)
    decision = before.decide(Request("r0", prompts[0]))
    others = [model for model in rounds.zoo.models if model != decision.served]
    zoo = Zoo.of(others, others[0])
    after = live_build(name)(zoo, settings, before.snapshot())
    after.learn(decision, Feedback(costs={decision.served: 1.0}, satisfied={decision.served: 0.25}))
    saved = after.snapshot()
    assert (saved.queue, saved.balance) == (0.85 - 0.25, 0.25 - 0.85)
    assert set(saved.models) == set(others)
    assert not any(model.cost_count for model in saved.models.values())


def test_a_single_model_serves_live_until_it_cannot_and_its_debt_goes_on():
    zoo = Zoo.of(["a", "b", "c"], "c")
    settings = Settings(alpha=0.75, policy="always:b")
    policy = live_build("always:b")(zoo, settings, Snapshot())
    for excluded, served in ((set(), "b"), ({"b"}, "c"), ({"b", "c"}, "a"), ({"a", "b", "c"}, "b")):
        decision = policy.decide(Request("r", "?", excluded=frozenset(excluded)))
        assert (decision.served, decision.propensity, decision.odds) == (served, 1.0, {served: 1.0})
        policy.learn(decision, Feedback(costs={served: 2.0}, satisfied={served: 0.0}))
        policy = live_build("always:b")(zoo, settings, policy.snapshot())
    saved = policy.snapshot()
    assert (saved.decided, saved.queue, saved.balance) == (4, 3.0, -3.0)
    assert {name: (each.mean_cost, each.cost_count) for name, each in saved.models.items()} == {
        "a": (2.0, 1),
        "b": (2.0, 2),
        "c": (2.0, 1),
    }


@pytest.mark.parametrize(("name", "message"), [("always", "needs a model: always:a"), ("always:x", "known: always:a")])
def test_a_single_model_must_be_in_the_zoo(name, message):
    with pytest.raises((UsageError, UnknownNameError), match=message):
        live_build(name)(Zoo.of(["a"], "a"), Settings(policy=name), Snapshot())


def test_a_request_says_nothing_about_outcomes():
    """Only the prompt, whether it can be graded, and which models can be queried at which extra cost."""
    assert Request.__slots__ == ("request_id", "prompt", "gradable", "excluded", "surcharge", "prompt_cost", "looks")


def live_decisions(name, rounds, prompts, settings, of):
    """Drive a policy that serves live, its requests changed by `of`; yield the decisions."""
    policy = live_build(name)(rounds.zoo, settings, Snapshot())
    for row, prompt in enumerate(prompts):
        decision = policy.decide(of(Request(f"r{row}", prompt), row))
        yield decision
        costs, satisfied = (
            {model: float(table[row, rounds.zoo.index(model)]) for model in decision.queried}
            for table in (rounds.cost, rounds.satisfied)
        )
        policy.learn(decision, Feedback(costs=costs, satisfied=satisfied))


@every_live
@few
@given(
    rounds=arbitrary_rounds(most=60),
    alpha=st.sampled_from([0.0, 0.6, 1.0]),
    v=st.sampled_from([None, 0.0, 1.0]),
    seed=st.integers(0, 99),
)
def test_an_excluded_model_is_never_queried(name, rounds, alpha, v, seed):
    models = rounds.zoo.models
    coins = np.random.default_rng(seed).random((len(rounds), len(models))) < 0.5
    down = [frozenset(model for model, coin in zip(models, row, strict=True) if coin) for row in coins]
    settings = Settings(alpha=alpha, v=v, c=0.5)
    prompts = prompts_for(len(rounds))
    for row, decision in enumerate(
        live_decisions(name, rounds, prompts, settings, lambda request, row: replace(request, excluded=down[row]))
    ):
        assert 0.0 < decision.propensity <= 1.0
        if len(down[row]) < len(models):
            assert not down[row] & {decision.served, *decision.queried}
        if len(down[row]) == len(models) - 1:
            assert decision.propensity == pytest.approx(1.0)


@every_live
def test_a_surcharge_makes_a_model_less_likely(name):
    """A surcharge of 0 changes nothing. With a huge one the model serves only by debt or by chance."""
    rounds, prompts = learnable(300), prompts_for(300)
    settings = Settings(alpha=0.7, c=0.1)
    free, nothing, much = (
        list(
            live_decisions(
                name, rounds, prompts, settings, lambda request, _, more=more: replace(request, surcharge=more)
            )
        )
        for more in ({}, {"large": 0.0}, {"large": 1e6})
    )
    assert [decision.served for decision in nothing] == [decision.served for decision in free]
    assert not any("surcharge" in decision.weighed.terms for decision in free)
    chosen = [sum(each.served == "large" and not each.explored for each in run) for run in (free, much)]
    assert chosen[1] < chosen[0]
    for decision in much:
        if not decision.explored and decision.served == "large":
            assert decision.weighed.note or decision.queue > 0
