"""The constants of `bandit` and the table of them in docs/bandit.md, and the names of what it stores."""

import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from messctl.policies.bandit.state import fresh, stored_arrays
from messctl.policies.bandit.tuning import Tuning, constants_of, tuning_of

ROOT = Path(__file__).parents[2]
CODE = ROOT / "messctl" / "policies" / "bandit"
ROW = re.compile(r"^\| `(?:(\w+)\.)?(\w+)` \| (\S+) \| (.+?) \| (.+?) \|$", re.MULTILINE)
TUNED = re.compile(r"^    (\w+): \w+ = (\S+)  # \[(.+?)\] (.+)$", re.MULTILINE)
FIXED = re.compile(r'^([A-Z_]+) = (\S+)\n"""\[(.+?)\] (.+?)"""$', re.MULTILINE)


def rows():
    """The table's rows: module, name, value, unit, reason; no module stands for `tuning`."""
    return ROW.findall((ROOT / "docs" / "bandit.md").read_text("utf-8"))


def lines():
    """The same from the code."""
    yield from (("", *found) for found in TUNED.findall((CODE / "tuning.py").read_text("utf-8")))
    for path in CODE.glob("*.py"):
        yield from ((path.stem, *found) for found in FIXED.findall(path.read_text("utf-8")))


def test_the_table_of_constants_is_that_of_the_code():
    assert sorted(rows()) == sorted(lines())


def test_every_constant_has_a_row_with_its_value():
    table = {(module, name): value for module, name, value, _, _ in rows()}
    for name, value in Tuning()._asdict().items():
        assert table.pop(("", name)) == str(value)
    for (module, name), value in table.items():
        found = getattr(import_module(f"messctl.policies.bandit.{module}"), name)
        assert float(value) == pytest.approx(found, rel=0)


def test_there_are_at_most_twenty_constants_that_say_how_to_route():
    """The others are sizes of arrays, and how exactly and how often λ₀ is solved."""
    assert len(Tuning()) <= 20


def test_the_array_of_constants_gives_the_constants_by_name_again():
    tuning = Tuning(*map(float, range(1, 1 + len(Tuning()))))
    assert tuning_of(constants_of(tuning)) == tuning


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("shared_weight", (72,), "float64"),
        ("shared_covariance", (72, 72), "float64"),
        ("own_weight", (3, 72), "float64"),
        ("own_covariance", (3, 72, 72), "float64"),
        ("good", (3,), "float64"),
        ("answers", (3,), "float64"),
        ("cost_weight", (3, 9), "float64"),
        ("cost_cov", (3, 9, 9), "float64"),
        ("costs", (3, 5), "float64"),
        ("recent_prompts", (128, 72), "float64"),
        ("recent_known", (3, 128), "float64"),
        ("served_at", (3, 1024), "int64"),
        ("base_price", (1,), "float64"),
        ("forgone", (1,), "float64"),
        ("tried", (1,), "float64"),
        ("lateness", (1,), "float64"),
        ("variance", (1,), "float64"),
        ("trust", (3,), "float64"),
        ("counts", (5,), "int64"),
        ("elsewhere", (1,), "int64"),
    ],
)
def test_stored_arrays_keep_the_names_and_shapes_that_saved_states_have(name, shape, kind):
    array = stored_arrays(fresh(3, 0.8, Tuning()))[name]
    assert (array.shape, array.dtype.name) == (shape, kind)


def test_stored_arrays_are_the_memory_of_the_state():
    state = fresh(2, 0.8, Tuning())
    arrays = stored_arrays(state)
    state.ledger.power, state.ledger.delay, state.tally.labels, state.tally.elsewhere = 1.5, 7.0, 3, 4
    state.cost_records[1].errors[2] = 9.0
    assert (arrays["trust"][1], arrays["lateness"][0], arrays["counts"][4], arrays["elsewhere"][0]) == (1.5, 7.0, 3, 4)
    assert arrays["costs"][1].tolist() == [0.0, 0.0, 0.0, 0.0, 9.0]
    arrays["base_price"][0] = 2.5
    assert state.ledger.base_price == 2.5
    assert all(np.shares_memory(array, stored_arrays(state)[name]) for name, array in arrays.items())
