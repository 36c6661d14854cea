"""A campaign that kills a real `messctl serve` under load at random instants: is anything acknowledged lost?

    python tests/makers/serve_campaign.py [--kills 50] [--seed 1]

Clients of two tenants ask, judge and correct without a pause. SIGKILL comes at a random instant. Then the state of each
tenant is read: all acknowledged feedback is there, the debt is that of its recursion, and the server is ready again.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from serving import TWO, Serving

from messctl.state.store import Store, check

KEYS = {"one": "the key of one", "two": "the key of two"}
TENANTS = """
tenants:
- {name: one, key_env: KEY_ONE, alpha: 0.9}
- {name: two, key_env: KEY_TWO}
"""
CLIENTS = 4
"""How many clients each tenant has."""
LONGEST_LIFE_S = 2.0


class Client(threading.Thread):
    """Asks and judges until the server is gone. `acknowledged` holds what was taken; `meant`, what it sent last."""

    def __init__(self, serving: Serving, tenant: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.acknowledged: dict[str, float] = {}
        self.meant: dict[str, float] = {}
        self.wrong: list[str] = []
        self.tenant = tenant
        self._serving = serving
        self._rng = random.Random(seed)

    def run(self) -> None:
        """Go on until a request fails, as it does when the server is killed."""
        headers = {"Authorization": f"Bearer {KEYS[self.tenant]}"}
        try:
            while True:
                body = {"messages": [{"role": "user", "content": f"number {self._rng.random()}"}]}
                status, _, answer = self._serving.ask("/v1/chat/completions", body, headers)
                if status != 200:
                    self.wrong.append(f"{status}: {answer}")
                    return
                for _ in range(self._rng.choice((0, 1, 1, 2))):
                    value = self._rng.choice((0.0, 0.25, 1.0))
                    self.meant[answer["id"]] = value
                    status, _, said = self._serving.ask("/v1/feedback", {"id": answer["id"], "value": value}, headers)
                    if status != 200:
                        self.wrong.append(f"{status}: {said}")
                        return
                    self.acknowledged[answer["id"]] = value
        except (OSError, ValueError, EOFError):
            return
        except Exception as error:  # noqa: BLE001  # an incomplete answer, as http.client tells it
            if "IncompleteRead" not in repr(error) and "RemoteDisconnected" not in repr(error):
                self.wrong.append(repr(error))


def verify(state: Path, acknowledged: dict[str, float], meant: dict[str, float]) -> list[str]:
    """Return what is wrong with a tenant's state."""
    found = check(state)
    with Store(state, looking=True) as store:
        kept = {f"chatcmpl-{each.decision.request.request_id}": each.satisfied for each in store.requests}
        queue, recursion = store.policy.snapshot().queue, store.requests.queue()
    if queue != recursion:
        found.append(f"the debt is {queue!r}, but its recursion gives {recursion!r}")
    for identity, value in acknowledged.items():
        if kept.get(identity) not in (value, meant[identity]):
            found.append(f"{identity}: {value} was acknowledged, {kept.get(identity)} is kept")
    return found


def campaign(folder: Path, kills: int, seed: int) -> tuple[int, list[str], list[float]]:
    """Kill a server a number of times; return how much was acknowledged, what is wrong, and the seconds to be ready."""
    rng = random.Random(seed)
    known: dict[str, dict[str, float]] = {tenant: {} for tenant in KEYS}
    meant: dict[str, dict[str, float]] = {tenant: {} for tenant in KEYS}
    found: list[str] = []
    ready_s: list[float] = []
    env = {"KEY_ONE": KEYS["one"], "KEY_TWO": KEYS["two"]}
    for _ in range(kills):
        started = time.monotonic()
        with Serving(folder, TWO + TENANTS, scripted=0, env=env) as serving:
            ready_s.append(time.monotonic() - started)
            clients = [Client(serving, tenant, rng.randrange(2**32)) for tenant in KEYS for _ in range(CLIENTS)]
            for client in clients:
                client.start()
            while not any(client.acknowledged for client in clients) and any(map(Client.is_alive, clients)):
                time.sleep(0.01)
            time.sleep(rng.uniform(0.0, LONGEST_LIFE_S))
            serving.process.kill()
            for client in clients:
                client.join()
                known[client.tenant] |= client.acknowledged
                meant[client.tenant] |= client.meant
                found += client.wrong
        for tenant in KEYS:
            found += verify(folder / f"state-{tenant}", known[tenant], meant[tenant])
        if found:
            break
    return sum(map(len, known.values())), found, ready_s


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign, and print what came of it; the exit code is 1 if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        acknowledged, found, ready_s = campaign(Path(folder), given.kills, given.seed)
    for line in found:
        print(line)
    print(f"{len(ready_s)} kills, {acknowledged} judgements acknowledged, {len(found)} violations")
    print(f"ready after {statistics.median(ready_s):.2f} s (median), {max(ready_s):.2f} s at most")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
