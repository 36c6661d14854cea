"""Off-policy evaluation: the estimators, the targets on a log, and whether the intervals hold the truth."""

import itertools
from dataclasses import replace
from pathlib import Path

import make_log
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import learnable, make_rounds, prompts_for

from messctl.errors import UnknownNameError, UsageError
from messctl.learning.cross_fit import cross_fitted
from messctl.learning.features import WordEncoder, encode
from messctl.learning.snapshot import Snapshot
from messctl.off_policy import Log, evaluate, read
from messctl.off_policy.estimators import Overlap, direct, doubly_robust, effective_size, ips, share_interval, snips
from messctl.off_policy.evaluation import estimate_target
from messctl.off_policy.reward import RewardModel
from messctl.off_policy.target import Target, replay_odds, target_of
from messctl.policies import build, live_build
from messctl.records import Feedback, Request
from messctl.replay.loading import load
from messctl.trace import TraceFile
from messctl.zoo import Settings, Zoo

SETTINGS = Settings(alpha=0.7)


def logged(rounds, prompts, served, propensity, has_feedback=None) -> Log:
    """The log of a policy that served these models, in the order of the rounds."""
    order = rounds.order
    satisfied = rounds.satisfied[order, served].copy()
    if has_feedback is not None:
        satisfied[~has_feedback] = np.nan
    return Log(
        path=Path("made.parquet"),
        cost_unit="J",
        zoo=rounds.zoo,
        request_ids=tuple(rounds.request_ids[row] for row in order),
        prompts=tuple(prompts[row] for row in order),
        features=rounds.features.rows(order),
        served=np.asarray(served),
        propensity=np.asarray(propensity, dtype=float),
        satisfied=satisfied,
        cost=rounds.cost[order, served],
        alone=np.ones(len(order), dtype=bool),
    )


def small_log(served, satisfied, cost=None, propensity=None, models=2) -> Log:
    """A log with these values, whose prompts carry no signal."""
    n = len(served)
    prompts = [f"prompt {row}" for row in range(n)]
    return Log(
        path=Path("made.parquet"),
        cost_unit="J",
        zoo=Zoo.of([f"m{index}" for index in range(models)], "m0"),
        request_ids=tuple(f"r{row}" for row in range(n)),
        prompts=tuple(prompts),
        features=encode(pa.array(prompts, pa.large_string())),
        served=np.array(served),
        propensity=np.full(n, 1.0) if propensity is None else np.array(propensity, dtype=float),
        satisfied=np.array(satisfied, dtype=float),
        cost=np.full(n, 2.0) if cost is None else np.array(cost, dtype=float),
        alone=np.ones(n, dtype=bool),
    )


def drawn(rounds, prompts, odds, seed, has_feedback=1.0) -> Log:
    """The log of a policy that drew models with fixed odds, (models,) or (n, models)."""
    rng = np.random.default_rng(seed)
    odds = np.broadcast_to(odds, rounds.satisfied.shape)
    served = (rng.random((len(rounds), 1)) > np.cumsum(odds, axis=1)).sum(axis=1).clip(max=odds.shape[1] - 1)
    return logged(rounds, prompts, served, odds[np.arange(len(rounds)), served], rng.random(len(rounds)) < has_feedback)


def result(log, policy, settings=SETTINGS, **options):
    return evaluate(log, [policy], settings, WordEncoder(), **options).results[0]


def by_name(evaluated):
    return {each.estimator: each for each in evaluated.estimates}


# The estimators


def naive(weight, value, served, odds, expected):
    """All four estimators as loops over their definitions, with the half-widths of their intervals."""
    n = len(value)
    terms, direct_sum, robust = [], 0.0, []
    for t in range(n):
        terms.append(weight[t] * value[t])
        under = sum(odds[t][m] * expected[t][m] for m in range(len(odds[t])))
        direct_sum += under
        robust.append(under + weight[t] * (value[t] - expected[t][served[t]]))
    total = sum(weight)
    normalised = sum(terms) / total

    def spread(terms):
        mean = sum(terms) / n
        return sum((term - mean) ** 2 for term in terms) / n / n

    effective = total**2 / sum(w * w for w in weight)
    ratio = sum(w * w * (v - normalised) ** 2 for w, v in zip(weight, value, strict=True)) / total**2
    grown = effective / (effective - 1)
    return {
        "IPS": (sum(terms) / n, 1.959963984540054 * (spread(terms) * grown) ** 0.5),
        "SNIPS": (normalised, 1.959963984540054 * (ratio * grown) ** 0.5),
        "DM": (direct_sum / n, None),
        "DR": (sum(robust) / n, 1.959963984540054 * (spread(robust) * grown) ** 0.5),
    }


