"""The campaign of odd inputs: a minute of it, and whether it notices what it looks for."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import pytest
from campaign import LONGEST_S, LONGEST_WAIT_S, MOST_MIB, WEIGHTS, Report, campaign, report_of
from hypothesis import given
from hypothesis import strategies as st
from mutations import expression, mutated, odd_document

SECONDS = 60
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.slow
def test_a_minute_of_odd_inputs_finds_nothing():
    report = campaign(SECONDS, 0, list(WEIGHTS))
    assert report.findings == []
    assert len(report.inputs) == len(WEIGHTS)


@pytest.mark.parametrize(
    ("lines", "code", "found"),
    [
        (["begin trace 1", "end 0.10 20", "begin zoo 2", "end 0.20 30"], 0, []),
        (["begin trace 1", "wrong Traceback | KeyError: 1", "end 0.1 20"], 0, ["trace 1: Traceback | KeyError: 1"]),
        (["begin trace 1"], -11, ["trace 1: dies by signal 11: said"]),
        (["begin trace 1"], 1, [f"trace 1: takes more than {LONGEST_WAIT_S} s, or ends with code 1: said"]),
        (["begin trace 1", f"end {LONGEST_S + 1} 20"], 0, [f"trace 1: takes {LONGEST_S + 1} s of the processor"]),
        (["begin trace 1", f"end 0.1 {MOST_MIB + 1}"], 0, [f"trace 1: grows to {MOST_MIB + 1} MiB"]),
        (["begin trace 1", "end 0.1 20"], 1, ["a child ends with code 1: said"]),
        ([], 1, ["a child ends with code 1: said"]),
    ],
)
def test_the_campaign_notices_each_kind_of_finding(tmp_path, lines, code, found):
    folder = tmp_path / "batch"
    folder.mkdir()
    (folder / "report").write_text("\n".join(lines))
    (folder / "said").write_text("said")
    report = Report()
    report_of(SimpleNamespace(folder=folder, process=SimpleNamespace(wait=lambda: code)), report)
    assert report.findings == found
    assert sum(report.inputs.values()) == sum(line.startswith("begin") for line in lines)
    assert not folder.exists()


@given(st.binary(max_size=200), st.integers(0, 2**32))
def test_a_changed_file_is_the_same_for_the_same_number(data, number):
    assert mutated(data, random.Random(number)) == mutated(data, random.Random(number))


def test_most_changed_files_differ_from_the_real_one():
    data = Path(__file__).read_bytes()
    assert sum(mutated(data, random.Random(number)) != data for number in range(100)) > 90


@given(JSON, st.integers(0, 2**32))
def test_an_odd_document_is_made_of_any_document(document, number):
    odd_document(document, random.Random(number))


def test_some_expressions_are_valid_and_some_are_not():
    import re

    def valid(number):
        try:
            return bool(re.compile(expression(random.Random(number))))
        except (re.error, OverflowError):
            return False

    assert 20 < sum(map(valid, range(200))) < 180
