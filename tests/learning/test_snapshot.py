"""What a router forgets if its costs come from another source, and what it keeps."""

import numpy as np
import pytest

from messctl.learning.snapshot import ModelSnapshot, Snapshot


@pytest.mark.parametrize("source", ["J: a meter", "USD: a price", "kWh: a meter"])
def test_costs_of_another_source_are_forgotten_and_all_else_stays(source):
    """Whether the other source's name sorts before this one or after it."""
    sources = ("J: a meter", "USD: a price", "kWh: a meter")
    learned, paid = {"weight": np.ones(2)}, {"ridge": np.ones(3)}
    models = {each: ModelSnapshot(1.5, 7, each, learned, paid) for each in sources}
    known = Snapshot(decided=9, queue=2.5, cost_source="USD: a price", shared=learned, cost_shared=paid, models=models)
    after = known.costs_from(source)
    assert (after.decided, after.queue, after.shared, after.cost_source) == (9, 2.5, learned, source)
    assert after.cost_shared == (paid if source == "USD: a price" else {})
    for each, model in after.models.items():
        assert (model.arrays, model.cost_source) == (learned, source)
        kept = (1.5, 7, paid) if each == source else (0.0, 0, {})
        assert (model.mean_cost, model.cost_count, model.cost_arrays) == kept
