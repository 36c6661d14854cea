"""Processes that ask and give feedback without end, to be run many at once, and to be killed.

    python tests/makers/torture.py crowd STATE ACKNOWLEDGED POLICY PROCESSES SECONDS
    python tests/makers/torture.py kill STATE ACKNOWLEDGED POLICY TIMES SEED

Each process is a real one, forked once everything is imported; it opens the state for itself, asks the models of
the zoo in the box, gives feedback, and appends `id value` to its own file in the folder ACKNOWLEDGED once the
feedback has been acknowledged. `kill` lets three of them run at a time and kills each at a random instant.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import llama_cpp  # noqa: F401  # imported before the forks, so that a process that is killed has done some work

from messctl.backends import LlamaCpp, Scripted
from messctl.backends.base import Backend
from messctl.costs.meter_choice import meter_for
from messctl.live.router import Router
from messctl.records import Question
from messctl.state.place import Place, place_of
from messctl.state.store import Store
from messctl.zoo import load_zoo

PATIENCE_S = 30.0
"""So long a kill waits for a busy machine."""
PACKAGED = Path(sys.modules["messctl.zoo"].__file__ or "").parents[1] / "box" / "zoo.yaml"


def routing(backend: Backend, store: Store, policy: str) -> Router:
    """Route over the zoo in the box; `bandit:3` is the bandit that asks up to three models."""
    zoo, (name, _, asks) = load_zoo(PACKAGED), policy.partition(":")
    settings = replace(zoo.settings, policy=name, asks=int(asks or 1))
    return Router({model.name: model for model in zoo.models}, settings, backend, meter_for(zoo), store)


def work(state: Place, acknowledged: Path, policy: str, seconds: float) -> None:
    """Ask, give feedback, and correct it, until the time is over, and some of it was acknowledged."""
    rng = random.Random(os.getpid())
    ends = time.monotonic() + seconds
    with Store(state) as store, LlamaCpp() as backend, acknowledged.open("a") as said:
        router = routing(backend, store, policy)
        mine: list[str] = []
        while time.monotonic() < ends or not said.tell():
            left, right = rng.randrange(100), rng.randrange(100)
            grader = (lambda answer: float(rng.random() < 0.7)) if rng.random() < 0.3 else None
            answered = router.ask(Question(f"What is {left} + {right}?", max_tokens=8), grader=grader)
            request_id = answered.decision.request.request_id
            if answered.satisfied is not None:
                print(request_id, answered.satisfied, file=said, flush=True)
            mine.append(request_id)
            if rng.random() < 0.7:
                chosen_id = rng.choice(mine[-5:])
                value = rng.choice([0.0, 0.25, 1.0])
                # The intention comes first: a kill may come between the commit and the line after it.
                print(chosen_id, value, "?", file=said, flush=True)
                router.feedback(chosen_id, value)
                print(chosen_id, value, file=said, flush=True)


def warm(policy: str) -> None:
    """Import and compile everything that a process will use."""
    backend = Scripted({model.name: "42" for model in load_zoo(PACKAGED).models})
    with Store(Path(":memory:")) as store:
        router = routing(backend, store, policy)
        router.ask(Question("What is 17 + 25?"))
        router.feedback("last", 1.0)


def forked(state: Place, acknowledged: Path, policy: str, seconds: float) -> int:
    """Start one such process and return its id."""
    child = os.fork()
    if child:
        return child
    try:
        work(state, acknowledged / str(os.getpid()), policy, seconds)
    except BaseException as error:  # noqa: BLE001  # the parent reads it
        (acknowledged / f"{os.getpid()}.error").write_text(repr(error))
        os._exit(1)
    os._exit(0)


def crowd(state: Place, acknowledged: Path, policy: str, processes: int, seconds: float) -> None:
    """Run many at once."""
    children = [forked(state, acknowledged, policy, seconds) for _ in range(processes)]
    for child in children:
        os.waitpid(child, 0)


def judged(acknowledged: Path) -> int:
    """Return how many requests have feedback that was acknowledged."""
    lines = (line.split(" ") for path in acknowledged.iterdir() for line in path.read_text().splitlines())
    return len({words[0] for words in lines if len(words) == 2})


def kill(state: Place, acknowledged: Path, policy: str, times: int, seed: int) -> None:
    """Kill one after the other, three at a time alive, each once more is acknowledged than there were kills."""
    rng = random.Random(seed)
    alive: list[int] = []
    for done in range(times):
        while len(alive) < 3:
            alive.append(forked(state, acknowledged, policy, 600))
        patient_until = time.monotonic() + PATIENCE_S
        while judged(acknowledged) <= done + 1 and time.monotonic() < patient_until:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.4))
        victim = alive.pop(rng.randrange(len(alive)))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
    for child in alive:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    mode, state_file, folder, chosen, number, last = sys.argv[1:]
    warm(chosen)
    if mode == "crowd":
        crowd(place_of(state_file), Path(folder), chosen, int(number), float(last))
    else:
        kill(place_of(state_file), Path(folder), chosen, int(number), int(last))
