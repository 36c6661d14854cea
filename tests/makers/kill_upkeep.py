"""What a kill campaign does to `state prune` and `state copy`: kills them at a random instant, then looks at the state.

A prune takes the oldest requests and changes nothing that is said of the whole. A copy that was interrupted is finished
by the same command, and holds what the state holds.
"""

from __future__ import annotations

import re
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kill_files import documents, lines, rows, text
from long_states import the_whole

from messctl.state.store import Store, check

if TYPE_CHECKING:
    from kill_campaign import Campaign

LONGEST_LIFE_S = 0.2
PATIENCE_S = 60.0
"""So long a copy may take that nobody kills."""
ORDER = "SELECT request_id FROM requests ORDER BY id"
TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('copying', 'sqlite_sequence')"


def kill_prune(campaign: Campaign) -> None:
    """Kill a prune: the requests that are left are the newest, and status and debt are as before."""
    before, whole = _ids(campaign.state), _whole(campaign.state)
    said = _killed(campaign, ["state", "prune", "--keep", campaign.rng.choice(["0m", "1m"])])
    left = _ids(campaign.state)
    campaign.counts["prunes killed"] += 1
    campaign.counts["of these with some requests gone"] += len(left) < len(before)
    campaign.counts["prunes acknowledged"] += bool(said)
    if before[len(before) - len(left) :] != left:
        campaign.found.append(f"a prune left {len(left)} of {len(before)} requests, which are not the newest")
    if _whole(campaign.state) != whole:
        campaign.found.append("a prune changed what is said of the whole")
    for each in said:
        if each["left"] != len(left):
            campaign.found.append(f"a prune said that {each['left']} requests are left; it is {len(left)}")
        texts = [path.read_bytes() for path in campaign.folder.glob(f"{campaign.state.name}*")]
        if not left and any(re.search(rb"prompt \d", one) for one in texts):
            campaign.found.append("a prune was acknowledged, and the text of a prompt is left")
    gone = set(before) - set(left)
    for known in (campaign.known.served, campaign.known.feedback):
        for request_id in gone & set(known):
            del known[request_id]


def kill_copy(campaign: Campaign) -> None:
    """Kill a copy, and let the same command finish it: then it is sound, and holds the same rows."""
    campaign.counts["copies killed"] += 1
    target = campaign.folder / f"copy-{campaign.counts['copies killed']}"
    command = ["state", "copy", str(campaign.state), str(target)]
    if not _killed(campaign, command):
        campaign.counts["copies begun and finished by the next"] += bool(rows(target, "SELECT 1 FROM copying"))
        target = target if _marked_or_absent(target) else target.with_name(f"{target.name}-again")
        if not _ended(campaign, [*command[:-1], str(target)]):
            campaign.found.append(f"an interrupted copy, {target.name}, was not finished")
            return
    campaign.found += [f"the copy: {each}" for each in check(target)]
    if rows(target, "PRAGMA user_version") != rows(campaign.state, "PRAGMA user_version"):
        return  # of an older state, whose tables the copy has in their latest form
    for (table,) in rows(target, TABLES):
        here, there = (sorted(map(repr, rows(path, f"SELECT * FROM {table}"))) for path in (target, campaign.state))
        if here != there:
            campaign.found.append(f"a copy has other rows of {table}")


def _marked_or_absent(target: Path) -> bool:
    """Return whether a copy is still to be made or finished; one that was finished, and not acknowledged, is not."""
    return not rows(target, "SELECT 1 FROM requests") or bool(rows(target, "SELECT 1 FROM copying"))


def _killed(campaign: Campaign, command: list[str]) -> list[dict[str, Any]]:
    """Begin a command, kill it at a random instant, and return what it acknowledged."""
    child = campaign.start(lambda *_: iter([command]))
    folder = campaign.alive[child]
    time.sleep(campaign.rng.uniform(0.0, LONGEST_LIFE_S))
    campaign.kill(child)
    return list(documents(text(folder / "out")))


def _ended(campaign: Campaign, command: list[str]) -> list[dict[str, Any]]:
    """Carry out a command to its end, and return what it acknowledged."""
    child = campaign.start(lambda *_: iter([command]))
    folder = campaign.alive[child]
    until = time.monotonic() + PATIENCE_S
    while not lines(folder / "done") and time.monotonic() < until:
        time.sleep(0.01)
    campaign.kill(child)
    campaign.counts["kills"] -= 1  # it was at its end
    return list(documents(text(folder / "out")))


def _ids(state: Path) -> list[str]:
    return [row[0] for row in rows(state, ORDER)]


def _whole(state: Path) -> Any:
    with closing(Store(state, looking=True)) as store:
        return the_whole(store)
