"""A campaign that kills real processes at random instants, and then looks whether anything acknowledged is lost.

    python tests/makers/kill_campaign.py [--kills 500] [--seed 1] [--policy messplus] [--folder DIR]

Each process runs messctl's own commands, one after the other, over a scripted zoo: `ask` with and without a grade,
`feedback` that comes first or corrects, `status`, `log` and `export`. `reset`, `state prune` and `state copy` run
alone. Each is forked once everything is imported. What it prints on standard output is an acknowledgement. SIGKILL
comes at a random instant; three processes run at a time. After every ten kills the state is read by plain SQL, and held
against all that was acknowledged. Some epochs begin with a state of an older messctl, so that its migration is killed,
too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # imported before the forks
from kill_files import documents, lines, rows, text
from kill_upkeep import kill_copy, kill_prune
from live_making import STATED
from long_states import older_state
from typer.main import get_command

import messctl.backends
import messctl.cli
import messctl.live.router
import messctl.state.export
from messctl.backends import Scripted
from messctl.cli import run
from messctl.errors import BackendError
from messctl.records import Question
from messctl.state.store import check
from messctl.zoo import ModelSpec

AT_A_TIME, PER_CHECK, PER_EPOCH = 3, 10, 50
"""How many processes run at a time, and after how many kills the state is checked and begun anew."""
LONGEST_LIFE_S = 0.3
LONGEST_RESET_S = 0.2
STEPS = "SELECT feedback.id, alpha, satisfied FROM feedback JOIN requests ON requests.id = request"
EXPECTED_FAILURES = ("is out of order", "no model could answer", "there is no state")


@dataclass
class Known:
    """What was acknowledged: by request the model, and the feedback; `meant` is feedback that was not acknowledged."""

    served: dict[str, str] = field(default_factory=dict)
    feedback: dict[str, float] = field(default_factory=dict)
    meant: dict[str, float] = field(default_factory=dict)
    prompts: set[str] = field(default_factory=set)


class Campaign:
    """A campaign in a folder. `found` are the violations, `counts` what happened."""

    def __init__(self, folder: Path, policy: str, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.found: list[str] = []
        self.known = Known()
        self.epoch = 0
        self.alive: dict[int, Path] = {}
        zoo = STATED.replace("router: {", f"router: {{policy: {policy}, ")
        (folder / "zoo.yaml").write_text(zoo, encoding="utf-8")
        os.chdir(folder)
        messctl.backends.LlamaCpp = lambda **_: Scripted(_answer)  # type: ignore[assignment,misc]

        messctl.cli.app = get_command(messctl.cli.app)  # made once, as in a process of one command
        os.environ["MESSCTL_STATE"] = str(folder / "warm-up")
        upkeep = (["state", "copy", "warm-up", "warm-up-copy"], ["state", "prune", "--keep", "0m"])
        with (folder / "warm-up-out").open("w") as out, redirect_stdout(out), redirect_stderr(out):
            for command in (["ask", "is it", "--expect", "yes"], ["feedback", "good"], ["status"], ["log"], *upkeep):
                run([*command, "--json"])

    @property
    def state(self) -> Path:
        """The state of this epoch."""
        return self.folder / f"state-{self.epoch}"

    def go(self, kills: int, *, resets: bool = True) -> None:
        """Kill that many processes, and now and then a reset."""
        for number in range(kills):
            if number % PER_EPOCH == 0:
                self._begin()
            while len(self.alive) < AT_A_TIME:
                self.start(work)
            time.sleep(self.rng.uniform(0.0, LONGEST_LIFE_S))
            self.kill(self.rng.choice(list(self.alive)))
            if number % PER_CHECK == PER_CHECK - 1 or number == kills - 1:
                for child in list(self.alive):
                    self.kill(child)
                self._check()
                if resets:
                    self._upkeep()

    def _begin(self) -> None:
        """Begin an epoch with a new state, or with one of an older messctl."""
        for child in list(self.alive):
            self.kill(child)
        self.epoch += 1
        self.known = Known()
        os.environ["MESSCTL_STATE"] = str(self.state)
        if self.epoch % 2 == 0:
            requests = older_state(self.state, 700)
            self.known.served, self.known.feedback = dict.fromkeys(requests, "dear"), dict(requests)
            self.known.prompts = {f"prompt {number}" for number in range(700)}
            self.counts["epochs that begin with an older state"] += 1

    def start(self, task: Any) -> int:
        """Fork a process that carries out a task, and return its number."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        seed = self.rng.randrange(2**32)
        child = os.fork()
        if child == 0:
            _become(folder, seed, task)
        self.alive[child] = folder
        return child

    def kill(self, child: int) -> None:
        """Kill a process and read what it had acknowledged."""
        folder = self.alive.pop(child)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self.counts["kills"] += 1
        commands = [json.loads(line) for line in lines(folder / "commands")]
        said = list(documents(text(folder / "out")))
        done = int(lines(folder / "done")[-1]) if lines(folder / "done") else 0
        if done < len(commands):
            self.counts[f"killed in {commands[-1][0]}"] += 1
        for line in lines(folder / "err"):
            if not any(each in line for each in EXPECTED_FAILURES):
                self.found.append(f"a process complained: {line}")
        for command in commands:
            if command[0] == "ask":
                self.known.prompts.add(command[1])
            elif command[0] == "feedback":
                self.known.meant[command[1]] = float(command[2])
        for document in said:
            self._acknowledge(document)
        if commands and commands[-1][0] == "feedback" and done < len(commands):
            self.known.meant[commands[-1][1]] = float(commands[-1][2])
        exported = folder / "log.parquet"
        if exported.exists():
            pq.read_table(exported)  # is whole
            self.counts["exports found whole"] += 1

    def _acknowledge(self, document: dict[str, Any]) -> None:
        request_id = document.get("request_id")
        if "corrected" in document:
            self.counts["judgements acknowledged"] += 1
            self.counts["of these corrections"] += document["corrected"] is not None
            self.known.feedback[request_id] = document["satisfied"]
            self.known.meant.pop(request_id, None)
        elif "answer" in document:
            self.counts["requests acknowledged"] += 1
            self.known.served[request_id] = document["model"]
            if document["satisfied"] is not None:
                self.counts["judgements acknowledged"] += 1
                self.known.feedback.setdefault(request_id, document["satisfied"])

    def _upkeep(self) -> None:
        """Now and then, kill a copy, a prune and a reset."""
        if self.state.exists() and self.rng.random() < 0.5:
            kill_copy(self)
        if self.state.exists() and self.rng.random() < 0.5:
            kill_prune(self)
            self._check()
        if self.rng.random() < 0.5:
            self._reset()

    def _reset(self) -> None:
        """Kill a reset at a random instant: it happened, or it did not."""
        child = self.start(reset)
        out = self.alive[child] / "out"
        time.sleep(self.rng.uniform(0.0, LONGEST_RESET_S))
        self.kill(child)
        acknowledged = bool(list(documents(text(out))))
        left = len(rows(self.state, "SELECT 1 FROM requests"))
        self.counts["resets killed"] += 1
        self.counts["of these acknowledged"] += acknowledged
        if acknowledged and left:
            self.found.append(f"a reset was acknowledged, and {left} requests are left")
        texts = [path.read_bytes() for path in self.folder.glob(f"{self.state.name}*")]
        if acknowledged and any(re.search(rb"prompt \d", text) for text in texts):
            self.found.append("a reset was acknowledged, and the text of a prompt is left")
        if not left:
            self.known = Known()
        self._check()

    def _check(self) -> None:
        """Hold the state against what was acknowledged."""
        self.counts["checks of the state"] += 1
        if not self.state.exists():
            if self.known.served:
                self.found.append("the state is gone")
            return
        self.found += [f"doctor: {each}" for each in check(self.state)]
        stored = {
            row[0]: row[1:]
            for row in rows(
                self.state,
                "SELECT request_id, served, prompt, feedback.satisfied, answers.satisfied, answers.request "
                "FROM requests LEFT JOIN feedback ON feedback.request = requests.id "
                "LEFT JOIN answers ON answers.request = requests.id AND answers.model = served",
            )
        }
        for request_id, model in self.known.served.items():
            if request_id not in stored or stored[request_id][0] != model or stored[request_id][4] is None:
                self.found.append(f"the acknowledged answer to {request_id} is lost: {stored.get(request_id)}")
        for request_id, value in self.known.feedback.items():
            kept = stored.get(request_id, (None,) * 5)
            if kept[2] not in (value, self.known.meant.get(request_id, value)) or kept[2] != kept[3]:
                self.found.append(f"the acknowledged feedback {value} on {request_id} is {kept[2]}, {kept[3]}")
        prompts = [row[1] for row in stored.values()]
        if len(set(prompts)) != len(prompts) or not set(prompts) <= self.known.prompts:
            self.found.append("a request is stored that nobody asked, or twice")
        # A kill may come between the commit and the line about it: from here on what is stored is what is known.
        for request_id, kept in stored.items():
            if kept[2] is not None:
                self.known.feedback[request_id] = kept[2]
        self.known.meant.clear()
        self._recompute()

    def _recompute(self) -> None:
        """Compute queue and balance from the stored feedback, by nothing but SQL and the formula."""
        base = rows(self.state, "SELECT queue, satisfied, alpha FROM pruned") or [(0.0, 0.0, 0.0)]
        queue, balance = base[0][0], base[0][1] - base[0][2]
        steps = rows(self.state, f"{STEPS} UNION ALL SELECT id, alpha, satisfied FROM pruned_feedback")
        for _, alpha, satisfied in sorted(steps or rows(self.state, STEPS)):
            queue = max(0.0, queue + alpha - satisfied)
            balance += satisfied - alpha
        saved = rows(self.state, "SELECT queue, balance FROM router") or [(0.0, 0.0)]
        if saved[0][0] != queue:
            self.found.append(f"the queue is {saved[0][0]!r}, and its recursion gives {queue!r}")
        if abs(saved[0][1] - balance) > 1e-6:
            self.found.append(f"the balance is {saved[0][1]!r}, and the feedback gives {balance!r}")
        self.counts["queues equal to the recursion, bit by bit"] += saved[0][0] == queue