@pytest.mark.parametrize("seed", range(5))
def test_the_estimators_match_their_definitions(seed):
    rng = np.random.default_rng(seed)
    n, models = 40, 3
    served, propensity = rng.integers(0, models, n), rng.uniform(0.1, 1.0, n)
    odds, expected = rng.dirichlet(np.ones(models), n), rng.random((n, models))
    value = rng.random(n)
    weight = odds[np.arange(n), served] / propensity
    found = {
        "IPS": ips(weight, value),
        "SNIPS": snips(weight, value),
        "DM": direct(odds, expected),
        "DR": doubly_robust(weight, value, served, odds, expected),
    }
    for name, (mean, half) in naive(weight, value, served, odds, expected).items():
        assert found[name].mean == pytest.approx(mean, rel=1e-12)
        if half is None:
            assert found[name].interval is None
        else:
            assert found[name].interval == pytest.approx((mean - half, mean + half), rel=1e-9)
    assert effective_size(weight) == pytest.approx(weight.sum() ** 2 / (weight * weight).sum())
    overlap = Overlap.of(weight, served, odds)
    assert overlap.matched == pytest.approx(odds[np.arange(n), served].mean())
    assert overlap.mean_weight == pytest.approx(weight.mean())
    lacking = 0.0
    for model in range(models):
        part = [w if m == model else 0.0 for w, m in zip(weight, served, strict=True)]
        mean = sum(part) / n
        high = mean + 3.0 * (sum((w - mean) ** 2 for w in part) / n / n) ** 0.5
        lacking += max(0.0, sum(row[model] for row in odds) / n - high)
    assert overlap.uncovered == pytest.approx(lacking)


PROBABILITIES = st.lists(st.floats(0.05, 1.0), min_size=2, max_size=4).map(lambda raw: np.array(raw) / sum(raw))


@given(st.data())
def test_ips_and_dr_are_unbiased_over_all_possible_logs(data):
    """Over every log of three requests, weighted by its probability: exact but for rounding."""
    logging = data.draw(PROBABILITIES)
    models, n = len(logging), 3
    level = st.floats(0, 1)
    table = st.lists(st.lists(level, min_size=models, max_size=models), min_size=n, max_size=n).map(np.array)
    truth, expected = data.draw(table), data.draw(table)
    raw = data.draw(table) + 1e-3
    odds = raw / raw.sum(axis=1, keepdims=True)
    means = {"ips": 0.0, "dr": 0.0, "weight": 0.0}
    rows = np.arange(n)
    for served in itertools.product(range(models), repeat=n):
        chosen = np.array(served)
        chance = float(np.prod(logging[chosen]))
        weight, value = odds[rows, chosen] / logging[chosen], truth[rows, chosen]
        means["ips"] += chance * ips(weight, value).mean
        means["dr"] += chance * doubly_robust(weight, value, chosen, odds, expected).mean
        means["weight"] += chance * weight.mean()
    assert means["ips"] == pytest.approx((odds * truth).sum(axis=1).mean(), abs=1e-9)
    assert means["dr"] == pytest.approx((odds * truth).sum(axis=1).mean(), abs=1e-9)
    assert means["weight"] == pytest.approx(1.0, abs=1e-9)


