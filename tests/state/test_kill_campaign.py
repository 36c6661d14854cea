"""A short kill campaign, and whether a campaign would see a loss."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="there processes cannot be forked")]
MAKERS = Path(__file__).parents[1] / "makers"

TAMPERED = """
import sqlite3, sys
from pathlib import Path
from kill_campaign import Campaign
campaign = Campaign(Path(sys.argv[1]), "messplus", 3)
while len(campaign.known.feedback) < 3:  # on a busy machine, processes may be killed before they do much
    campaign.go(12, resets=False)
sound = campaign.state.read_bytes()
assert campaign.found == [], campaign.found
for statement in sys.argv[2:]:
    campaign.state.write_bytes(sound)
    database = sqlite3.connect(campaign.state)
    database.execute(statement)
    database.commit()
    database.close()
    campaign._check()
    assert any("doctor" not in each for each in campaign.found), statement
    campaign.found.clear()
"""


@pytest.mark.parametrize("policy", ["messplus", "bandit"])
def test_killed_processes_lose_nothing_that_they_acknowledged(policy):
    done = subprocess.run(
        [sys.executable, MAKERS / "kill_campaign.py", "--kills", "60", "--policy", policy],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    counts = {name: int(count.replace(",", "")) for count, name in re.findall(r"^ *([\d,]+) (.+)$", done.stdout, re.M)}
    assert counts["violations"] == 0
    assert counts["kills"] >= 60
    assert counts["judgements acknowledged"] > 0
    assert counts["epochs that begin with an older state"] == 1
    assert counts["checks of the state"] == counts["queues equal to the recursion, bit by bit"] >= 7


def test_a_campaign_sees_a_loss(tmp_path):
    """A lost answer, lost or changed feedback, a request that nobody asked, a queue that is slightly off."""
    statements = [
        "DELETE FROM answers WHERE request = (SELECT request FROM feedback LIMIT 1)",
        "DELETE FROM feedback WHERE id = (SELECT min(id) FROM feedback)",
        "UPDATE feedback SET satisfied = 0.5 WHERE id = (SELECT min(id) FROM feedback)",
        "UPDATE requests SET prompt = 'prompt nobody' WHERE id = (SELECT min(id) FROM requests)",
        "UPDATE requests SET served = 'nobody' WHERE id = (SELECT min(request) FROM feedback)",
        "UPDATE router SET queue = queue + 1e-9",
        "UPDATE router SET balance = balance + 1",
    ]
    done = subprocess.run(
        [sys.executable, "-c", TAMPERED, tmp_path, *statements],
        cwd=MAKERS, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
