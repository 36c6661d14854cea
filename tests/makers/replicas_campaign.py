"""A campaign on PostgreSQL: servers and the database are killed under load. Is anything acknowledged lost?

    python tests/makers/replicas_campaign.py [--seconds 300] [--kills 100] [--crashes 10] [--seed 1]

Four `messctl serve` keep one promise on one database. Eight clients ask, judge and correct without a pause. SIGKILL
comes to a server at random instants, and `pg_ctl stop -m immediate` to the database; both are started again. In the end
all that was acknowledged is there, the debt is that of its recursion, and no two judgements have one place.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from postgres_making import PostgresServer
from serving import TWO, Serving

from messctl.state.place import Address
from messctl.state.store import Store, check

REPLICAS, CLIENTS = 4, 8


class Client(threading.Thread):
    """Asks any server and judges at any other, until it is told to stop. What failed is asked again elsewhere.

    `acknowledged` holds the judgements that were taken, by request; `meant` all that were sent and may count.
    """

    def __init__(self, servers: Sequence[Serving], seed: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged: dict[str, float] = {}
        self.meant: dict[str, set[float]] = {}
        self.answered: set[str] = set()
        self.wrong: list[str] = []
        self.stopping = False
        self._servers = servers
        self._rng = random.Random(seed)

    def run(self) -> None:
        """Go on until told to stop."""
        while not self.stopping:
            body = {"messages": [{"role": "user", "content": f"number {self._rng.random()}"}]}
            answer = self._sent("/v1/chat/completions", body)
            if answer is None:
                continue
            self.answered.add(answer["id"])
            for _ in range(self._rng.choice((0, 1, 1, 2))):
                value = self._rng.choice((0.0, 0.25, 1.0))
                self.meant.setdefault(answer["id"], set()).add(value)
                if self._sent("/v1/feedback", {"id": answer["id"], "value": value}) is not None:
                    self.acknowledged[answer["id"]] = value
                    self.meant[answer["id"]] = {value}

    def _sent(self, path: str, body: object) -> dict[str, str] | None:
        """Send a request to any server; return the document if it was answered."""
        try:
            status, _, document = self._rng.choice(self._servers).ask(path, body)
        except Exception:  # noqa: BLE001  # whatever a client sees of a server that is killed
            time.sleep(0.02)
            return None
        if status == 503:
            time.sleep(0.02)
        elif status != 200:
            self.wrong.append(f"{path}: {status}: {document}")
        return document if status == 200 else None


def verify(place: Address, clients: Sequence[Client]) -> list[str]:
    """Return what is wrong with the state, or missing in it."""
    found = [*check(place), *(line for client in clients for line in client.wrong)]
    with Store(place, looking=True) as store:
        kept = {f"chatcmpl-{each.decision.request.request_id}": each for each in store.requests}
        if store.policy.queue() != store.requests.queue():
            found.append(f"the debt is {store.policy.queue()!r}, its recursion gives {store.requests.queue()!r}")
    places = [each.judged for each in kept.values() if each.judged is not None]
    if len(set(places)) != len(places):
        found.append("two judgements have one place")
    for client in clients:
        found += [f"{each}: was answered, and is not stored" for each in client.answered if each not in kept]
        for identity, value in client.acknowledged.items():
            if identity in kept and kept[identity].satisfied not in {value, *client.meant[identity]}:
                found.append(f"{identity}: {value} was acknowledged, {kept[identity].satisfied} is kept")
    return found


def campaign(folder: Path, seconds: float, kills: int, crashes: int, seed: int) -> tuple[list[Client], list[str]]:
    """Kill servers and the database a number of times; return the clients, and what is wrong."""
    rng = random.Random(seed)
    with PostgresServer(durable=True) as database:
        place = database.fresh()
        Store(place).close()
        servers = []
        for number in range(REPLICAS):
            (folder / str(number)).mkdir()
            options = ("--state", f"{database.url}?schema={place.schema}")
            servers.append(Serving(folder / str(number), TWO, *options, scripted=0))
        for server in servers:
            server.start()
        clients = [Client(servers, rng.randrange(2**32)) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        what = ["kill"] * kills + ["crash"] * crashes
        rng.shuffle(what)
        for each in what:
            time.sleep(rng.uniform(0.0, 2.0 * seconds / len(what)))
            if each == "crash":
                database.stop("immediate")
                time.sleep(rng.uniform(0.0, 0.5))
                database.start()
            else:
                victim = rng.choice(servers)
                victim.__exit__()
                victim.start()
        for client in clients:
            client.stopping = True
        for client in clients:
            client.join()
        for server in servers:
            server.__exit__()
        return clients, verify(place, clients)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign, and print what came of it; the exit code is 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--crashes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        clients, found = campaign(Path(folder), given.seconds, given.kills, given.crashes, given.seed)
    for line in found:
        print(line)
    answered, judged = (sum(len(getattr(each, name)) for each in clients) for name in ("answered", "acknowledged"))
    print(
        f"{given.kills} kills, {given.crashes} crashes: {answered} answers and {judged} judgements acknowledged, "
        f"{len(found)} violations"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
