"""The campaign of odd inputs: a minute of it, and whether it notices what it looks for."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from campaign import LONGEST_S, MOST_MIB, WEIGHTS, Report, campaign, environment_in
from hypothesis import given
from hypothesis import strategies as st
from mutations import expression, mutated, odd_document

SECONDS = 60
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
FAULTY = f"""
import os, sys, time
from pathlib import Path
import child, nursery
child.SUBJECTS = {{
    "sound": lambda chance, corpus: None,
    "error": lambda chance, corpus: 1 / 0,
    "signal": lambda chance, corpus: os.kill(os.getpid(), 11),
    "hang": lambda chance, corpus: time.sleep(60),
    "memory": lambda chance, corpus: len(b"x" * {(MOST_MIB + 50) * 2**20}),
    "exit": lambda chance, corpus: os._exit(3),
}}
child.LONGEST_S, child.warm_up = 5, lambda corpus: None
nursery.main(Path(sys.argv[1]), 60, 0, list(child.SUBJECTS), [1, 2])
"""
"""A campaign whose subjects have every kind of fault."""


@pytest.mark.slow
def test_a_minute_of_odd_inputs_finds_nothing():
    report = campaign(SECONDS, 0, list(WEIGHTS))
    assert report.findings == []
    assert len(report.inputs) == len(WEIGHTS)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["begin trace 1", "end 0.10 20", "begin zoo 2", "end 0.20 30", "ended 0 said"], []),
        (["begin trace 1", "wrong Traceback | KeyError: 1", "end 0.1 20"], ["trace 1: Traceback | KeyError: 1"]),
        (["begin trace 1", "ended -11 said"], ["trace 1: dies by signal 11: said"]),
        (["begin trace 1", "ended 1 said"], [f"trace 1: takes more than {LONGEST_S} s, or ends with code 1: said"]),
        (["begin trace 1", "ended 0 "], [f"trace 1: takes more than {LONGEST_S} s, or ends with code 0: "]),
        (["begin trace 1", f"end {LONGEST_S + 1} 20"], [f"trace 1: takes {LONGEST_S + 1} s"]),
        (["begin trace 1", f"end 0.1 {MOST_MIB + 1}"], [f"trace 1: grows by {MOST_MIB + 1} MiB"]),
        (["begin trace 1", "end 0.1 20", "ended 1 said"], ["a child ends with code 1: said"]),
        (["ended 1 said"], ["a child ends with code 1: said"]),
    ],
)
def test_the_campaign_notices_each_kind_of_finding(lines, found):
    report = Report()
    for line in lines:
        report.read(line)
    assert report.findings == found
    assert sum(report.inputs.values()) == sum(line.startswith("begin") for line in lines)


@pytest.mark.slow
def test_real_faults_are_noticed_and_the_inputs_after_them_are_taken(tmp_path):
    command = [sys.executable, "-c", FAULTY, tmp_path]
    printed = subprocess.run(command, env=environment_in(tmp_path), stdout=subprocess.PIPE, text=True, check=True)
    report = Report()
    for line in printed.stdout.splitlines():
        report.read(line)
    assert report.inputs == dict.fromkeys(("sound", "error", "signal", "hang", "memory", "exit"), 2)
    kinds = ("ZeroDivisionError", "dies by signal 11", f"more than {LONGEST_S} s", "grows by", "ends with code 3")
    for subject, kind in zip(("error", "signal", "hang", "memory", "exit"), kinds, strict=True):
        found = [line for line in report.findings if line.startswith(subject)]
        assert [line.split(":")[0] for line in found] == [f"{subject} 1", f"{subject} 2"]
        assert [line for line in found if kind not in line] == []
    assert len(report.findings) == 10


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
