"""The line under an answer, in plain words."""

import pytest

from messctl.cli.answer import amount, attainment
from messctl.state.ledger import Standing


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (0.0080, "0.0080"),
        (0.00169, "0.0017"),
        (0.0, "0.0"),
        (1.7e-05, "1.7e-05"),
        (1.0, "1.0"),
        (9.94, "9.9"),
        (9.96, "10"),
        (12.3, "12"),
        (1234.5, "1,234"),
    ],
)
def test_a_cost_has_two_significant_digits(cost, text):
    assert amount(cost) == text


@pytest.mark.parametrize(
    ("attained", "judged", "alpha", "text"),
    [
        (0.83, 12, 0.8, "attained 0.83 of 0.80 over 12"),
        (None, 0, 0.8, "no feedback yet, 0.80 promised"),
        (None, 0, 0.999, "no feedback yet, 0.999 promised"),
        (0.7999, 1234, 0.8, "attained 0.79 of 0.80 over 1,234"),
        (0.8 - 1e-12, 5, 0.8, "attained 0.80 of 0.80 over 5"),
        (0.9986, 700, 0.999, "attained 0.998 of 0.999 over 700"),
        (1.0, 3, 1.0, "attained 1.00 of 1.00 over 3"),
    ],
)
def test_the_attainment_is_rounded_down_to_the_decimals_of_alpha(attained, judged, alpha, text):
    assert attainment(Standing(judged, attained, 0.0, attained), alpha) == text
