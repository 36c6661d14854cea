"""A hundred graded requests: the attainment is near the promise, and all figures agree."""

import json
import random
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from live_making import assert_sound, puzzle

from messctl.backends import LlamaCpp
from messctl.cli import run
from messctl.costs.meter_choice import meter_for
from messctl.graders import expect_text
from messctl.live.router import Router
from messctl.policies import live_names
from messctl.records import Question
from messctl.state.ledger import Ledger
from messctl.state.store import Store
from messctl.zoo import PACKAGED_FILE, load_zoo

pytest.importorskip("llama_cpp")


@pytest.mark.slow
@pytest.mark.parametrize("policy", live_names())
def test_a_hundred_requests_end_near_the_promise(policy):
    """Many streams of a hundred: each ends near the promise, all together nearer, each with a mixture."""
    zoo = load_zoo(PACKAGED_FILE)
    models = {model.name: model for model in zoo.models}
    settings = replace(zoo.settings, policy=policy)
    attained, mixtures = [], 0
    with LlamaCpp() as backend:
        for seed in range(12):
            rng = random.Random(seed)
            with Store(Path(":memory:")) as store:
                router = Router(models, settings, backend, meter_for(zoo), store)
                for _ in range(100):
                    prompt, answer = puzzle(rng)
                    router.ask(Question(prompt), grader=expect_text(answer))
                ledger = Ledger.of(store)
                assert store.check() == []
            assert ledger.standing.judged == 100
            assert abs(ledger.standing.attained - zoo.settings.alpha) < 0.12
            mixtures += sum(share >= 0.1 for share in ledger.model_share.values()) >= 2
            attained.append(ledger.standing.attained)
    assert abs(sum(attained) / len(attained) - zoo.settings.alpha) < 0.04
    assert mixtures == 12


@pytest.mark.slow
def test_a_hundred_processes_end_near_the_promise_and_agree(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESSCTL_STATE", str(tmp_path / "state"))
    rng = random.Random(3)
    loop = [f'messctl() {{ {shlex.quote(sys.executable)} -m messctl "$@"; }}']
    for _ in range(100):
        prompt, answer = map(shlex.quote, puzzle(rng))
        loop.append(f"messctl ask {prompt} --expect {answer} || echo failed: $?")
    done = subprocess.run(
        ["bash", "-c", "\n".join(loop)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "failed" not in done.stdout
    assert_sound(tmp_path / "state", requests=100)

    def document(*arguments):
        assert run([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    status = document("status")
    assert abs(status["standing"]["attained"] - status["alpha"]) < 0.08
    assert sum(share >= 0.1 for share in status["model_share"].values()) >= 2
    assert document("export", "-o", "log.parquet")["rows"] == 100
    (replayed,) = document("replay", "log.parquet", "--policy", "logged")["results"]
    assert replayed["attained"] == pytest.approx(status["standing"]["attained"], abs=1e-12)
    assert replayed["queue_final"] == status["standing"]["queue"]
    assert replayed["total_cost"] == pytest.approx(status["cost_total"])
    assert {model: share for model, share in replayed["model_share"].items() if share} == pytest.approx(
        status["model_share"]
    )
