"""Small charts of a terminal."""

import math

import pytest

from messctl.display.sparkline import BARS, sparkline, windowed


def test_the_lowest_bar_is_the_lowest_value_and_the_highest_the_highest():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 0, 7) == BARS
    assert sparkline([-9, 99, math.nan], 0, 7) == f"{BARS[0]}{BARS[-1]} "


def test_values_without_a_range_are_low():
    assert sparkline([1, 1], 1, 1) == BARS[0] * 2
    assert sparkline([], 0, 1) == ""


@pytest.mark.parametrize(
    ("values", "windows", "means"),
    [([1, 3, 5, 7], 2, [2, 6]), ([1, math.nan], 1, [1]), ([4, 5], 12, [4, 5]), ([], 3, []), ([1, 2, 3], 2, [1, 2.5])],
)
def test_windows_have_the_means_of_what_is_known(values, windows, means):
    assert windowed(values, windows) == pytest.approx(means)


def test_a_window_of_which_nothing_is_known_stays_unknown():
    assert math.isnan(windowed([math.nan, 1.0], 2)[0])
