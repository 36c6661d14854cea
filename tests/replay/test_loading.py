"""Loading a trace into memory, and the facts about it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from making import write_trace

from messctl.errors import TraceError
from messctl.replay.loading import load
from messctl.replay.streaming import survey
from messctl.trace import Outcome, Row, TraceFile, TraceMetadata, TraceWriter

GOOD = [
    {"a": (1.0, 1.0), "b": (1.0, 5.0)},
    {"a": (0.0, 1.0), "b": (1.0, 5.0)},
    {"a": (0.5, 2.0), "b": (1.0, 4.0)},
]


READERS = (lambda path: load(path).facts, survey)
"""Both ways to the facts about a trace."""


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


def test_models_are_sorted_by_name_and_the_costliest_is_the_reference(tmp_path):
    path = write_trace(tmp_path / "t.parquet", GOOD, models=("b", "a"))
    recording = load(path)
    assert recording.rounds.zoo.models == ("a", "b")
    assert recording.rounds.zoo.reference == "b"
    assert load(path, "a").rounds.zoo.reference == "a"
    assert recording.rounds.satisfied.tolist() == [[1.0, 1.0], [0.0, 1.0], [0.5, 1.0]]
    assert recording.rounds.cost.tolist() == [[1.0, 5.0], [1.0, 5.0], [2.0, 4.0]]
    assert recording.rounds.request_ids == ["r0", "r1", "r2"]
    assert (recording.facts.cost_unit, recording.facts.left_out) == ("J", 0)


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


def test_prompt_costs_follow_from_the_tokens_and_the_prices_that_fit(tmp_path):
    path = counted(tmp_path / "t.parquet", "a")
    assert load(path).rounds.prompt_cost is None
    rounds = load(path, prompt_costs=True).rounds
    read = pq.read_table(path)["tokens_in/a"].to_numpy()
    assert rounds.prompt_cost[:, 0] == pytest.approx(1.0 + 2.0 * read)
    assert not rounds.prompt_cost[:, 1].any()
    assert rounds.rows(np.array([3])).prompt_cost == pytest.approx(rounds.prompt_cost[[3]])


@pytest.mark.parametrize("model", ["a", "b"])
@pytest.mark.parametrize("missing", ["tokens_in", "tokens_out"])
def test_prompt_costs_need_the_tokens_of_every_row(tmp_path, model, missing):
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
    assert recording.facts.left_out == 3


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
    (lambda t: t.replace_schema_metadata({"messctl": "{"}), "the schema metadata 'messctl' is not valid"),
    (lambda t: t.replace_schema_metadata({"messctl": '{"version": 99}'}), "upgrade messctl"),
]


@pytest.mark.parametrize(("change", "message"), BAD_SHAPES)
def test_a_wrong_column_is_named(tmp_path, change, message):
    with pytest.raises(TraceError) as caught:
        load(edited(tmp_path / "t.parquet", change))
    assert message in str(caught.value)


def test_a_trace_without_a_complete_row_is_refused(tmp_path):
    rows = [{"a": (1.0, 1.0)}, {"b": (1.0, 2.0)}]
    path = write_trace(tmp_path / "t.parquet", rows)
    for read in READERS:
        with pytest.raises(TraceError, match="no row has an outcome and a cost of every model"):
            read(path)


@pytest.mark.parametrize("cost", [None, 1.0])
def test_a_model_that_was_never_observed_is_named(tmp_path, cost):
    path = write_trace(tmp_path / "t.parquet", [{"a": (1.0, 1.0), "b": (None, cost)}] * 3, ids=["x", "y", "z"])
    for read in READERS:
        with pytest.raises(TraceError, match=r"no row has an outcome of 'b'; .*--policy logged"):
            read(path)


@pytest.mark.parametrize(("lacking", "named"), [((11, 2), "a"), ((5, 12), "b"), ((10, 0), None), ((7, 7), None)])
def test_the_scarcest_model_is_the_one_most_rows_lack(tmp_path, lacking, named):
    rows = [{"a": (1.0, 1.0), "b": (0.0, 2.0)} for _ in range(20)]
    for row in rows[: lacking[0]]:
        row["a"] = (None, 1.0)
    for row in rows[len(rows) - lacking[1] :]:
        row["b"] = (0.0, None)
    path = write_trace(tmp_path / "t.parquet", rows)
    for read in READERS:
        facts = read(path)
        assert (facts.lacking, facts.scarcest) == (lacking, named)


def test_a_file_that_is_not_a_trace_is_refused(tmp_path):
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


def test_the_batch_size_changes_nothing(tmp_path):
    path = write_trace(tmp_path / "t.parquet", GOOD * 5, ids=[f"r{i}" for i in range(15)])
    batches = list(TraceFile(path).batches(rows_per_batch=4))
    assert [batch.first_row for batch in batches] == [1, 5, 9, 13]
    assert np.concatenate([batch.cost for batch in batches]).tolist() == load(path).rounds.cost.tolist()
