"""Makers for the tests of recordings: plans, scripted answers, and the rows of a trace."""

from __future__ import annotations

import pyarrow.parquet as pq

from messctl.backends import Scripted
from messctl.costs.tokens import StatedMeter
from messctl.record.journal import Journal, journal_path
from messctl.record.prompts import Prompt
from messctl.record.recorder import Plan, record, write_trace
from messctl.zoo import CostPerToken, ModelSpec
from messctl.zoo.models import BOX

COST = CostPerToken("USD", 1.0, 2.0)
METER = StatedMeter("USD")


def spec(name):
    return ModelSpec(name, BOX / f"{name}.gguf", cost=COST)


def plan_of(n, models=("a", "b"), grade=None, **more):
    prompts = [Prompt(f"r{number}", f"question {number}", (str(number % 3),)) for number in range(n)]
    by_reference = lambda prompt, answer: float(answer in prompt.references)  # noqa: E731
    return Plan(prompts, [spec(name) for name in models], "exact", grade or by_reference, **more)


def answers(model, question):
    number = int(question.prompt.split()[1])
    return str(number % 3) if model.name == "a" or number % 2 else "?"


def recorded(plan, path, backend=None):
    with Journal(journal_path(path), plan.terms(METER)) as journal:
        record(plan, backend or Scripted(answers, logprob=-0.5), METER, journal)
        tallies = write_trace(plan, METER, journal, path, "a test")
        journal.remove()
    return tallies


def rows(path, without=("latency_s",)):
    table = pq.read_table(path)
    return table.select([name for name in table.column_names if not name.startswith(tuple(without))]).to_pylist()
