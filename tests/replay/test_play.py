"""Loading a trace, and what a replay measures."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import learnable, make_recording, write_trace

from messctl.errors import MessctlError, TraceError, UnknownNameError, UsageError
from messctl.policies import build, default_names
from messctl.replay.loading import Holdout, held_out, load, scarcest
from messctl.replay.play import Conditions, promised, replay
from messctl.replay.streaming import survey
from messctl.trace import Outcome, Row, TraceFile, TraceMetadata, TraceWriter
from messctl.zoo import Settings

GOOD = [
    {"a": (1.0, 1.0), "b": (1.0, 5.0)},
    {"a": (0.0, 1.0), "b": (1.0, 5.0)},
    {"a": (0.5, 2.0), "b": (1.0, 4.0)},
]


def edited(path: Path, change) -> Path:
    """The good trace, with its Arrow table changed."""
    write_trace(path, GOOD)
    pq.write_table(change(pq.read_table(path)), path)
    return path


def with_value(column, row, value):
    def change(table):
        values = table[column].to_pylist()
        values[row] = value
        return table.set_column(table.schema.get_field_index(column), column, pa.array(values, table[column].type))

    return change


def renamed(old, new):
    return lambda table: table.rename_columns([new if name == old else name for name in table.column_names])


def test_a_good_trace_loads_in_order_of_name_with_the_costliest_as_reference(tmp_path):
    path = write_trace(tmp_path / "t.parquet", GOOD, models=("b", "a"))
    recording = load(path)
    assert recording.rounds.zoo.models == ("a", "b")
    assert recording.rounds.zoo.reference == "b"
    assert load(path, "a").rounds.zoo.reference == "a"
    assert recording.rounds.satisfied.tolist() == [[1.0, 1.0], [0.0, 1.0], [0.5, 1.0]]
    assert recording.rounds.cost.tolist() == [[1.0, 5.0], [1.0, 5.0], [2.0, 4.0]]
    assert recording.rounds.request_ids == ["r0", "r1", "r2"]
    assert (recording.cost_unit, recording.left_out) == ("J", 0)


def counted(path: Path, model: str, missing: str = "") -> Path:
    """A trace whose costs follow from tokens: of `a` 1 + 2 × in + 3 × out, of `b` nothing at all."""
    rng = np.random.default_rng(0)
    fields = ("satisfied", "cost", "tokens_in", "tokens_out")
    with TraceWriter(path, TraceMetadata(models=("a", "b"), cost_unit="J"), fields) as writer:
        for row in range(20):
            read, said = (int(count) for count in rng.integers(1, 100, 2))
            a = Outcome(1.0, 1.0 + 2.0 * read + 3.0 * said, tokens_in=read, tokens_out=said)
            b = Outcome(0.0, 0.0, tokens_in=read, tokens_out=1)
            if row == 7 and missing:
                a, b = (
                    replace(each, **{missing: None}) if name == model else each for name, each in (("a", a), ("b", b))
                )
            writer.append(Row(f"r{row}", f"prompt {row}", {"a": a, "b": b}))
    return path


def test_what_reading_costs_follows_from_the_tokens_and_the_prices_that_fit(tmp_path):
    path = counted(tmp_path / "t.parquet", "a")
    assert load(path).rounds.prompt_cost is None
    rounds = load(path, prompt_costs=True).rounds
    read = pq.read_table(path)["tokens_in/a"].to_numpy()
    assert rounds.prompt_cost[:, 0] == pytest.approx(1.0 + 2.0 * read)
    assert not rounds.prompt_cost[:, 1].any()
    assert rounds.rows(np.array([3])).prompt_cost == pytest.approx(rounds.prompt_cost[[3]])


@pytest.mark.parametrize("model", ["a", "b"])
@pytest.mark.parametrize("missing", ["tokens_in", "tokens_out"])
def test_where_tokens_are_missing_nothing_can_be_told(tmp_path, model, missing):
    path = counted(tmp_path / "t.parquet", model, missing)
    load(path)
    with pytest.raises(TraceError, match=f"tokens_in and tokens_out of model '{model}'"):
        load(path, prompt_costs=True)


@pytest.mark.parametrize("change", [
    lambda t: t.cast(pa.schema([f.with_type(pa.string()) if f.type == pa.large_string() else f for f in t.schema])),
    lambda t: t.set_column(1, "prompt", t["prompt"].cast(pa.string()).dictionary_encode()),
    lambda t: t.set_column(t.schema.get_field_index("cost/b"), "cost/b", pa.array([5, 5, 4], pa.int32())),
    lambda t: t.append_column("remark", pa.array(["x", "y", "z"])),
    lambda t: t.select(list(reversed(t.column_names))),
    lambda t: t.replace_schema_metadata(None),
])  # fmt: skip
def test_a_trace_written_by_another_tool_loads_the_same(tmp_path, change):
    good = load(write_trace(tmp_path / "good.parquet", GOOD)).rounds
    other = load(edited(tmp_path / "other.parquet", change)).rounds
    assert other.request_ids == good.request_ids
    assert other.cost.tolist() == good.cost.tolist()
    assert other.features.values.tobytes() == good.features.values.tobytes()


def test_rows_that_lack_a_model_are_left_out_and_counted(tmp_path):
    rows = [
        *GOOD,
        {"a": (1.0, 1.0)},
        {"a": (1.0, 1.0), "b": (None, 5.0)},
        {"a": (1.0, 1.0), "b": (1.0, None)},
    ]
    recording = load(write_trace(tmp_path / "t.parquet", rows))
    assert len(recording.rounds) == 3
    assert recording.left_out == 3


BAD_VALUES = [
    ("cost/a", 1, -0.5, "row 2, column 'cost/a': is -0.5"),
    ("cost/b", 0, float("nan"), "row 1, column 'cost/b': is NaN or infinite"),
    ("cost/b", 0, 1e101, "row 1, column 'cost/b': is 1e+101"),
    ("cost/b", 0, 1e-101, "row 1, column 'cost/b': is 1e-101"),
    ("cost/b", 2, float("inf"), "row 3, column 'cost/b': is NaN or infinite"),
    ("satisfied/a", 2, 1.5, "row 3, column 'satisfied/a': is 1.5"),
    ("satisfied/a", 0, -0.1, "row 1, column 'satisfied/a': is -0.1"),
    ("satisfied/a", 0, float("nan"), "row 1, column 'satisfied/a': is NaN or infinite"),
    ("request_id", 2, "r0", "row 3, column 'request_id': 'r0' is already the id of row 1"),
    ("request_id", 1, None, "row 2, column 'request_id': is empty"),
    ("prompt", 1, None, "row 2, column 'prompt': is empty"),
]


@pytest.mark.parametrize(("column", "row", "value", "message"), BAD_VALUES)
def test_a_wrong_value_is_named_by_row_and_column(tmp_path, column, row, value, message):
    path = edited(tmp_path / "t.parquet", with_value(column, row, value))
    with pytest.raises(TraceError) as caught:
        load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


BAD_SHAPES = [
    (renamed("prompt", "promt"), "column 'prompt' is missing (did you mean 'promt'?)"),
    (renamed("request_id", "id"), "column 'request_id' is missing"),
    (renamed("satisfied/a", "satisfeid/a"), "unknown column 'satisfeid/a' (did you mean 'satisfied/a'?)"),
    (renamed("cost/a", "cots/a"), "unknown column 'cots/a' (did you mean 'cost/a'?)"),
    (lambda t: t.drop_columns(["satisfied/b"]), "column 'satisfied/b' is missing"),
    (lambda t: t.drop_columns(["cost/b"]), "has no costs for 'b'; import it again with --cost 'b=VALUE'"),
    (lambda t: t.drop_columns(["cost/a", "cost/b"]), "--cost 'a=VALUE'"),
    (
        lambda t: t.drop_columns(["satisfied/b", "cost/b"]).replace_schema_metadata(None),
        "has one model only, 'a'; routing needs at least two",
    ),
    (
        lambda t: t.drop_columns(["satisfied/a", "cost/a", "satisfied/b", "cost/b"]).replace_schema_metadata(None),
        "no column 'satisfied/<model>'",
    ),
    (lambda t: t.slice(0, 0), "has no rows"),
    (
        lambda t: t.set_column(1, "prompt", pa.array([1, 2, 3])),
        "column 'prompt' has type int64; it must be text",
    ),
    (
        lambda t: t.set_column(t.schema.get_field_index("cost/a"), "cost/a", pa.array(["1", "2", "3"])),
        "column 'cost/a' has type string; it must be a number",
    ),
    (lambda t: t.replace_schema_metadata({"messctl": "{"}), "the schema metadata 'messctl' is not the JSON"),
    (lambda t: t.replace_schema_metadata({"messctl": '{"version": 99}'}), "upgrade messctl"),
]


@pytest.mark.parametrize(("change", "message"), BAD_SHAPES)
def test_a_wrong_shape_is_named(tmp_path, change, message):
    with pytest.raises(TraceError) as caught:
        load(edited(tmp_path / "t.parquet", change))
    assert message in str(caught.value)


def test_a_trace_in_which_no_row_is_complete(tmp_path):
    rows = [{"a": (1.0, 1.0)}, {"b": (1.0, 2.0)}]
    path = write_trace(tmp_path / "t.parquet", rows)
    for read in (load, survey):
        with pytest.raises(TraceError, match="in no row is there an outcome of every model; nothing"):
            read(path)


@pytest.mark.parametrize("cost", [None, 1.0])
def test_a_model_that_was_never_observed_is_named(tmp_path, cost):
    path = write_trace(tmp_path / "t.parquet", [{"a": (1.0, 1.0), "b": (None, cost)}] * 3, ids=["x", "y", "z"])
    for read in (load, survey):
        with pytest.raises(
            TraceError, match=r"outcome of every model, and in none at all one of 'b'; .*--policy logged"
        ):
            read(path)


@pytest.mark.parametrize(("lacking", "named"), [((11, 2), "a"), ((5, 12), "b"), ((10, 0), None), ((7, 7), None)])
def test_the_model_for_want_of_which_most_rows_are_left_out(tmp_path, lacking, named):
    rows = [{"a": (1.0, 1.0), "b": (0.0, 2.0)} for _ in range(20)]
    for row in rows[: lacking[0]]:
        row["a"] = (None, 1.0)
    for row in rows[len(rows) - lacking[1] :]:
        row["b"] = (0.0, None)
    path = write_trace(tmp_path / "t.parquet", rows)
    for read in (load, survey):
        source = read(path)
        assert (source.lacking, scarcest(source)) == (lacking, named)


def test_what_is_no_trace_at_all(tmp_path):
    good = write_trace(tmp_path / "good.parquet", GOOD * 2000, ids=[f"r{i}" for i in range(6000)])
    (tmp_path / "text.parquet").write_text("hello")
    (tmp_path / "empty.parquet").write_bytes(b"")
    (tmp_path / "cut.parquet").write_bytes(good.read_bytes()[:-100])
    data = bytearray(good.read_bytes())
    data[200:900] = bytes(700)
    (tmp_path / "damaged.parquet").write_bytes(data)
    for name, message in [
        ("absent.parquet", "no such file"),
        (".", "not a file"),
        ("text.parquet", "not a Parquet file"),
        ("empty.parquet", "not a Parquet file"),
        ("cut.parquet", "incomplete"),
        ("damaged.parquet", "damaged or incomplete"),
    ]:
        with pytest.raises(TraceError, match=message):
            load(tmp_path / name)


def test_the_batch_size_does_not_matter(tmp_path):
    path = write_trace(tmp_path / "t.parquet", GOOD * 5, ids=[f"r{i}" for i in range(15)])
    batches = list(TraceFile(path).batches(rows_per_batch=4))
    assert [batch.first_row for batch in batches] == [1, 5, 9, 13]
    assert np.concatenate([batch.cost for batch in batches]).tolist() == load(path).rounds.cost.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"replicas": 0}, "replicas is 0"),
        ({"feedback_rate": 1.1}, "feedback-rate is 1.1"),
        ({"feedback_rate": float("nan")}, "feedback-rate is nan"),
        ({"feedback_delay": -1}, "feedback-delay is -1"),
    ],
)
def test_impossible_conditions(arguments, message):
    with pytest.raises(UsageError, match=message):
        Conditions(**arguments)


def test_an_alpha_beyond_every_policy_names_the_closest_model():
    recording = make_recording(learnable(200))
    reach = recording.rounds.satisfied.max(axis=1).mean()
    with pytest.raises(MessctlError, match=rf"{reach:.4f} can be attained; the closest model, 'large', attains 0\."):
        replay(recording, ["messplus"], Settings(alpha=0.999), Conditions())


def test_an_unknown_policy_is_refused_before_anything_is_played():
    has_feedback = []
    with pytest.raises(UnknownNameError, match="did you mean 'hindsight'"):
        replay(
            make_recording(learnable(9)),
            ["random", "hindsigt"],
            Settings(alpha=0.1),
            Conditions(),
            has_feedback.append,
        )
    assert has_feedback == []


def test_a_result_adds_up():
    recording = make_recording(learnable(500))
    names = default_names(recording.rounds.zoo.models)
    outcome = replay(recording, [*names, "messplus"], Settings(alpha=0.85, c=0.5, policy="messplus"), Conditions())
    results = {result.policy: result for result in outcome.results}
    assert list(results) == names  # each once
    assert outcome.judged.policy == "messplus"
    router, large, mix = results["messplus"], results["always:large"], results["static-mix"]
    played = outcome.played["messplus"]
    assert router.attained == played.satisfied.mean() == router.attained_all
    assert router.total_cost == pytest.approx(played.cost.sum())
    assert router.mean_cost == pytest.approx(router.total_cost / 500)
    assert router.cost_vs_costliest == pytest.approx(router.mean_cost / large.mean_cost)
    assert router.cost_vs_static_mix == pytest.approx(router.mean_cost / mix.mean_cost)
    assert router.explored == played.explored.mean()
    assert router.certificate == pytest.approx(0.85 - router.queue_final / 500)
    assert router.v_per_cost_unit == pytest.approx(0.2 / np.nanmax(played.mean_cost[-1]), rel=0.01)
    assert (large.v, large.c, large.v_per_cost_unit) == (None, None, None)
    assert large.attained == recording.rounds.satisfied[:, 0].mean()
    assert large.model_share == {"large": 1.0, "middle": 0.0, "small": 0.0}
    served = {model: float((played.served == k).mean()) for k, model in enumerate(recording.rounds.zoo.models)}
    assert router.model_share == pytest.approx(served)


def test_several_seeds_are_their_means_and_spread():
    recording, settings = make_recording(learnable(300)), Settings(alpha=0.85, seed=4)
    single = [
        replay(recording, ["messplus"], Settings(alpha=0.85, seed=seed), Conditions(shuffle=True)).results[0]
        for seed in (4, 5, 6)
    ]
    both = replay(recording, ["messplus", "static-mix"], settings, Conditions(seeds=3, shuffle=True)).results
    assert both[0].attained == pytest.approx(np.mean([result.attained for result in single]))
    assert both[0].mean_cost_spread == pytest.approx(np.std([result.mean_cost for result in single], ddof=1))
    assert both[0].attained_spread == pytest.approx(np.std([result.attained for result in single], ddof=1))
    assert both[1].attained_spread is None  # a yardstick has no luck
    assert single[0].attained_spread is None


def test_feedback_that_never_comes_changes_nothing():
    result = replay(
        make_recording(learnable(100)), ["messplus"], Settings(alpha=0.8), Conditions(feedback_rate=0.0)
    ).results[0]
    assert (result.attained, result.certificate, result.sla_met, result.queue_final) == (
        None,
        None,
        None,
        0.0,
    )
    assert result.attained_all > 0


def test_feedback_is_counted_where_it_comes():
    recording = make_recording(learnable(1000))
    outcome = replay(recording, ["messplus"], Settings(alpha=0.8), Conditions(feedback_rate=0.3))
    satisfied = outcome.played["messplus"].satisfied
    assert 200 < (~np.isnan(satisfied)).sum() < 400
    assert outcome.results[0].attained == pytest.approx(np.nanmean(satisfied))


@pytest.mark.parametrize("policy", ["messplus", "bandit"])
def test_a_margin_is_aimed_at_and_the_promise_is_judged(policy):
    recording = make_recording(learnable(300))
    with_margin = Settings(alpha=0.75, margin=0.125)
    played = replay(recording, [policy, "static-mix"], with_margin, Conditions())
    other = replay(recording, [policy, "static-mix"], Settings(alpha=0.875), Conditions())
    ours, mix = played.results
    assert played.played[policy].served.tolist() == other.played[policy].served.tolist()
    assert ours.attained == other.results[0].attained
    assert ours.certificate == pytest.approx(0.75 - ours.queue_final / 300)
    assert ours.queue_final < other.results[0].queue_final == played.played[policy].queue_final
    assert ours.sla_met is True
    assert mix.attained == pytest.approx(0.75)
    assert Settings(alpha=0.9, margin=0.5).aim == 1.0


@pytest.mark.parametrize("conditions", [Conditions(), Conditions(feedback_delay=4, feedback_rate=0.6)])
def test_the_debt_against_what_is_promised_is_that_of_a_policy_that_aims_at_it(conditions):
    """The books of one that aims elsewhere come to the same where they hold the same answers."""
    recording = make_recording(learnable(200))
    for policy in ("messplus", "bandit"):
        own = replay(recording, [policy], Settings(alpha=0.75), conditions).played[policy]
        other = promised(replace(own, alpha=0.9), 0.75, delay=conditions.feedback_delay)
        assert promised(own, 0.75) is own
        assert other.alpha == 0.75
        for name in ("queue_before", "queue_after"):
            assert getattr(other, name).tobytes() == getattr(own, name).tobytes()


@pytest.mark.parametrize("holdout", [None, Holdout(0.4)])
def test_replicas_share_nothing_and_their_debts_add_up(holdout):
    """Each one is a replay of its own share of the requests."""
    recording, settings = make_recording(learnable(301)), Settings(alpha=0.85, seed=5)
    conditions = Conditions(seeds=2, replicas=3, shuffle=True)
    together = replay(recording, ["messplus", "static-mix"], settings, conditions, holdout=holdout).results
    paid, good, queue = [], [], []
    for k in range(2):
        arranged = recording.rounds.arranged(seed=5 + k, shuffle=True, feedback_rate=1.0, feedback_delay=0)
        for replica in range(3):
            part = replace(arranged, order=arranged.order[replica::3], has_feedback=arranged.has_feedback[replica::3])
            played = build("messplus", part, replace(settings, seed=5 + k + 2 * replica)).play(part)
            queue.append(played.queue_final)
            if holdout:
                played = played.only(held_out(recording, holdout)[np.flatnonzero(np.arange(301) % 3 == replica)])
            paid.append(played.cost)
            good.append(played.satisfied)
    assert sum(map(len, paid)) == 2 * (round(0.4 * 301) if holdout else 301)
    assert together[0].mean_cost == pytest.approx(np.concatenate(paid).mean())
    assert together[0].attained == pytest.approx(np.concatenate(good).mean())
    if not holdout:
        assert together[0].attained >= together[0].certificate - 1e-12
    assert together[0].queue_final == pytest.approx(sum(queue) / 2)
    assert together[1].attained == pytest.approx(0.85)  # a yardstick is one, whatever the replicas


def test_more_replicas_than_requests():
    result = replay(make_recording(learnable(3)), ["messplus"], Settings(alpha=0.1), Conditions(replicas=9)).results[0]
    assert result.requests == 3
    assert sum(result.model_share.values()) == pytest.approx(1.0)


def test_golden_numbers_on_the_trace_in_the_box(root):
    recording = load(root / "traces" / "box.parquet")
    outcome = replay(recording, default_names(recording.rounds.zoo.models), Settings(), Conditions())
    found = {result.policy: (result.attained, result.mean_cost) for result in outcome.results}
    for policy, numbers in GOLDEN.items():
        assert found[policy] == pytest.approx(numbers, rel=1e-6), policy
    assert set(found) == set(GOLDEN)


GOLDEN = {
    "always:micro-400k": (0.855, 0.002432007330133334),
    "always:mini-1m": (0.9181666666666667, 0.0080266109952),
    "always:nano-109k": (0.644, 0.0006600136405333334),
    "always:pico-34k": (0.4806666666666667, 0.00020865576533333333),
    "random": (0.7244583333333333, 0.0028318219328000004),
    "static-mix": (0.8, 0.001970113240427173),
    "messplus": (0.8115, 0.003393014112),
    "bandit": (0.8, 0.0018291770816000004),
    "hindsight": (0.8, 0.0012371271872),
    "clairvoyant": (0.8, 0.0004412782677333334),
}
