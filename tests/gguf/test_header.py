"""The header of GGUF files: valid files equal what the gguf package reads, damaged ones have an error each."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
import tracemalloc

import gguf
import numpy as np
import pytest
from gguf_making import write_gguf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from messctl.errors import BackendError
from messctl.gguf import read_header
from messctl.gguf.tables import FILE_TYPES, TENSOR_TYPES


def test_a_valid_file_is_read(tmp_path):
    path = write_gguf(
        tmp_path / "a.gguf", texts={"general.license": "mit", "general.description": "small", "general.name": "A"}
    )
    header = read_header(path)
    assert (header.kind, header.architecture, header.name, header.quantisation) == ("model", "llama", "A", "F16")
    assert header.parameters == header.active_parameters == 320
    assert header.file_bytes == path.stat().st_size
    assert (header.context_length, header.block_count, header.kv_heads) == (256, 2, 2)
    assert (header.license, header.description, header.chat_template) == ("mit", "small", True)
    # 2 layers × 2 kv heads × 8 elements × (key and value) × 2 bytes
    assert header.kv_bytes_per_token == 2 * 2 * 8 * 2 * 2
    assert header.memory_bytes(100) == header.file_bytes + 100 * 128
    assert header.memory_bytes(0) == header.memory_bytes(256)


@pytest.mark.parametrize(
    ("made", "per_token"),
    [
        ({"kv_heads": None}, 2 * 4 * 8 * 2 * 2),
        ({"kv_heads": [2, 0]}, 2 * 8 * 2 * 2),
        ({"heads": 0, "kv_heads": None}, 0),
        ({"counts": {"llama.attention.key_length": 5, "llama.attention.value_length": 3}}, 2 * 2 * (5 + 3) * 2),
    ],
)
def test_the_bytes_of_one_token_in_the_cache(tmp_path, made, per_token):
    assert read_header(write_gguf(tmp_path / "a.gguf", **made)).kv_bytes_per_token == per_token


def test_missing_fields_have_defaults(tmp_path):
    header = read_header(write_gguf(tmp_path / "some.gguf", kind=None, file_type=None, template=None))
    assert (header.kind, header.name, header.quantisation, header.chat_template) == ("model", "some", "F16", False)
    assert (header.license, header.description) == (None, None)


def test_only_the_used_experts_of_a_mixture_are_active_parameters(tmp_path):
    tensors = {
        "token_embd.weight": np.zeros((10, 32), np.float16),
        "blk.0.ffn_up_exps.weight": np.zeros((8, 4, 32), np.float16),
    }
    counts = {"llama.expert_count": 8, "llama.expert_used_count": 2}
    header = read_header(write_gguf(tmp_path / "moe.gguf", tensors=tensors, counts=counts))
    assert header.parameters == 320 + 1024
    assert header.active_parameters == 320 + 256


def test_the_header_equals_that_of_the_gguf_package(tmp_path):
    tensors = {"a": np.zeros((3, 32), np.float32), "b": np.zeros((2, 5, 32), np.float16), "c": np.zeros(7, np.float32)}
    path = write_gguf(tmp_path / "a.gguf", tensors=tensors, vocabulary=5000)
    theirs = gguf.GGUFReader(path)
    header = read_header(path)
    assert header.parameters == sum(tensor.n_elements for tensor in theirs.tensors)
    assert header.context_length == theirs.get_field("llama.context_length").contents()
    end = max(tensor.data_offset + tensor.n_bytes for tensor in theirs.tensors)
    assert read_header(shortened(path, tmp_path / "b.gguf", end)).parameters == header.parameters
    with pytest.raises(BackendError, match="is cut short"):
        read_header(shortened(path, tmp_path / "c.gguf", end - 1))


def shortened(path, other, size):
    other.write_bytes(path.read_bytes()[:size])
    return other


def text(value):
    return struct.pack("<Q", len(value)) + value


def raw(fields=b"", tensors=b"", *, kv_count=0, tensor_count=0, version=3):
    return b"GGUF" + struct.pack("<IQQ", version, tensor_count, kv_count) + fields + tensors


def array(kind, length):
    return text(b"k") + struct.pack("<IIQ", 9, kind, length)


def tensor(dimensions, kind=0, offset=0, count=None):
    shape = struct.pack(f"<{len(dimensions)}Q", *dimensions)
    return text(b"t") + struct.pack("<I", count or len(dimensions)) + shape + struct.pack("<IQ", kind, offset)


DAMAGED = [
    (b"", "is empty; download it again"),
    (b"G", "is not a GGUF file (it begins with b'G')"),
    (b"\x1b[31mPK\x03\x04 and on", r"is not a GGUF file (it begins with b'\x1b[31mPK\x03')"),
    (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
    (b"GGUF", "ends within its header"),
    (raw()[:20], "ends within its header"),
    (raw(version=1), "is GGUF version 1, but messctl reads versions 2 and 3"),
    (raw(version=99), "is GGUF version 99"),
    (raw(version=3 << 24), "is for big-endian machines"),
    (raw(), "holds no weights"),
    (raw(kv_count=2**63), "claims 9,223,372,036,854,775,808 fields"),
    (raw(tensor_count=2**40), "claims 0 fields and 1,099,511,627,776 tensors"),
    (raw(kv_count=9), "ends within its header"),
    (raw(text(b"k") + struct.pack("<I", 77), kv_count=1), "there is no field type 77"),
    (raw(struct.pack("<Q", 2**63) + b"k", kv_count=1), "ends within its header"),
    (raw(array(0, 2**60), kv_count=1), "claims a list of 1,152,921,504,606,846,976 items"),
    (raw(array(4, 9_999_999), kv_count=1), "is cut short: it should have 40,000,045 bytes, but has 49"),
    (raw(array(8, 9_999_999), kv_count=1), "ends within its header"),
    (raw(array(8, 1) + struct.pack("<QQ", 2**64 - 1, 0), tensor_count=1, kv_count=1), "ends within its header"),
    (raw(array(9, 1) + bytes(32), kv_count=1), "there is no list of field type 9"),
    (raw((text(b"k") + struct.pack("<II", 4, 1)) * 2, kv_count=2), "it has the field 'k' twice"),
    (raw(text(b"general.alignment") + struct.pack("<II", 4, 3), kv_count=1), "an alignment of 3 is impossible"),
    (raw(tensors=tensor([4], count=2**31), tensor_count=1), "a tensor has 2,147,483,648 dimensions"),
    (raw(tensors=tensor([4], kind=999), tensor_count=1), "has weights of type 999"),
    (raw(tensors=tensor([31], kind=2), tensor_count=1), "31 weights do not fill blocks of 32"),
    (raw(tensors=tensor([2**63, 2**63]), tensor_count=1), "is cut short: it should have"),
    (raw(tensors=tensor([4], offset=2**64 - 1), tensor_count=1), "is cut short"),
    (raw(tensors=tensor([1]) + bytes(99), tensor_count=1), "does not name its architecture"),
]


@pytest.mark.parametrize(("content", "message"), DAMAGED)
def test_a_damaged_file_is_a_one_line_error(tmp_path, content, message):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(BackendError) as caught:
        read_header(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_path_that_is_not_a_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "absent", "there is no such model file"),
        (tmp_path / "absent" / "more", "there is no such model file"),
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "is not an ordinary file"),
        (tmp_path / ("x" * 300), "cannot be read"),
        (tmp_path / "a\0b", "cannot be read"),
    ):
        with pytest.raises(BackendError, match=message):
            read_header(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_refused(tmp_path):
    path = write_gguf(tmp_path / "a.gguf")
    path.chmod(0)
    with pytest.raises(BackendError, match="cannot be read"):
        read_header(path)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"counts": {"llama.attention.key_length": 0xFFFFFFFF}}, None),
        ({"texts": {"llama.attention.key_length": "x"}}, "llama.attention.key_length is not a count"),
        ({"blocks": 0xFFFFFFFF}, "its header states 4,294,967,295 layers"),
        ({"blocks": 513}, "its header states 513 layers"),
        ({"blocks": 0}, "its header states 0 layers"),
        ({"kv_heads": [1] * 5000}, "head_count_kv"),
        ({"tensors": {}}, "holds no weights"),
        ({"architecture": "a\n\x1b[31m"}, "does not name its architecture"),
    ],
)
def test_absurd_values_are_refused_or_harmless(tmp_path, made, message):
    path = write_gguf(tmp_path / "a.gguf", **made)
    if message is None:
        assert read_header(path).kv_bytes_per_token > 2**30
        return
    with pytest.raises(BackendError, match=message):
        read_header(path)


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), -1.0])
def test_an_epsilon_with_which_llama_cpp_aborts_is_refused(tmp_path, value):
    path = write_gguf(tmp_path / "a.gguf", more=lambda writer: writer.add_layer_norm_rms_eps(value))
    with pytest.raises(BackendError, match=r"layer_norm_rms_epsilon is (nan|-inf|-1\.0), with which llama\.cpp aborts"):
        read_header(path)


def test_a_split_model_is_the_sum_of_its_parts(tmp_path):
    names = [f"m-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    for number, name in enumerate(names):
        split = {"split.no": number, "split.count": 3}
        write_gguf(tmp_path / name, tensors={f"t{number}": np.zeros((number + 1, 32), np.float16)}, u16=split)
    header = read_header(tmp_path / names[0])
    assert header.parameters == 6 * 32
    assert header.file_bytes == sum((tmp_path / name).stat().st_size for name in names)
    with pytest.raises(BackendError, match=f"is part 2 of 3; give the first part, {names[0]}"):
        read_header(tmp_path / names[1])
    (tmp_path / names[0]).rename(tmp_path / "other.gguf")
    with pytest.raises(BackendError, match=r"is part 1 of 3, so its name must end in -00001-of-00003\.gguf"):
        read_header(tmp_path / "other.gguf")
    (tmp_path / "other.gguf").rename(tmp_path / names[0])
    (tmp_path / names[2]).unlink()
    with pytest.raises(BackendError, match=f"{names[2]}: there is no such model file"):
        read_header(tmp_path / names[0])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_damage_never_causes_more_than_a_backend_error(tmp_path, data):
    path = tmp_path / "whole.gguf"
    if not path.exists():
        write_gguf(path, vocabulary=4)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        read_header(damaged)
    except BackendError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_the_tables_equal_those_of_the_gguf_package():
    theirs = {int(kind): (kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType}
    assert {kind: tuple(entry) for kind, entry in TENSOR_TYPES.items() if kind in theirs} == theirs
    names = {int(kind): kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in gguf.LlamaFileType}
    del names[gguf.LlamaFileType.GUESSED]
    assert {kind: name for kind, name in FILE_TYPES.items() if kind in names} == names


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64, np.float64])
def test_weight_types_without_arithmetic_in_llama_cpp_are_refused(tmp_path, kind):
    name = np.dtype(kind).name.upper().replace("INT", "I").replace("FLOAT", "F")
    path = write_gguf(tmp_path / "a.gguf", tensors={"output.weight": np.zeros((2, 32), kind)})
    with pytest.raises(
        BackendError, match=f"has weights of type {name}, with which llama.cpp cannot compute; download"
    ):
        read_header(path)
    if kind == np.int32:
        tensors = {"a.weight": np.zeros(32, np.float32), "blk.0.ffn_gate_tid2eid.weight": np.zeros((9, 2), kind)}
        assert read_header(write_gguf(tmp_path / "b.gguf", tensors=tensors)).parameters == 32 + 18


@pytest.mark.parametrize(("kind", "shape"), [("Q8_1", (1, 40)), ("Q8_K", (1, 292))])
def test_types_of_intermediate_results_are_refused(tmp_path, kind, shape):
    def more(writer):
        writer.add_tensor("a", np.zeros(shape, np.uint8), raw_dtype=gguf.GGMLQuantizationType[kind])

    with pytest.raises(
        BackendError, match=f"has weights of type {kind}, with which llama.cpp cannot compute; download"
    ):
        read_header(write_gguf(tmp_path / "a.gguf", more=more))


BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))


@pytest.mark.parametrize(
    ("tokenizer", "tokens", "message"),
    [
        ("gpt2", ("a", "b"), None),
        ("gpt2", ("a", "b", "a"), "holds a token twice"),
        ("gpt2", ("a", "a\0b"), "holds a token twice"),  # for llama.cpp, text ends at its first NUL
        ("gpt2", ("", ""), None),  # llama.cpp gives each empty token a name …
        ("gpt2", ("", "[EMPTY_0]"), "holds a token twice"),  # … and this is one of these names
        ("none", ("a",), "has no vocabulary"),
        ("no_vocab", ("a",), "has no vocabulary"),
        ("none\0", ("a",), "has no vocabulary"),
        ("llama", ("a", *BYTES), None),
        ("llama", BYTES[1:], "without all 256 bytes"),
        ("llama", (*BYTES[:65], "A", *BYTES[66:]), None),
        ("llama", ("\0", *BYTES[1:]), "without all 256 bytes"),
        ("llama", (*BYTES[:255], "<0xff>"), "without all 256 bytes"),
    ],
)
def test_vocabularies_that_crash_llama_cpp_are_refused(tmp_path, tokenizer, tokens, message):
    path = write_gguf(tmp_path / "a.gguf", vocabulary=tokens, texts={"tokenizer.ggml.model": tokenizer})
    if message is None:
        assert read_header(path).parameters == 320
        return
    with pytest.raises(BackendError, match=message):
        read_header(path)


def test_every_part_of_a_split_model_is_checked(tmp_path):
    for number, kind in enumerate((np.float16, np.int8)):
        name = f"m-0000{number + 1}-of-00002.gguf"
        split = {"split.no": number, "split.count": 2}
        write_gguf(tmp_path / name, tensors={f"t{number}": np.zeros((2, 32), kind)}, u16=split)
    with pytest.raises(BackendError, match="m-00002-of-00002.gguf: has weights of type I8"):
        read_header(tmp_path / "m-00001-of-00002.gguf")


def test_a_large_vocabulary_is_read_quickly(tmp_path):
    path = write_gguf(tmp_path / "a.gguf", vocabulary=10_000)
    read_header(path)
    begin = time.perf_counter()
    read_header(path)
    ours = time.perf_counter()
    gguf.GGUFReader(path)
    assert ours - begin < (time.perf_counter() - ours) / 5


def test_a_large_vocabulary_takes_little_memory(tmp_path):
    path = write_gguf(tmp_path / "a.gguf", vocabulary=150_000)
    read_header(path)
    tracemalloc.start()
    try:
        read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_reading_a_header_does_not_import_the_gguf_package(tmp_path):
    path = write_gguf(tmp_path / "a.gguf")
    code = "import sys; from pathlib import Path; from messctl.gguf import read_header as read\n"
    code += "read(Path(sys.argv[1])); sys.exit('gguf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 0
