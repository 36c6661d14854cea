"""Many processes at once, and processes killed at any instant: the state is sound, and nothing acknowledged is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

from messctl.learning.virtual_queue import advance
from messctl.policies import live_names
from messctl.state.place import Address
from messctl.state.store import Store

pytest.importorskip("llama_cpp")
SCRIPT = Path(__file__).parents[1] / "makers" / "torture.py"


def torture(tmp_path, *arguments, state=None):
    state, acknowledged = state or tmp_path / "state", tmp_path / "acknowledged"
    named = f"{state.url}?schema={state.schema}" if isinstance(state, Address) else str(state)
    acknowledged.mkdir()
    mode, *rest = map(str, arguments)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), mode, named, str(acknowledged), *rest],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.read_text() for path in acknowledged.glob("*.error")] == []
    return state, acknowledged


def assert_sound(state, acknowledged):
    """All acknowledged feedback is stored, and the queue is the recursion over the stored order."""
    said = 0
    with Store(state) as store:
        assert store.check() == []
        logged = list(store.requests)
        stored = {each.decision.request.request_id: each.satisfied for each in logged}
        for path in acknowledged.iterdir():
            last, intended = {}, {}
            for line in path.read_text().splitlines():
                request_id, value, *intention = line.split(" ")
                if intention:
                    intended[request_id] = float(value)
                else:
                    last[request_id] = float(value)
                    intended.pop(request_id, None)
            said += len(last)
            for request_id, value in last.items():
                assert stored[request_id] in (value, intended.get(request_id, value))
        queue = 0.0
        for each in sorted((each for each in logged if each.judged), key=lambda each: each.judged):
            queue = advance(queue, each.circumstances.alpha, each.satisfied)
        assert store.policy.snapshot().queue == queue
        assert store.policy.snapshot().balance == pytest.approx(store.requests.balance(), abs=1e-9)
        routed = [each.decision.request_number for each in logged]
        assert sorted(routed) == list(range(1, len(routed) + 1))
        assert store.policy.snapshot().decided == len(routed)
    return said, len(logged)


every_policy = pytest.mark.parametrize("policy", live_names())


@pytest.mark.slow
@every_policy
@pytest.mark.parametrize(("processes", "seconds"), [(8, 2), (8, 60)])
def test_many_processes_at_once_lose_nothing(tmp_path, policy, processes, seconds):
    said, logged = assert_sound(*torture(tmp_path, "crowd", policy, processes, seconds))
    assert said > 5 * seconds
    assert logged > 5 * seconds


@pytest.mark.parametrize("policy", [*live_names(), pytest.param("bandit:3", marks=pytest.mark.slow)])
@pytest.mark.parametrize("times", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_processes_lose_nothing(tmp_path, policy, times):
    said, _ = assert_sound(*torture(tmp_path, "kill", policy, times, 1))
    assert said > times


@pytest.mark.slow
@every_policy
def test_processes_on_postgres_lose_nothing(tmp_path, policy, postgres):
    """Many at once, then killed one after the other."""
    for mode, *rest in (("crowd", policy, 4, 4), ("kill", policy, 10, 1)):
        folder = tmp_path / mode
        folder.mkdir()
        said, _ = assert_sound(*torture(folder, mode, *rest, state=postgres.fresh()))
        assert said > 0