def work(folder: Path, rng: random.Random) -> Iterator[list[str]]:
    """Yield commands without end; the requests of this process are judged and corrected by it alone."""
    mine: list[str] = []
    while True:
        kind = rng.choices(["ask", "graded", "forced", "feedback", "status", "log", "export"], [5, 4, 1, 8, 1, 1, 0.3])[
            0
        ]
        prompt = f"prompt {rng.randrange(2**60)}"
        if kind == "feedback" and mine:
            yield ["feedback", rng.choice(mine[-5:]), rng.choice(["0", "0.25", "1"])]
        elif kind in ("status", "log"):
            yield [kind]
        elif kind == "export" and mine:
            yield ["export", "-o", str(folder / "log.parquet")]
        else:
            more = {"graded": ["--expect", "yes"], "forced": ["--model", "dear"]}.get(kind, [])
            yield ["ask", prompt, *more]
        mine = [each["request_id"] for each in documents(text(folder / "out")) if "answer" in each]


def reset(folder: Path, rng: random.Random) -> Iterator[list[str]]:
    """Yield the command that forgets everything."""
    yield ["reset", "--yes"]


def _become(folder: Path, seed: int, task: Any) -> None:
    """Carry out a task's commands in this process: what is printed goes to files in `folder`."""
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    random.seed(seed)
    with (folder / "commands").open("a") as commands, (folder / "done").open("a") as done:
        for number, command in enumerate(task(folder, random.Random(seed)), 1):
            print(json.dumps(command), file=commands, flush=True)
            run([*command, "--json"])
            sys.stdout.flush()
            sys.stderr.flush()
            print(number, file=done, flush=True)
    while True:
        time.sleep(1)


def _answer(model: ModelSpec, question: Question) -> str:
    time.sleep(random.uniform(0.0, 0.005))
    if random.random() < 0.03:
        raise BackendError(f"model {model.name!r} is out of order")
    return "yes" if random.random() < (0.9 if model.name == "dear" else 0.5) else "no"


def main() -> None:
    """Run a campaign and print what happened. Exit 1 if anything acknowledged is lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--policy", default="messplus")
    parser.add_argument("--folder", type=Path, help="keep everything there; by default it is deleted")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        campaign = Campaign(folder.resolve(), arguments.policy, arguments.seed)
        campaign.go(arguments.kills)
        os.chdir("/")
    for name, count in campaign.counts.items():
        print(f"{count:7,} {name}")
    for each in campaign.found[:50]:
        print(each)
    print(f"{len(campaign.found):7,} violations")
    sys.exit(1 if campaign.found else 0)


if __name__ == "__main__":
    main()
