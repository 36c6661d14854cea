"""A pytest plugin: notes which tests pass, and how long each takes, and skips a test that takes too long.

The other cases of that test are skipped, too. The environment says where to write, and how long a test may take:
TESTS_PASSED, a file, and TEST_SECONDS.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType

import pytest

_seconds: dict[str, float] = {}
_passed: dict[str, bool] = {}
_long: set[str] = set()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up the parts of a test."""
    _seconds[report.nodeid] = _seconds.get(report.nodeid, 0.0) + report.duration
    _passed[report.nodeid] = _passed.get(report.nodeid, True) and report.passed


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test if a case of it took too long."""
    if _function(item) in _long:
        pytest.skip("another case takes too long")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Skip a test once its time of the processor is over."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        _long.add(_function(item))
        pytest.skip("takes too long")

    signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, float(os.environ["TEST_SECONDS"]))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a test as skipped that failed because it was ended: Hypothesis, for one, cannot be ended in between."""
    report = yield
    if report.failed and _function(item) in _long:
        report.outcome, report.longrepr = "skipped", (str(item.path), 0, "takes too long")
    return report


def pytest_sessionfinish() -> None:
    """Write which tests passed."""
    passed = {test: seconds for test, seconds in _seconds.items() if _passed[test]}
    Path(os.environ["TESTS_PASSED"]).write_text(json.dumps(passed), encoding="utf-8")


def _function(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]