@given(seed=st.integers(0, 10**6), odds=PROBABILITIES, target=PROBABILITIES)
def test_weights_are_one_on_average(seed, odds, target):
    models = min(len(odds), len(target))
    odds, target = odds[:models] / odds[:models].sum(), target[:models] / target[:models].sum()
    served = np.random.default_rng(seed).choice(models, 4000, p=odds)
    ratio = target / odds
    deviation = np.sqrt((odds * (ratio - 1.0) ** 2).sum() / 4000)
    assert abs(ratio[served].mean() - 1.0) <= 6.0 * deviation + 1e-9


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([np.nan, 0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.1, 7.0])),
        min_size=1, max_size=30,
    ),
    odds=st.lists(st.floats(0.05, 1.0), min_size=3, max_size=3).map(lambda raw: np.array(raw) / sum(raw)),
)  # fmt: skip
def test_the_logging_policy_gets_the_means_of_the_log(rows, odds):
    served, satisfied, cost = (np.array(column) for column in zip(*rows, strict=True))
    log = small_log(served, satisfied, cost, odds[served], models=3)
    reward = RewardModel.of(log)
    made = np.tile(odds, (len(log), 1))
    weight = made[np.arange(len(log)), served] / log.propensity
    has_feedback = log.has_feedback
    # By its full odds, and as the policy `logged`, of which only what it took is known.
    for target, exact in (
        (Target("random", made, weight), ("IPS", "SNIPS")),
        (target_of("logged", log, SETTINGS, WordEncoder(), reward), ("IPS", "SNIPS", "DR")),
    ):
        evaluated = estimate_target(log, target, reward)
        assert evaluated.overlap.mean_weight == pytest.approx(1.0)
        for name in exact:
            each = by_name(evaluated)[name]
            assert each.cost.mean == pytest.approx(log.cost.mean(), abs=1e-9)
            assert each.attained_ess == pytest.approx(has_feedback.sum())
            assert each.cost_ess == pytest.approx(len(log))
            if has_feedback.any():
                assert each.attained.mean == pytest.approx(satisfied[has_feedback].mean(), abs=1e-9)
            else:
                assert (each.attained.mean, each.attained.interval) == (None, None)


@pytest.mark.parametrize("effective", [0.0, 1.0, 10.0, 1e6])
def test_an_interval_has_a_least_width_that_falls_with_the_sample(effective):
    """Ten satisfied of ten do not give 1.0 to 1.0. Uncovered decisions widen it further, within 0..1."""
    estimate = share_interval(ips(np.ones(10), np.ones(10)), effective, 0.0, 0.0)
    low, high = estimate.interval
    assert (estimate.mean, high) == (1.0, 1.0)
    assert low == pytest.approx(effective / (effective + 1.959963984540054**2))
    below, _ = share_interval(ips(np.ones(10), np.ones(10)), effective, 0.25, 0.0).interval
    assert below == pytest.approx(max(0.0, low - 0.25))


@pytest.mark.parametrize(
    ("terms", "effective", "mean", "low", "high"),
    [
        ([1.0, 1.0, 1.9671], 3.0, 1.0, 0.44, 1.0),  # three good answers, with weights above 1 by chance
        ([1.0, 1.0, 1.9671], 1e6, 1.0, 0.67, 1.0),
        ([-1.0, -0.5, 0.2], 3.0, 0.0, 0.0, 0.71),
        ([5.0, 5.0, 5.0], 3.0, 1.0, 0.44, 1.0),
        ([-5.0, -5.0, -5.0], 3.0, 0.0, 0.0, 0.56),
        ([0.2, 0.5, 0.8], 3.0, 0.5, 0.0, 1.0),
    ],
)
def test_a_share_is_clipped_to_0_to_1_and_lies_in_its_interval(terms, effective, mean, low, high):
    estimate = share_interval(ips(np.array(terms), np.ones(3)), effective, 0.0, 0.0)
    assert estimate.mean == pytest.approx(mean)
    assert estimate.interval == pytest.approx((low, high), abs=0.01)
    assert estimate.interval[0] <= estimate.mean <= estimate.interval[1]


def test_a_model_that_never_served_is_not_covered():
    """With p = 0.005, 61 % of logs of a hundred rows lack the model. Once it has served, it may be covered."""
    odds = np.tile([0.0, 1.0], (100, 1))
    never = np.zeros(100, dtype=np.int64)
    assert round(0.995**100, 2) == 0.61
    assert Overlap.of(np.zeros(100), never, odds).uncovered == 1.0
    once = np.eye(1, 100, 7, dtype=np.int64)[0]
    assert Overlap.of(once / 0.005, once, odds).uncovered == 0.0


# Intervals hold the truth

