"""Putting layers on a GPU: what zoo.yaml says of it, what llama.cpp is told, and what it reports."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace

import pytest

from messctl.backends import LlamaCpp
from messctl.backends.offload import REBUILD, Offload, lacking, put_context, put_model
from messctl.cli import run
from messctl.errors import BackendError
from messctl.offloading import Proof, prove
from messctl.records import Question
from messctl.zoo import PACKAGED_FILE, ModelSpec, load_zoo

API = pytest.importorskip("llama_cpp").llama_cpp

ON_CPU = not API.llama_supports_gpu_offload()
cpu_only = pytest.mark.skipif(not ON_CPU, reason="llama.cpp is built for a GPU here")
# What llama.cpp b6xxx prints when a model goes to one NVIDIA device, shortened to the lines that count.
CUDA_LOG = [
    "load_tensors: offloading 28 repeating layers to GPU\n",
    "load_tensors: offloading output layer to GPU\n",
    "load_tensors: offloaded 29/29 layers to GPU\n",
    "load_tensors:   CPU_Mapped model buffer size =   125.19 MiB\n",
    "load_tensors:        CUDA0 model buffer size =   934.69 MiB\n",
    "llama_context:  CUDA_Host  output buffer size =     0.58 MiB\n",
    "llama_kv_cache:      CUDA0 KV buffer size =   112.00 MiB\n",
    "llama_context:      CUDA0 compute buffer size =   299.75 MiB\n",
    "llama_context:  CUDA_Host compute buffer size =    11.01 MiB\n",
]


def model(**settings):
    return ModelSpec("m", Path("m.gguf"), **settings)


def box(name="pico-34k", **settings):
    given = load_zoo(PACKAGED_FILE).model(name)
    return ModelSpec(given.name, given.path, **{"n_ctx": 0, "max_tokens": 8, "temperature": 0.0, **settings})


def test_what_llama_cpp_reports():
    offload = Offload.heard(CUDA_LOG)
    assert (offload.layers, offload.all_layers) == (29, 29)
    assert offload.device_bytes == pytest.approx(2**20 * (934.69 + 112.00 + 299.75))
    assert offload.buffers_mib["CPU_Mapped", "model"] == 125.19
    assert Offload.heard(["", "something else"]) == Offload(None, None, {})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, False),
        ({"n_gpu_layers": 0}, False),
        ({"n_gpu_layers": -1}, True),
        ({"n_gpu_layers": 7}, True),
        ({"n_gpu_layers": 7, "gpu": "off"}, False),
        ({"gpu": "require"}, True),
        ({"gpu": "require", "n_gpu_layers": 0}, True),
    ],
)
def test_what_a_build_for_the_cpu_lacks(settings, told):
    built_for = {True: SimpleNamespace(llama_supports_gpu_offload=lambda: True)}
    built_for[False] = SimpleNamespace(llama_supports_gpu_offload=lambda: False)
    assert lacking(built_for[True], model(**settings)) is None
    assert (lacking(built_for[False], model(**settings)) is not None) == told


def test_what_llama_cpp_is_told():
    params = API.llama_model_default_params()
    put_model(API, params, model(main_gpu=1, split_mode="row", tensor_split=(3.0, 1.0)))
    shares = ctypes.cast(params.tensor_split, ctypes.POINTER(ctypes.c_float))
    assert (params.n_gpu_layers, params.main_gpu, params.split_mode) == (2**31 - 1, 1, API.LLAMA_SPLIT_MODE_ROW)
    assert shares[: API.llama_max_devices()] == [3.0, 1.0] + [0.0] * (API.llama_max_devices() - 2)
    put_model(API, params, model(n_gpu_layers=7, gpu="off"))
    assert (params.n_gpu_layers, params.split_mode) == (0, API.LLAMA_SPLIT_MODE_LAYER)
    context = API.llama_context_default_params()
    put_context(API, context, model(flash_attn="on", cache_type_k="q8_0", cache_type_v="q4_0"))
    assert (context.flash_attn_type, context.type_k, context.type_v) == (1, API.GGML_TYPE_Q8_0, API.GGML_TYPE_Q4_0)
    assert context.offload_kqv
    put_context(API, context, model(gpu="off"))
    assert (context.flash_attn_type, context.type_k, context.offload_kqv) == (-1, API.GGML_TYPE_F16, False)


@cpu_only
def test_a_gpu_that_is_required_is_missed_in_one_line():
    with LlamaCpp() as backend, pytest.raises(BackendError) as caught:
        backend.complete(box(gpu="require"), Question("What is 1 + 1?"))
    assert REBUILD in str(caught.value)
    assert "\n" not in str(caught.value)


@cpu_only
def test_layers_that_cannot_go_to_a_gpu_are_warned_of_once():
    heard: list[str] = []
    with LlamaCpp(on_warning=heard.append) as backend:
        for settings in ({}, {"n_gpu_layers": 0}, {"gpu": "off", "n_gpu_layers": 9}):
            backend.complete(box(**settings), Question("What is 1 + 1?"))
        assert heard == []
        for name in ("pico-34k", "nano-109k"):
            backend.complete(box(name, n_gpu_layers=9), Question("What is 1 + 1?"))
    assert len(heard) == 1
    assert REBUILD in heard[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"flash_attn": "on"},
        {"flash_attn": "off"},
        {"cache_type_k": "f32", "cache_type_v": "f32"},
        {"gpu": "off"},
        {"split_mode": "row", "tensor_split": (1.0,)},
    ],
)
def test_the_answer_does_not_depend_on_where_it_is_computed(settings):
    with LlamaCpp() as backend:
        usual = backend.complete(box("mini-1m"), Question("What is 17 + 25?"))
        assert backend.complete(box("mini-1m", **settings), Question("What is 17 + 25?")).answer == usual.answer


def test_a_cache_type_that_cannot_be_is_an_error_and_no_crash():
    """Blocks of a quantised cache hold 32 numbers, and so must a head; of values, llama.cpp wants flash attention."""
    with LlamaCpp() as backend, pytest.raises(BackendError, match="cannot have a context"):
        backend.complete(box("mini-1m", cache_type_v="q8_0", flash_attn="off"), Question("What is 17 + 25?"))


def test_what_was_placed_is_heard():
    with LlamaCpp() as backend:
        offload = backend.offload(box())
    assert {what for _, what in offload.buffers_mib} >= {"model", "KV"}
    if ON_CPU:
        assert (offload.layers or 0, offload.device_bytes) == (0, 0.0)


class Device:
    def __init__(self, *used):
        self.used = list(used)

    def memory_used(self):
        return self.used.pop(0)


@pytest.mark.parametrize(
    ("devices", "log", "offloaded", "text"),
    [
        ((), CUDA_LOG, True, "29 of 29 layers on a GPU, with 1.41 GB of buffers; memory of the devices: unknown"),
        ((Device(10 << 20, 12 << 20),), CUDA_LOG, True, "memory of the devices: +2.1 MB by the load"),
        ((Device(10 << 20, 10 << 20),), CUDA_LOG, False, "memory of the devices: +0 B by the load"),
        ((Device(1, 2), Device(5, 5)), [], False, "llama.cpp does not say that it put layers on a GPU"),
    ],
)
def test_offload_is_proved_by_the_report_and_by_memory(monkeypatch, devices, log, offloaded, text):
    monkeypatch.setattr("messctl.offloading.nvml_counters", lambda: devices)
    loaded = []
    backend = SimpleNamespace(offload=lambda spec: loaded.append(spec.name) or Offload.heard(log))
    proof = prove(load_zoo(PACKAGED_FILE), backend)
    assert loaded == ["pico-34k"]
    assert isinstance(proof, Proof)
    assert proof.offloaded == offloaded
    assert text in str(proof)


@cpu_only
def test_doctor_says_plainly_that_there_is_no_offload(tmp_path, capsys):
    state = ["--state", str(tmp_path / "state.sqlite")]
    assert run(["doctor", "--zoo", str(PACKAGED_FILE), *state]) == 0
    assert "✓ offload: llama.cpp is built for the CPU alone, where all layers stay" in capsys.readouterr().out
    zoo = tmp_path / "zoo.yaml"
    zoo.write_text("defaults: {gpu: require}\nmodels: [{name: a, path: 'box:pico-34k.gguf'}]\n")
    assert run(["doctor", "--zoo", str(zoo), *state]) == 2
    assert REBUILD in capsys.readouterr().out


def test_an_answer_to_the_limit_does_not_end_before():
    with LlamaCpp() as backend:
        usual = backend.complete(box(), Question("What is 1 + 1?", max_tokens=40))
        whole = backend.complete(box(), Question("What is 1 + 1?", max_tokens=40, to_the_limit=True))
    assert usual.tokens_out < whole.tokens_out == 40
    assert (usual.finish, whole.finish) == ("stop", "length")
    assert whole.answer.startswith(usual.answer)
