"""Whatever a table looks like: messctl reads it right, or says that it cannot. It is never read wrongly in silence."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shlex
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from importer_cases import table_of

from messctl.cli import run

MODELS = ["gpt-4o", "llama-3.1-8b", "small", "large", "Mixtral 8x7B", "org/model-x", "claude_3", "o1"]
PATTERNS = [
    ("score_{}", "cost_{}"), ("{}_score", "{}_cost"), ("{} score", "{} price"), ("acc/{}", "price_usd/{}"),
    ("{}|correct", "{}|total_cost"), ("quality ({})", "energy ({})"), ("{}", "cost_{}"), ("{}", "{} cost (USD)"),
    ("{}.reward", "{}.spend"),
]  # fmt: skip
JUNK = {
    "tokens_total": lambda row: 100 + row,
    "category": lambda row: ["math", "code"][row % 2],
    "latency_ms": lambda row: 0.5 * (row + 1),
    "mean_score": lambda row: 0.5,
    "notes": lambda row: f"see row {row}, please",
    "timestamp": lambda row: f"2026-01-0{row + 1}",
    "difficulty": lambda row: 0.25,
}


@dataclass(frozen=True)
class Table:
    models: list[str]
    satisfied: list[list[float | None]]
    costs: list[list[float]]
    pattern: tuple[str, str]
    notation: str
    junk: list[str]
    kind: str
    shuffle: int


LEVELS = {"words": [0, 1], "bits": [0, 1], "hundred": [0, 0.25, 0.5, 1], "percent": [0, 0.25, 0.5, 1]}


@st.composite
def tables(draw):
    models = draw(st.lists(st.sampled_from(MODELS), min_size=2, max_size=4, unique=True))
    notation = draw(st.sampled_from(["plain", "comma", "percent", "hundred", "words", "bits", "dollars", "thousands"]))
    levels = LEVELS.get(notation, [0, 0.25, 0.5, 1])
    rows = draw(st.integers(3, 6))
    satisfied = [[draw(st.sampled_from([*levels, None])) for _ in models] for _ in range(rows)]
    satisfied[0], satisfied[1] = [levels[-2] if notation != "bits" else 1] * len(models), [1] * len(models)
    costs = [[draw(st.sampled_from([0.25, 1.5, 3.75, 1234.5])) for _ in models] for _ in range(rows)]
    return Table(
        models, satisfied, costs, draw(st.sampled_from(PATTERNS)), notation,
        draw(st.lists(st.sampled_from(sorted(JUNK)), max_size=3, unique=True)),
        draw(st.sampled_from(["csv", "tsv", "jsonl", "parquet", "long"])), draw(st.integers(0, 99)),
    )  # fmt: skip


def score_text(value, notation):
    if value is None:
        return ""
    if notation == "words":
        return "pass" if value else "FAIL"
    if notation == "bits":
        return str(int(value))
    if notation == "percent":
        return f"{value * 100:g}%"
    if notation == "hundred":
        return f"{value * 100:g}"
    return str(value).replace(".", ",") if notation == "comma" else str(value)


def cost_text(value, notation):
    if notation == "comma":
        return f"{value:,}".replace(",", " ").replace(".", ",")
    if notation == "dollars":
        return f"${value}"
    return f"{value:,}" if notation == "thousands" else str(value)


def records_of(table):
    named = {m: (table.pattern[0].format(m), table.pattern[1].format(m)) for m in table.models}
    texts = table.kind in ("csv", "tsv", "long") or table.notation not in ("plain", "hundred", "bits")
    for row, (scores, costs) in enumerate(zip(table.satisfied, table.costs, strict=True)):
        record = {"id": f"r{row}", "prompt": f"what is {row}?"}
        cells = {}
        for model, score, cost in zip(table.models, scores, costs, strict=True):
            number = None if score is None else score * 100 if table.notation == "hundred" else score
            cells[model] = (
                score_text(score, table.notation) if texts else number,
                cost_text(cost, table.notation) if texts else cost,
            )
        if table.kind == "long":
            for model, (score, cost) in cells.items():
                yield record | {"model": model, "score": score, "cost": cost}
            continue
        for model, pair in cells.items():
            record |= dict(zip(named[model], pair, strict=True))
        yield record | {name: str(JUNK[name](row)) if texts else JUNK[name](row) for name in table.junk}


def written(table, folder):
    records = list(records_of(table))
    names = sorted(records[0])
    random.Random(table.shuffle).shuffle(names)
    records = [{name: record[name] for name in names} for record in records]
    if table.kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), folder / "t.parquet")
        return "t.parquet"
    if table.kind == "jsonl":
        (folder / "t.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return "t.jsonl"
    mark = "\t" if table.kind == "tsv" else ";" if table.notation == "comma" else ","
    lines = [mark.join(names)] + [
        mark.join(f'"{cell}"' if mark in str(cell) else str(cell) for cell in record.values()) for record in records
    ]
    (folder / f"t.{table.kind}").write_text("\ufeff" * (table.shuffle % 2) + "\n".join(lines) + "\n")
    return f"t.{table.kind}"


def command(*words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["import", *words])
    return code, out.getvalue(), err.getvalue()


@given(tables())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_proposal_reads_the_table_that_was_written_and_other_formats_refuse_it(tmp_path_factory, table):
    folder = tmp_path_factory.mktemp("table")
    with contextlib.chdir(folder):
        name = written(table, folder)
        for importer in ("routellm", "routerbench"):
            code, _, err = command(importer, name, "-o", "other.parquet")
            assert code == 2, (importer, err)
        code, out, err = command("table", name, "-o", "trace.parquet")
        assert code == 2
        assert not Path("trace.parquet").exists()
        if not out:
            return
        code, _, err = command(*shlex.split(out)[2:])
        assert code == 0, err
        found = table_of(Path("trace.parquet"))
        observed = [row for row in range(len(table.satisfied)) if any(s is not None for s in table.satisfied[row])]
        assert list(found) == [f"r{row}" for row in observed]
        for row in observed:
            for model, score, cost in zip(table.models, table.satisfied[row], table.costs[row], strict=True):
                assert found[f"r{row}"][model] == (score, cost), (out, table)
            assert set(found[f"r{row}"]) == set(table.models)