WORLDS = {
    "by the prompt": learnable(1500, 1),
    "without a signal": make_rounds(
        (np.random.default_rng(5).random((1500, 3)) < [0.5, 0.7, 0.9]).astype(float),
        np.tile([1.0, 3.0, 20.0], (1500, 1)),
        ["a", "b", "c"],
        prompts_for(1500, 5),
    ),
    "graded, and costs far apart": make_rounds(
        np.random.default_rng(6).beta([1.0, 2.0, 6.0], [1.0, 1.0, 1.0], (1500, 3)),
        np.random.default_rng(7).lognormal([0.0, 1.0, 4.0], 0.5, (1500, 3)),
        ["a", "b", "c"],
        prompts_for(1500, 6),
    ),
}
PROMPTS = {"by the prompt": prompts_for(1500, 1), "without a signal": prompts_for(1500, 5)}
LOGGED_BY = {"evenly": [1 / 3, 1 / 3, 1 / 3], "mostly one": [0.7, 0.2, 0.1]}
DRAWS = 40


@pytest.mark.slow
@pytest.mark.parametrize("logging", LOGGED_BY)
@pytest.mark.parametrize("world", WORLDS)
def test_intervals_of_fixed_policies_hold_the_truth(world, logging):
    """About 95 % of the intervals do, over forty logs of each world with feedback on 80 % of the answers."""
    rounds = WORLDS[world]
    prompts = PROMPTS.get(world, prompts_for(1500, 6))
    first, *_, last = rounds.zoo.models
    held: dict[str, list[bool]] = {}
    errors: dict[str, list[float]] = {}
    for draw in range(DRAWS):
        log = drawn(rounds, prompts, LOGGED_BY[logging], draw, has_feedback=0.8)
        reward = RewardModel.of(log)
        for policy in (f"always:{first}", f"always:{last}", "random", "static-mix"):
            target = target_of(policy, log, SETTINGS, WordEncoder(), reward)
            truths = [float((target.odds * table).sum(axis=1).mean()) for table in (rounds.satisfied, rounds.cost)]
            for each in estimate_target(log, target, reward).estimates:
                for what, estimate, truth in zip(("s", "c"), (each.attained, each.cost), truths, strict=True):
                    name = f"{policy} {each.estimator} {what}"
                    if each.estimator != "DM":
                        low, high = estimate.interval or (np.inf, np.inf)
                        held.setdefault(name, []).append(low <= truth <= high)
                        errors.setdefault(name, []).append(estimate.mean - truth)
    for name, inside in held.items():
        # A binomial of 40 draws at 95 % is below 33 once in a thousand; the sample is all of the population here, so
        # that intervals are, if anything, too wide.
        assert sum(inside) >= 33, (name, sum(inside))
        error = np.array(errors[name])
        assert abs(error.mean()) <= 4.0 * error.std() / np.sqrt(DRAWS) + 1e-9, (name, error.mean())


@pytest.fixture(scope="module")
def box(root):
    trace = root / "traces" / "box.parquet"
    prompts = [text for batch in TraceFile(trace).batches() for text in batch.prompts.to_pylist()]
    return load(trace).rounds, prompts


@pytest.mark.slow
def test_intervals_on_logs_of_the_bandit_hold_the_truth(box):
    """At least 20 of 24 do, although the bandit's propensities go down to 0.005."""
    rounds, prompts = box
    held = []
    for seed in range(6):
        arranged = rounds.arranged(seed=seed, shuffle=True, feedback_rate=0.9, feedback_delay=0)
        played = build("bandit", arranged, Settings(alpha=0.8, seed=seed)).play(arranged)
        log = logged(arranged, prompts, played.served, played.propensity, arranged.has_feedback)
        reward = RewardModel.of(log)
        for policy in ("always:micro-400k", "always:nano-109k", "random", "logged"):
            target = target_of(policy, log, SETTINGS, WordEncoder(), reward)
            evaluated = estimate_target(log, target, reward)
            truth = float((target.odds * rounds.satisfied[arranged.order]).sum(axis=1).mean())
            low, high = evaluated.attained.interval
            held.append(low <= truth <= high)
            assert evaluated.sla_met(truth) is (None if held[-1] else truth <= low)
    assert sum(held) >= 20


# Targets on a log


def live_log(name, rounds, prompts, settings) -> Log:
    """The log of a live policy with immediate feedback and its own propensities."""
    policy = live_build(name)(rounds.zoo, settings, Snapshot())
    served, propensity = [], []
    for row in range(len(rounds)):
        decision = policy.decide(Request(rounds.request_ids[row], prompts[row], gradable=False))
        index = rounds.zoo.index(decision.served)
        served.append(index)
        propensity.append(decision.propensity)
        costs = {decision.served: float(rounds.cost[row, index])}
        policy.learn(decision, Feedback(costs, {decision.served: float(rounds.satisfied[row, index])}))
    return logged(rounds, prompts, np.array(served), propensity)


