"""A short kill campaign under load; `python tests/makers/serve_campaign.py --kills 50` is the long one."""

import pytest

pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow


def test_a_server_that_is_killed_under_load_loses_no_acknowledged_feedback(tmp_path):
    from serve_campaign import campaign

    acknowledged, found, ready_s = campaign(tmp_path, kills=4, seed=3)
    assert found == []
    assert len(ready_s) == 4
    assert acknowledged >= 4
