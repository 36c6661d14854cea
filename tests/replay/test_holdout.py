"""Which requests are held out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import learnable, make_recording

from messctl.errors import UsageError
from messctl.replay.holdout import Holdout, held_out


@given(st.floats(0.01, 0.99), st.sampled_from(["time", "hash"]))
def test_the_share_is_held_out_by_time_or_by_hash(share, by):
    recording = make_recording(learnable(200))
    mask = held_out(recording, Holdout(share, by))
    if by == "time":
        assert mask.sum() == round(share * 200)
        assert np.diff(mask.astype(int)).min() >= 0
    else:
        assert abs(mask.mean() - share) < 0.15
        fewer = recording.only(np.arange(50, 100))
        assert held_out(fewer, Holdout(0.5, by)).tolist() == held_out(recording, Holdout(0.5, by))[50:100].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0,), "holdout is 0"),
        ((1.0,), "holdout is 1"),
        ((float("nan"),), "holdout is nan"),
        ((0.3, "tiem"), "'time'"),
    ],
)
def test_impossible_holdouts_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        Holdout(*arguments)
    with pytest.raises(UsageError, match="holds out 0 of 3"):
        held_out(make_recording(learnable(3)), Holdout(0.01))