@pytest.mark.parametrize("policy", ["bandit", "messplus"])
@pytest.mark.parametrize("impute", [False, True])
def test_a_learner_repeats_its_own_log(policy, impute):
    """With the same seed it makes every decision again, and every estimate is the mean of the log."""
    rounds, prompts = learnable(300), prompts_for(300)
    log = live_log(policy, rounds, prompts, SETTINGS)
    evaluated = result(log, policy, impute=impute)
    assert evaluated.overlap.mean_weight == pytest.approx(1.0)
    for name in ("IPS", "SNIPS"):
        each = by_name(evaluated)[name]
        assert each.attained.mean == pytest.approx(log.satisfied.mean())
        assert each.cost.mean == pytest.approx(log.cost.mean())
        assert (each.attained_ess, each.cost_ess) == (pytest.approx(300), pytest.approx(300))


def test_a_learner_that_never_agrees_learns_nothing():
    """Rejected requests leave no trace: every decision is that of a new policy, with its own random stream."""
    rounds, prompts = learnable(60), prompts_for(60)
    first = live_build("messplus")(rounds.zoo, SETTINGS, Snapshot()).decide(Request("r", prompts[0], gradable=False))
    other = (rounds.zoo.index(first.served) + 1) % 3
    log = logged(rounds, prompts, np.full(60, other), np.ones(60))
    odds = replay_odds(live_build("messplus"), log, SETTINGS, WordEncoder())
    assert (odds == np.eye(3)[rounds.zoo.index(first.served)]).all()
    evaluated = result(log, "messplus", impute=False)
    assert (evaluated.overlap.matched, evaluated.overlap.mean_weight, evaluated.overlap.uncovered) == (0.0, 0.0, 1.0)
    assert evaluated.attained.interval == (0.0, 1.0)
    assert evaluated.sla_met(0.7) is None


def test_rejected_requests_leave_no_trace():
    """The odds on later requests are those on a log without the rejected ones."""
    rounds, prompts = learnable(200), prompts_for(200)
    log = drawn(rounds, prompts, np.full(3, 1 / 3), 3)
    live = live_build("messplus")  # it draws nothing at random, since not all answers are graded
    odds = replay_odds(live, log, SETTINGS, WordEncoder())
    agreed = np.flatnonzero(odds[np.arange(200), log.served])
    assert 20 < len(agreed) < 150
    part = replace(
        log,
        request_ids=tuple(log.request_ids[row] for row in agreed),
        prompts=tuple(log.prompts[row] for row in agreed),
        features=log.features.rows(agreed),
        **{name: getattr(log, name)[agreed] for name in ("served", "propensity", "satisfied", "cost")},
    )
    assert (replay_odds(live, part, SETTINGS, WordEncoder()) == odds[agreed]).all()


@pytest.mark.parametrize("policy", ["bandit", "messplus"])
def test_correct_imputed_feedback_is_as_good_as_real_feedback(policy):
    """If each model always has the same outcome and cost, the reward model predicts them exactly."""
    prompts = prompts_for(300, 4)
    rounds = make_rounds(
        np.tile([0.0, 1.0, 1.0], (300, 1)), np.tile([1.0, 4.0, 20.0], (300, 1)), ["a", "b", "c"], prompts
    )
    log = drawn(rounds, prompts, np.full(3, 1 / 3), 1)
    whole = live_log(policy, rounds, prompts, SETTINGS)
    odds = replay_odds(live_build(policy), log, SETTINGS, WordEncoder(), RewardModel.of(log))
    assert odds[np.arange(300), whole.served] == pytest.approx(whole.propensity)


def test_static_mix_uses_the_doubly_robust_means():
    rounds, prompts = learnable(1500, 1), prompts_for(1500, 1)
    log = drawn(rounds, prompts, np.full(3, 1 / 3), 0)
    reward = RewardModel.of(log)
    mixed = target_of("static-mix", log, Settings(alpha=0.85), WordEncoder(), reward)
    (odds,) = np.unique(mixed.odds, axis=0)
    assert odds.sum() == pytest.approx(1.0)
    assert (odds > 0).sum() == 2
    means = [by_name(result(log, f"always:{model}"))["DR"].attained.mean for model in log.zoo.models]
    assert odds @ means == pytest.approx(0.85)


