"""Golden runs: few requests, and the figures of every policy as they were.

They are short enough to be run without compiling, so that `tests/mutate` can use them.
"""

import numpy as np
import pytest
from making import learnable, telling

from messctl.policies import build
from messctl.zoo import Settings

RUNS = {
    "bandit": ("bandit", {}),
    "bandit, with a budget for trials": ("bandit", {"trial_budget": 0.05, "v": 3.0}),
    "bandit, with a second look": ("bandit", {"asks": 3}),
    "hindsight": ("hindsight", {}),
    "hindsight, with a second look": ("hindsight-cascade", {"alpha": 0.9, "asks": 3}),
    "static-mix": ("static-mix", {}),
    "messplus": ("messplus", {"v": 2.0, "c": 0.5}),
}
FIGURES = {
    "bandit": (
        "120222200000000000100000000111111222212112222212111111111122221111111111112122221211112111111111111111111111111111111111",
        196.6,
        282.2139,
        3028.4371,
        734.8249,
        2.2833,
    ),
    "bandit, with a budget for trials": (
        "012222222222222222222222222222222222222222222222111111111111111111221222222222221111111111112111111111111111111111111122",
        282.0,
        288.1514,
        3346.3109,
        328.3658,
        3.025,
    ),
    "bandit, with a second look": (
        "021112211111111111111111222222222222222212212122222212211222222122222222222122122222122222222222222222221122221222212122",
        143.0,
        294.5151,
        3249.8858,
        385.5053,
        3.3917,
    ),
    "hindsight": (
        "",
        199.0,
        0.0,
        0.0,
        334.9698,
        2.8833,
    ),
    "hindsight, with a second look": (
        "",
        33.0,
        0.0,
        0.0,
        320.9351,
        2.4583,
    ),
    "static-mix": (
        "",
        122.7687,
        0.0,
        0.0,
        349.2934,
        2.8125,
    ),
    "messplus": (
        "022022222220002202002222202222222202222022222202022022202022001111212111022202221101221101111211101111111111111111111111",
        237.8,
        232.2034,
        3065.3717,
        821.9293,
        2.725,
    ),
}
"""By run: the model that served each request, then sums of the debt, what was predicted, mean costs, costs, shares."""


def figures(run):
    """Return the figures of a run of which some feedback comes late, or never."""
    policy, changed = RUNS[run]
    rows = 24 if policy == "hindsight-cascade" else 120  # it fits beliefs and tries many prices
    rounds = telling(learnable(rows, seed=3), seed=3)
    arranged = rounds.arranged(seed=2, shuffle=True, feedback_rate=0.8, feedback_delay=2)
    played = build(policy, rounds, Settings(**{"alpha": 0.8} | changed)).play(arranged)
    served = "" if played.served is None else "".join(map(str, played.served))
    tables = (played.queue_after, played.predicted, played.mean_cost, played.cost, played.share @ [1.0, 2.0, 4.0])
    return served, *(0.0 if table is None else float(np.nansum(table)) for table in tables)


@pytest.mark.parametrize("run", RUNS)
def test_a_short_run_has_the_figures_of_before(run):
    served, *sums = figures(run)
    expected, *earlier = FIGURES[run]
    assert served == expected
    assert sums == pytest.approx(earlier, rel=1e-5, abs=1e-4)
