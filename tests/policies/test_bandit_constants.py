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
ROW = re.compile(r"^\| `(\w+)\.(\w+)` \| (\S+) \| (.+?) \| (.+?) \|$", re.MULTILINE)
TUNED = re.compile(r"^    (\w+): \w+ = (\S+)  # \[(.+?)\] (.+)$", re.MULTILINE)
FIXED = re.compile(r'^([A-Z_]+) = (\S+)\n"""\[(.+?)\] (.+?)"""$', re.MULTILINE)


def rows():
    """The table's rows: group or module, name, value, unit, reason."""
    return ROW.findall((ROOT / "docs" / "bandit.md").read_text("utf-8"))


def lines():
    """The same from the code."""
    text = (CODE / "tuning.py").read_text("utf-8")
    for group, values in Tuning()._asdict().items():
        part = text.split(f"class {type(values).__name__}(")[1].split("\nclass ")[0]
        yield from ((group, *found) for found in TUNED.findall(part))
    for path in CODE.glob("*.py"):
        yield from ((path.stem, *found) for found in FIXED.findall(path.read_text("utf-8")))


def test_the_table_of_constants_is_that_of_the_code():
    assert sorted(rows()) == sorted(lines())


def test_every_constant_has_a_row_with_its_value():
    table = {(group, name): value for group, name, value, _, _ in rows()}
    for group, values in Tuning()._asdict().items():
        for name, value in values._asdict().items():
            assert table.pop((group, name)) == str(value)
    for (module, name), value in table.items():
        found = getattr(import_module(f"messctl.policies.bandit.{module}"), name)
        assert float(value) == pytest.approx(found, rel=0)


def test_the_array_of_constants_gives_the_constants_by_part_again():
    numbers = iter(range(1, 1000))
    tuning = Tuning(*(type(group)(*(float(next(numbers)) for _ in group)) for group in Tuning()))
    tuning = tuning._replace(costs=tuning.costs._replace(per_prompt=True))
    assert tuning_of(constants_of(tuning)) == tuning
    assert len(constants_of(tuning)) == sum(map(len, Tuning()))


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("shared", (73,), "float64"),
        ("shared_cov", (73, 73), "float64"),
        ("own", (3, 73), "float64"),
        ("own_cov", (3, 73, 73), "float64"),
        ("lean", (3, 73), "float64"),
        ("good", (3,), "float64"),
        ("answers", (3,), "float64"),
        ("cost_weight", (3, 9), "float64"),
        ("cost_cov", (3, 9, 9), "float64"),
        ("costs", (3, 5), "float64"),
        ("recent", (128, 73), "float64"),
        ("recent_known", (3, 128), "float64"),
        ("served_at", (3, 1024), "int64"),
        ("ledger", (4,), "float64"),
        ("forgone", (1,), "float64"),
        ("tried", (1,), "float64"),
        ("lateness", (1,), "float64"),
        ("counts", (5,), "int64"),
        ("elsewhere", (1,), "int64"),
    ],
)
def test_stored_arrays_keep_the_names_and_shapes_that_saved_states_have(name, shape, kind):
    array = stored_arrays(fresh(3, Tuning()))[name]
    assert (array.shape, array.dtype.name) == (shape, kind)


def test_stored_arrays_are_the_memory_of_the_state():
    state = fresh(2, Tuning())
    arrays = stored_arrays(state)
    state.ledger.balance, state.ledger.delay, state.tally.labels, state.tally.elsewhere = 1.5, 7.0, 3, 4
    state.cost_records[1].errors[2] = 9.0
    assert (arrays["ledger"][0], arrays["lateness"][0], arrays["counts"][4], arrays["elsewhere"][0]) == (1.5, 7.0, 3, 4)
    assert arrays["costs"][1].tolist() == [0.0, 0.0, 0.0, 0.0, 9.0]
    arrays["ledger"][1] = 2.5
    assert state.ledger.queue == 2.5
    assert all(np.shares_memory(array, stored_arrays(state)[name]) for name, array in arrays.items())
