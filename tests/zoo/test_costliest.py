"""The costliest model is the reference unless another is named: one rule, the same in every command."""

import itertools
import random
from pathlib import Path

import pytest

from messctl.backends import Scripted
from messctl.costs.tokens import StatedMeter
from messctl.learning.features import WordEncoder
from messctl.live.router import Router
from messctl.live.warm_start import learn_from
from messctl.off_policy import read
from messctl.policies import live_build
from messctl.replay.loading import load
from messctl.replay.streaming import survey
from messctl.state.store import Store
from messctl.trace import Outcome, Row, TraceFile, TraceMetadata, TraceWriter
from messctl.zoo import CostPerToken, ModelSpec, Settings, Zoo, costliest

NAN = float("nan")


@pytest.mark.parametrize(
    ("costs", "model"),
    [
        ({"a": 1.0, "b": 3.0, "c": 2.0}, "b"),
        ({"c": 3.0, "b": 3.0, "a": 1.0}, "b"),
        ({"b": 0.0, "a": 0.0}, "a"),
        ({"a": NAN, "b": 0.0, "c": NAN}, "b"),
        ({"b": NAN, "a": NAN}, "a"),
    ],
)
def test_a_tie_between_the_costliest_goes_to_the_first_name(costs, model):
    for order in itertools.permutations(costs):
        assert costliest({name: costs[name] for name in order}) == model


def written(path: Path, columns, costs) -> Path:
    """Write a live log with the models in the order of `columns`; each answers every request at its cost."""
    request = ("propensity", "served", "explored", "judged", "alpha")
    with TraceWriter(path, TraceMetadata(models=tuple(columns), cost_unit="J"), request=request) as writer:
        for row in range(6):
            writer.append(
                Row(
                    f"r{row}",
                    f"prompt {row}",
                    {model: Outcome(1.0, costs[model]) for model in columns},
                    propensity=0.5,
                    served=sorted(columns)[row % 3],
                    explored=False,
                    judged=row + 1,
                    alpha=0.8,
                )
            )
    return path


@pytest.mark.parametrize(
    ("costs", "reference"), [((1.0, 3.0, 2.0), "b"), ((1.0, 3.0, 3.0), "b"), ((2.0, 2.0, 2.0), "a")]
)
def test_every_command_takes_the_same_reference_for_any_order_of_columns(tmp_path, costs, reference):
    by_name = dict(zip("abc", costs, strict=True))
    columns = random.Random(str(costs)).sample("abc", 3)
    path = written(tmp_path / "t.parquet", columns, by_name)
    assert load(path).rounds.zoo.reference == reference
    assert survey(path).zoo.reference == reference
    assert read(path, WordEncoder()).zoo.reference == reference
    prices = {name: CostPerToken("J", cost, cost) for name, cost in by_name.items()}
    models = {name: ModelSpec(name, Path(name), cost=prices[name]) for name in columns}
    with Store(tmp_path / "state") as store:
        assert Router(models, Settings(), Scripted({}), StatedMeter("J"), store).zoo.reference == reference


def test_a_warm_start_takes_the_costliest_model_as_reference(tmp_path, monkeypatch):
    """If the zoo's own reference is not in the trace."""
    trace = TraceFile(written(tmp_path / "t.parquet", "cab", {"a": 1.0, "b": 2.0, "c": 2.0}))
    references = set()

    def build(zoo, *arguments):
        references.add(zoo.reference)
        return live_build("messplus")(zoo, *arguments)

    monkeypatch.setattr("messctl.live.warm_start.live_build", lambda _: build)
    learn_from(trace, Zoo.of("abcd", "d"), Settings(policy="messplus"))
    assert references == {"b"}