@pytest.mark.parametrize("policy", ["hindsight", "clairvoyant"])
def test_a_policy_that_needs_all_outcomes_is_refused(policy):
    with pytest.raises(UsageError, match="needs outcomes that a log does not hold"):
        result(small_log([0, 1], [1, 0]), policy)


@pytest.mark.parametrize("wrong", ["always:m9", "hindsight", "mess", "always"])
def test_an_invalid_policy_is_refused_before_any_replay(wrong):
    played = []
    with pytest.raises(UsageError):
        evaluate(
            small_log([0, 1], [1, 0]), ["bandit", "messplus", wrong], SETTINGS, WordEncoder(), progress=played.append
        )
    assert not {"bandit", "messplus"} & set(played)


def test_results_keep_the_order_of_the_policies():
    names = ["messplus", "always:m1", "bandit", "random"]
    evaluation = evaluate(small_log([0, 1] * 5, [1, 0] * 5), [*names, "random"], SETTINGS, WordEncoder())
    assert [each.policy for each in evaluation.results] == names


@pytest.mark.parametrize("policy", ["always:m9", "mess"])
def test_an_unknown_policy_is_refused(policy):
    with pytest.raises(UnknownNameError, match="known:"):
        result(small_log([0, 1], [1, 0]), policy)


def test_the_odds_of_a_decision_sum_to_one():
    rounds, prompts = learnable(80), prompts_for(80)
    for name in ("bandit", "messplus", "random", "static-mix", "always:large"):
        policy = build(name, rounds, SETTINGS)
        several = 0
        for row in range(80):
            decision = policy.decide(Request(rounds.request_ids[row], prompts[row]))
            assert decision.odds[decision.served] == decision.propensity
            assert sum(decision.odds.values()) == pytest.approx(1.0)
            assert all(chance > 0 for chance in decision.odds.values())
            several += len(decision.odds) > 1
            policy.learn(decision, Feedback({decision.served: 1.0}, {decision.served: 1.0}))
        assert (several > 0) == (name != "always:large")


# Logs with little in them


def test_a_log_of_one_model():
    evaluated = result(small_log([0] * 50, [1, 0] * 25, models=1), "random")
    for each in evaluated.estimates:
        assert (each.attained.mean, each.cost.mean) == (pytest.approx(0.5, abs=0.02), pytest.approx(2.0))
    assert evaluated.sla_met(0.2) is True
    assert evaluated.sla_met(0.9) is False


def test_a_log_without_overlap_determines_nothing():
    """The log has only one model, and the target serves the other."""
    log = small_log([0] * 50, [1] * 50)
    evaluated = result(log, "always:m1")
    each = by_name(evaluated)
    assert each["SNIPS"].attained.mean is None
    assert each["SNIPS"].cost.mean is None
    assert (each["IPS"].attained.mean, each["IPS"].attained.interval) == (0.0, (0.0, 1.0))
    assert each["IPS"].cost.interval is None
    assert (each["DR"].attained.interval, each["DR"].cost.interval) == ((0.0, 1.0), None)
    assert evaluated.overlap.uncovered == 1.0
    assert evaluated.sla_met(0.5) is None


def test_a_log_of_a_deterministic_policy_covers_half_of_a_mixture():
    """Every propensity is 1: half of the mixture's decisions are never seen, and may be anything."""
    log = small_log([0, 1] * 200, [1, 0] * 200)
    evaluated = result(log, "random")
    assert 0.4 < evaluated.overlap.uncovered < 0.5  # a half, as far as 400 rows can tell
    low, high = evaluated.attained.interval
    assert low < 0.1
    assert high > 0.9
    assert {each.cost.interval for each in evaluated.estimates} == {None}
    assert result(log, "logged").attained.mean == pytest.approx(0.5)


def test_a_log_without_feedback_has_no_attainment():
    log = small_log([0, 1] * 20, [np.nan] * 40, propensity=[0.5] * 40)
    evaluated = result(log, "always:m0")
    assert all(each.attained.mean is None and each.attained.interval is None for each in evaluated.estimates)
    assert by_name(evaluated)["DR"].cost.mean == pytest.approx(2.0)
    assert evaluated.sla_met(0.5) is None
    with pytest.raises(UsageError, match="static-mix needs some"):
        result(log, "static-mix")
    for impute in (False, True):
        assert result(log, "bandit", impute=impute).sla_met(0.5) is None


