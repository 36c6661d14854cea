"""The feature cache of a trace: the same numbers, never those of another trace, and no stray files."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from making import write_trace

from messctl.cli import run
from messctl.learning import features
from messctl.learning.feature_cache import FeatureCache
from messctl.learning.features import WordEncoder, width
from messctl.replay.loading import load

ROWS = [{"a": (1.0, 1.0), "b": (0.0, 2.0)}, {"a": (0.0, 1.0)}, {"a": (1.0, 1.0), "b": (1.0, 2.0)}] * 4
KEPT = "t.parquet.features.npz"


@pytest.fixture
def trace(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "KEPT_FROM", 1)
    return write_trace(tmp_path / "t.parquet", ROWS)


def same(one, other):
    assert one.request_ids == other.request_ids
    for name in ("starts", "indices", "values"):
        mine, others = getattr(one.features, name), getattr(other.features, name)
        assert (mine.dtype, mine.tobytes()) == (others.dtype, others.tobytes())
    assert one.cost.tobytes() == other.cost.tobytes()


def test_a_cached_trace_gives_the_same_recording(trace, tmp_path):
    plain = load(trace, cache=False)
    assert os.listdir(tmp_path) == ["t.parquet"]
    assert plain.facts.left_out == 4
    for _ in range(2):
        same(load(trace).rounds, plain.rounds)
        assert sorted(os.listdir(tmp_path)) == ["t.parquet", KEPT]
    with np.load(tmp_path / KEPT) as kept:
        assert len(kept["starts"]) == len(ROWS) + 1  # all rows, whatever is usable of them


def test_a_small_trace_has_no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "KEPT_FROM", len(ROWS) + 1)
    load(write_trace(tmp_path / "t.parquet", ROWS))
    assert os.listdir(tmp_path) == ["t.parquet"]


def test_the_cache_of_another_content_or_encoder_is_not_used(trace):
    load(trace)
    write_trace(trace, ROWS[:6])
    same(load(trace).rounds, load(trace, cache=False).rounds)
    assert len(FeatureCache.of(trace, WordEncoder()).read(6)) == 6
    for other in ("words-0", "words-999", "worms"):
        assert FeatureCache.of(trace, WordEncoder(other)).read(6) is None


def test_the_cache_of_a_large_trace_is_used_and_its_folder_is_this_users_own(tmp_path):
    cache = FeatureCache(tmp_path / "new" / "it.npz", "a key")
    encoded = features.encode(pa.array(["what is it"] * 1000, pa.large_string()))
    cache.write(encoded)
    assert cache.file.parent.stat().st_mode & 0o777 == 0o700
    again = cache.read(1000)
    assert again.values.tobytes() == encoded.values.tobytes()
    assert cache.read(999) is None


@pytest.mark.parametrize("broken", [b"", b"PK", b"x" * 1000, None])
def test_a_broken_cache_is_written_again(trace, tmp_path, broken):
    load(trace)
    whole = (tmp_path / KEPT).read_bytes()
    (tmp_path / KEPT).write_bytes(whole[: len(whole) // 2] if broken is None else broken)
    same(load(trace).rounds, load(trace, cache=False).rounds)
    assert FeatureCache.of(trace, WordEncoder()).read(len(ROWS)) is not None


def put(name, at, value):
    def damage(parts):
        parts[name][at] = value

    return damage


def shortened(*names):
    return lambda parts: parts.update({name: parts[name][:-1] for name in names})


DAMAGE = {
    "an index beyond": put("indices", 3, 2**31 - 1),
    "an index one beyond": put("indices", 3, width()),
    "an index below": put("indices", 3, -1),
    "a start beyond": put("starts", 4, 2**40),
    "a start that goes back": put("starts", 4, 0),
    "a first start": put("starts", 0, -1),
    "a last start": put("starts", -1, 5),
    "a row less": shortened("starts"),
    "an index less": shortened("indices"),
    "a value less": shortened("values"),
    "both less": shortened("indices", "values"),
    "no number": put("values", 2, np.nan),
    "another type": lambda parts: parts.update(indices=parts["indices"].astype(np.float64)),
    "another shape": lambda parts: parts.update(values=parts["values"][:, None]),
    "nothing": lambda parts: parts.pop("values"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_cache_with_the_right_key_is_written_again(trace, tmp_path, damage):
    load(trace)
    with np.load(tmp_path / KEPT) as kept:
        parts = {name: kept[name].copy() for name in kept.files}
    damage(parts)
    np.savez(tmp_path / KEPT, **parts)
    assert FeatureCache.of(trace, WordEncoder()).read(len(ROWS)) is None
    same(load(trace).rounds, load(trace, cache=False).rounds)
    assert FeatureCache.of(trace, WordEncoder()).read(len(ROWS)) is not None


def test_a_compressed_cache_is_not_read(trace, tmp_path):
    load(trace)
    with np.load(tmp_path / KEPT) as kept:
        np.savez_compressed(tmp_path / KEPT, **{name: kept[name] for name in kept.files})
    assert FeatureCache.of(trace, WordEncoder()).read(len(ROWS)) is None


def test_a_pipe_in_place_of_the_cache_is_replaced(trace, tmp_path):
    os.mkfifo(tmp_path / KEPT)
    same(load(trace).rounds, load(trace, cache=False).rounds)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cache_with_any_wrong_byte_gives_the_right_features(trace, tmp_path, data):
    (tmp_path / KEPT).unlink(missing_ok=True)
    load(trace)
    content = bytearray((tmp_path / KEPT).read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[at] ^= data.draw(st.integers(1, 255))
    (tmp_path / KEPT).write_bytes(content)
    same(load(trace).rounds, load(trace, cache=False).rounds)


def test_the_cache_of_a_read_only_folder_is_in_the_users_cache_folder(trace, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("messctl.learning.feature_cache.os.access", lambda path, _mode: path != trace.parent)
    place = FeatureCache.of(trace, WordEncoder()).file
    assert place.parent == tmp_path / "cache" / "messctl"
    monkeypatch.undo()
    cache = FeatureCache(place, "key")
    kept = load(trace, cache=False).rounds.features
    cache.write(kept)
    assert cache.read(len(kept)) is not None
    assert FeatureCache(place, "another").read(len(kept)) is None


def test_a_cache_that_cannot_be_written_is_left_out(trace, tmp_path):
    (tmp_path / KEPT).mkdir()
    same(load(trace).rounds, load(trace, cache=False).rounds)
    assert sorted(os.listdir(tmp_path)) == ["t.parquet", KEPT]


@pytest.mark.slow
def test_several_processes_may_write_the_cache_at_once(trace, tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from messctl.learning import features; from messctl.replay.loading import load\n"
        "features.KEPT_FROM = 1\n"
        "for _ in range(20):\n"
        "    Path(sys.argv[1] + '.features.npz').unlink(missing_ok=True)\n"
        "    load(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(trace)]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: subprocess.run(command, capture_output=True, text=True, check=False), range(2)))
    assert [(each.returncode, each.stderr) for each in done] == [(0, ""), (0, "")]
    same(load(trace).rounds, load(trace, cache=False).rounds)
    assert sorted(os.listdir(tmp_path)) == ["t.parquet", KEPT]


@pytest.mark.slow
def test_no_cache_writes_no_file(trace, tmp_path, capsys):
    for command in (["replay", str(trace), "--alpha", "0.5"], ["tune", str(trace), "--alpha", "0.5", "--v", "1"]):
        assert run([*command, "--no-cache"]) in (0, 1)
        assert os.listdir(tmp_path) == ["t.parquet"]
    run(["replay", str(trace), "--alpha", "0.5"])
    assert sorted(os.listdir(tmp_path)) == ["t.parquet", KEPT]
    capsys.readouterr()
