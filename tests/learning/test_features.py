import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_features import plain_features

from messctl.learning.compiled import plainly
from messctl.learning.features import PROPERTIES, WORDS, _encode_many, concatenate, encode, encode_one, width


def as_dict(features, row=0):
    part = slice(features.starts[row], features.starts[row + 1])
    return dict(zip(features.indices[part].tolist(), features.values[part].tolist(), strict=True))


anything = st.text(max_size=200) | st.text(alphabet=st.characters(categories=["Cs", "L", "N", "P"]), max_size=30)


@settings(max_examples=300)
@given(anything, st.sampled_from([WORDS, 32, 7]))
def test_a_prompt_has_the_same_features_in_plain_python_and_compiled(prompt, words):
    with plainly():
        plain = encode_one(prompt, words)
    text = np.frombuffer(prompt.encode("utf-8", "surrogatepass"), np.uint8)
    _, indices, values = _encode_many(text, np.array([0, len(text)], np.int64), words)
    assert (plain.indices.tolist(), plain.values.tobytes()) == (indices.tolist(), values.tobytes())


@settings(max_examples=300)
@given(anything, st.sampled_from([WORDS, 32, 7]))
def test_the_features_of_a_prompt_match_a_second_implementation(prompt, words):
    assert as_dict(encode_one(prompt, words)) == pytest.approx(plain_features(prompt, words), rel=1e-6)


@given(st.lists(st.text(max_size=60), max_size=12), st.integers(0, 12))
def test_the_features_of_a_column_are_those_of_each_prompt(prompts, skip):
    column = pa.array(prompts, pa.large_string())[skip:]
    features = encode(column)
    assert len(features) == len(column)
    for row, prompt in enumerate(prompts[skip:]):
        assert as_dict(features, row) == as_dict(encode_one(prompt))


@given(st.lists(st.lists(st.text(max_size=20), max_size=4), min_size=1, max_size=4))
def test_concatenated_parts_equal_the_whole(parts):
    whole = encode(pa.array([prompt for part in parts for prompt in part], pa.large_string()))
    joined = concatenate([encode(pa.array(part, pa.large_string())) for part in parts])
    assert joined.starts.tolist() == whole.starts.tolist()
    assert joined.indices.tolist() == whole.indices.tolist()
    assert joined.values.tobytes() == whole.values.tobytes()


@given(st.text(max_size=200))
def test_rows_are_sorted_bounded_and_of_length_one(prompt):
    features = encode_one(prompt)
    assert (np.diff(features.indices) > 0).all()
    words = features.values[features.indices < WORDS]
    assert len(words) == 0 or float((words.astype(float) ** 2).sum()) == pytest.approx(1.0, rel=1e-6)
    assert (np.abs(features.values[features.indices >= WORDS]) < 3).all()
    assert features.width == width() == WORDS + len(PROPERTIES)


def test_case_does_not_change_words_and_csr_holds_the_same_numbers():
    lower, upper = encode_one("prove it"), encode_one("PROVE it")
    assert lower.indices[lower.indices < WORDS].tolist() == upper.indices[upper.indices < WORDS].tolist()
    dense = lower.csr().toarray()
    assert dense.shape == (1, width())
    assert dict(enumerate(dense[0])) == pytest.approx({i: as_dict(lower).get(i, 0.0) for i in range(width())})