@pytest.mark.parametrize("policy", ["always:m0", "random", "static-mix", "bandit", "messplus", "logged"])
def test_a_log_of_a_single_request_decides_nothing(policy):
    evaluated = result(small_log([0], [1.0], propensity=[0.5]), policy, impute=True)
    assert evaluated.sla_met(0.5) is None
    assert by_name(evaluated)["DR"].cost.interval is None


def test_costs_count_all_requests_and_attainment_those_with_feedback():
    log = small_log([0, 1, 0, 1], [1, np.nan, np.nan, 0], [1, 2, 3, 4], [0.5] * 4)
    each = by_name(result(log, "random"))
    assert each["IPS"].cost.mean == pytest.approx(2.5)
    assert each["IPS"].attained.mean == pytest.approx(0.5)


# The reward model


def test_no_row_is_predicted_from_itself():
    rounds, prompts = learnable(200), prompts_for(200)
    log = drawn(rounds, prompts, np.full(3, 1 / 3), 0)
    before = cross_fitted(log.features, log.served, log.cost, 3)
    changed = log.cost.copy()
    changed[17] = 1e6
    after = cross_fitted(log.features, log.served, changed, 3)
    assert (after[17] == before[17]).all()
    assert not np.allclose(after[:, log.served[17]], before[:, log.served[17]])


def test_the_reward_model_learns_from_prompts_and_stays_in_range():
    rounds, prompts = learnable(1500, 1), prompts_for(1500, 1)
    log = drawn(rounds, prompts, np.full(3, 1 / 3), 0, has_feedback=0.9)
    predicted = cross_fitted(log.features, log.served, log.satisfied, 3)
    hard = np.array([prompt.split()[0] in ("prove", "what", "17", "primes") for prompt in prompts])
    small = predicted[:, rounds.zoo.index("small")]
    assert small[hard].mean() < small[~hard].mean() - 0.2
    assert 0.0 <= predicted.min() <= predicted.max() <= 1.0


def test_rare_models_are_predicted_by_means():
    log = small_log([0] * 30 + [1], [0.5] * 31, [2.0] * 30 + [40.0], models=3)
    predicted = cross_fitted(log.features, log.served, log.cost, 3)
    assert (predicted[:, 0] == 2.0).all()
    assert set(predicted[:30, 1]) <= {40.0, 2.0}  # its mean, or that of all models if its fold is held out
    assert 2.0 < predicted[:, 2].mean() < 5.0  # that of all: 3.2
    assert np.isnan(cross_fitted(log.features, log.served, np.full(31, np.nan), 3)).all()


# The log in the box


def test_the_log_in_the_box_is_up_to_date(root, tmp_path):
    """The bandit serves the same today; if it does not, `python benchmarks/make_log.py` writes the log again."""
    made = tmp_path / "made.parquet"
    make_log.write(root / "traces" / "box.parquet", made, "bandit", Settings(alpha=0.8), 0.9)
    one, other = (read(path, WordEncoder()) for path in (root / "traces" / "live.parquet", made))
    assert one.request_ids == other.request_ids
    assert (one.served == other.served).all()
    assert one.propensity == pytest.approx(other.propensity, rel=1e-9)
    assert one.satisfied == pytest.approx(other.satisfied, nan_ok=True)


def test_the_log_in_the_box_agrees_with_its_trace(box, root):
    """Its rows are those of the trace, and its intervals hold the truth of the fixed policies."""
    rounds, prompts = box
    log = read(root / "traces" / "live.parquet", WordEncoder())
    assert list(log.request_ids) == list(rounds.request_ids)
    assert list(log.prompts) == prompts
    rows = np.arange(len(log))
    assert (log.cost == rounds.cost[rows, log.served]).all()
    assert (log.satisfied == rounds.satisfied[rows, log.served])[log.has_feedback].all()
    assert 0.88 < log.has_feedback.mean() < 0.92
    reward = RewardModel.of(log)
    for policy in ("always:micro-400k", "always:nano-109k", "random"):
        target = target_of(policy, log, SETTINGS, WordEncoder(), reward)
        low, high = estimate_target(log, target, reward).attained.interval
        assert low <= (target.odds * rounds.satisfied).sum(axis=1).mean() <= high
