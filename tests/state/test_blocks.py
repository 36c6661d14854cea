"""Blocks of feedback: what is packed comes back, to the last bit, in half of the bytes if α stays the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messctl.state.blocks import block_of, packed, unpacked

SHARES = st.floats(0, 1)


@given(st.data(), st.integers(1, 8))
def test_packed_blocks_come_back_to_the_last_bit(data, size):
    """Those with one α and those with several, in any order."""
    one = st.tuples(SHARES, st.lists(SHARES, min_size=size, max_size=size)).map(lambda of: [(of[0], s) for s in of[1]])
    several = st.lists(st.tuples(SHARES, SHARES), min_size=size, max_size=size)
    blocks = [block_of((0, *step) for step in steps) for steps in data.draw(st.lists(one | several, max_size=6))]
    rows = {place: packed(block) for place, block in enumerate(blocks)}
    assert [block.tobytes() for block in unpacked(rows, size).values()] == [block.tobytes() for block in blocks]


def test_a_block_with_one_alpha_takes_half_of_the_bytes():
    steps = [(place, 0.9, float(place % 2)) for place in range(512)]
    assert len(packed(block_of(steps))) == 8 * 513
    assert len(packed(block_of([*steps[1:], (512, 0.8, 1.0)]))) == 8 * 1024


@pytest.mark.parametrize("bytes_", [b"", b"\0" * 8, np.zeros(6).tobytes(), np.full(9, np.nan).tobytes()])
def test_what_is_no_block_is_named_by_its_place(bytes_):
    sound = packed(block_of((place, 0.9, 1.0) for place in range(8)))
    with pytest.raises(ValueError, match="the packed steps up to feedback 512 "):
        unpacked({256: sound, 512: bytes_, 768: sound}, 8)
