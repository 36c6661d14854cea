"""Layers on a GPU: the settings in zoo.yaml, the parameters of llama.cpp, and its report."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace

import pytest

from messctl.backends import LlamaCpp
from messctl.backends.offload import REBUILD, Offload, load_remedy, missing_gpu, set_context_params, set_model_params
from messctl.cli import run
from messctl.doctor.offload import LoadReport, report_of_load
from messctl.errors import BackendError
from messctl.records import Question
from messctl.zoo import PACKAGED_FILE, ModelSpec, load_zoo

API = pytest.importorskip("llama_cpp").llama_cpp

ON_CPU = not API.llama_supports_gpu_offload()
cpu_only = pytest.mark.skipif(not ON_CPU, reason="llama.cpp is built for a GPU here")
gpu_only = pytest.mark.skipif(ON_CPU, reason="llama.cpp is built for the CPU alone here")
# What llama.cpp of llama-cpp-python 0.3.36 said on an H200 of a model of 16 layers, from loading it to freeing it:
# all lines on layers and buffers, and a few of their neighbours.
CUDA_LOG = [
    "ggml_cuda_init: found 1 CUDA devices (Total VRAM: 143155 MiB):\n",
    "  Device 0: NVIDIA H200, compute capability 9.0, VMM: yes, VRAM: 143155 MiB\n",
    "llama_prepare_model_devices: using device CUDA0 (NVIDIA H200) (0000:00:06.0) - 142629 MiB free\n",
    "load_tensors: layer  16 assigned to device CUDA0, is_swa = 0\n",
    "done_getting_tensors: tensor 'token_embd.weight' (q8_0) (and 0 others) cannot be used with preferred buffer type "
    "CUDA_Host, using CPU instead\n",
    "load_tensors: offloading output layer to GPU\n",
    "load_tensors: offloading 15 repeating layers to GPU\n",
    "load_tensors: offloaded 17/17 layers to GPU\n",
    "load_tensors:   CPU_Mapped model buffer size =   266.16 MiB\n",
    "load_tensors:        CUDA0 model buffer size =  1252.41 MiB\n",
    "llama_context:  CUDA_Host  output buffer size =     0.49 MiB\n",
    "llama_kv_cache: layer  15: dev = CUDA0\n",
    "llama_kv_cache:      CUDA0 KV buffer size =    64.00 MiB\n",
    "llama_kv_cache: size =   64.00 MiB (  2048 cells,  16 layers,  1/1 seqs), K (f16):   32.00 MiB, V (f16):   "
    "32.00 MiB\n",
    "sched_reserve:      CUDA0 compute buffer size =   254.50 MiB\n",
    "sched_reserve:  CUDA_Host compute buffer size =    14.01 MiB\n",
    "~llama_context:      CUDA0 compute buffer size is 254.5000 MiB, matches expectation of 254.5000 MiB\n",
    "~llama_context:  CUDA_Host compute buffer size is  14.0098 MiB, matches expectation of  14.0098 MiB\n",
]


def model(**settings):
    return ModelSpec("m", Path("m.gguf"), **settings)


def box(name="pico-34k", **settings):
    given = load_zoo(PACKAGED_FILE).model(name)
    return ModelSpec(given.name, given.path, **{"n_ctx": 0, "max_tokens": 8, "temperature": 0.0, **settings})


def test_the_report_of_llama_cpp_is_read():
    offload = Offload.from_log(CUDA_LOG)
    assert (offload.layers, offload.all_layers) == (17, 17)
    assert offload.buffers_mib == {
        ("CPU_Mapped", "model"): 266.16,
        ("CUDA0", "model"): 1252.41,
        ("CUDA_Host", "output"): 0.49,
        ("CUDA0", "KV"): 64.0,
        ("CUDA0", "compute"): 254.5,
        ("CUDA_Host", "compute"): 14.01,
    }
    assert offload.device_bytes == pytest.approx(2**20 * (1252.41 + 64.00 + 254.50))
    assert Offload.from_log(["", "something else"]) == Offload(None, None, {})


@pytest.mark.parametrize(
    ("complaint", "advice"),
    [
        ("device CUDA0 does not support split buffers", "set `split_mode: layer` in zoo.yaml"),
        ("missing tensor 'output_norm.weight'", "download the file again, or use another one"),
    ],
)
def test_a_model_that_does_not_load_gets_advice(complaint, advice):
    assert load_remedy(complaint) == advice


@pytest.mark.parametrize(
    ("settings", "lacking"),
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
def test_a_build_for_the_cpu_names_what_it_lacks(settings, lacking):
    built_for = {True: SimpleNamespace(llama_supports_gpu_offload=lambda: True)}
    built_for[False] = SimpleNamespace(llama_supports_gpu_offload=lambda: False)
    assert missing_gpu(built_for[True], model(**settings)) is None
    assert (missing_gpu(built_for[False], model(**settings)) is not None) == lacking


def test_the_settings_reach_llama_cpp():
    params = API.llama_model_default_params()
    set_model_params(API, params, model(main_gpu=1, split_mode="row", tensor_split=(3.0, 1.0)))
    shares = ctypes.cast(params.tensor_split, ctypes.POINTER(ctypes.c_float))
    assert (params.n_gpu_layers, params.main_gpu, params.split_mode) == (2**31 - 1, 1, API.LLAMA_SPLIT_MODE_ROW)
    assert shares[: API.llama_max_devices()] == [3.0, 1.0] + [0.0] * (API.llama_max_devices() - 2)
    set_model_params(API, params, model(n_gpu_layers=7, gpu="off"))
    assert (params.n_gpu_layers, params.split_mode) == (0, API.LLAMA_SPLIT_MODE_LAYER)
    context = API.llama_context_default_params()
    set_context_params(API, context, model(flash_attn="on", cache_type_k="q8_0", cache_type_v="q4_0"))
    assert (context.flash_attn_type, context.type_k, context.type_v) == (1, API.GGML_TYPE_Q8_0, API.GGML_TYPE_Q4_0)
    assert context.offload_kqv
    set_context_params(API, context, model(gpu="off"))
    assert (context.flash_attn_type, context.type_k, context.offload_kqv) == (-1, API.GGML_TYPE_F16, False)


@cpu_only
def test_a_missing_required_gpu_is_one_line():
    with LlamaCpp() as backend, pytest.raises(BackendError) as caught:
        backend.complete(box(gpu="require"), Question("What is 1 + 1?"))
    assert REBUILD in str(caught.value)
    assert "\n" not in str(caught.value)


@cpu_only
def test_layers_that_cannot_go_to_a_gpu_cause_one_warning():
    warnings: list[str] = []
    with LlamaCpp(on_warning=warnings.append) as backend:
        for settings in ({}, {"n_gpu_layers": 0}, {"gpu": "off", "n_gpu_layers": 9}):
            backend.complete(box(**settings), Question("What is 1 + 1?"))
        assert warnings == []
        for name in ("pico-34k", "nano-109k"):
            backend.complete(box(name, n_gpu_layers=9), Question("What is 1 + 1?"))
    assert len(warnings) == 1
    assert REBUILD in warnings[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"flash_attn": "on"},
        {"flash_attn": "off"},
        {"cache_type_k": "f32", "cache_type_v": "f32"},
        {"gpu": "off"},
        {"tensor_split": (1.0,)},
        pytest.param({"split_mode": "row", "tensor_split": (1.0,)}, marks=cpu_only),
    ],
)
def test_the_answer_does_not_depend_on_where_it_is_computed(settings):
    with LlamaCpp() as backend:
        usual = backend.complete(box("mini-1m"), Question("What is 17 + 25?"))
        assert backend.complete(box("mini-1m", **settings), Question("What is 17 + 25?")).answer == usual.answer


@gpu_only
def test_a_split_by_rows_works_or_is_refused_with_advice():
    """Newer versions of llama.cpp cannot split by rows among NVIDIA devices, however many there are."""
    with LlamaCpp() as backend:
        usual = backend.complete(box("mini-1m"), Question("What is 17 + 25?"))
        try:
            text = backend.complete(box("mini-1m", split_mode="row"), Question("What is 17 + 25?")).answer
        except BackendError as error:
            text = str(error)
    assert text == usual.answer or text.endswith(": set `split_mode: layer` in zoo.yaml")


def test_an_impossible_cache_type_is_an_error_and_no_crash():
    """Blocks of a quantised cache hold 32 numbers, and so must a head; of values, llama.cpp wants flash attention."""
    with LlamaCpp() as backend, pytest.raises(BackendError, match="cannot have a context"):
        backend.complete(box("mini-1m", cache_type_v="q8_0", flash_attn="off"), Question("What is 17 + 25?"))


def test_the_placement_of_layers_is_read_from_the_log():
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
        ((), CUDA_LOG, True, "17 of 17 layers on a GPU, with 1.65 GB of buffers; memory of the devices: unknown"),
        ((Device(10 << 20, 12 << 20),), CUDA_LOG, True, "memory of the devices: +2.1 MB by the load"),
        ((Device(10 << 20, 10 << 20),), CUDA_LOG, False, "memory of the devices: +0 B by the load"),
        ((Device(1, 2), Device(5, 5)), [], False, "llama.cpp does not say that it put layers on a GPU"),
    ],
)
def test_offload_needs_the_report_and_the_memory_to_agree(monkeypatch, devices, log, offloaded, text):
    monkeypatch.setattr("messctl.doctor.offload.nvml_counters", lambda: devices)
    loaded = []
    backend = SimpleNamespace(offload=lambda spec: loaded.append(spec.name) or Offload.from_log(log))
    report = report_of_load(load_zoo(PACKAGED_FILE), backend)
    assert loaded == ["pico-34k"]
    assert isinstance(report, LoadReport)
    assert report.offloaded == offloaded
    assert text in str(report)


@cpu_only
def test_doctor_says_that_there_is_no_offload(tmp_path, capsys):
    state = ["--state", str(tmp_path / "state.sqlite")]
    assert run(["doctor", "--zoo", str(PACKAGED_FILE), *state]) == 0
    assert "✓ offload: llama.cpp is built for the CPU alone; all layers stay there" in capsys.readouterr().out
    zoo = tmp_path / "zoo.yaml"
    zoo.write_text("defaults: {gpu: require}\nmodels: [{name: a, path: 'box:pico-34k.gguf'}]\n")
    assert run(["doctor", "--zoo", str(zoo), *state]) == 2
    assert REBUILD in capsys.readouterr().out


def test_an_answer_to_the_limit_has_all_tokens():
    with LlamaCpp() as backend:
        usual = backend.complete(box(), Question("What is 1 + 1?", max_tokens=40))
        whole = backend.complete(box(), Question("What is 1 + 1?", max_tokens=40, to_the_limit=True))
    assert usual.tokens_out < whole.tokens_out == 40
    assert (usual.finish, whole.finish) == ("stop", "length")
    assert whole.answer.startswith(usual.answer)
