"""Stated and estimated costs of completions, never a silent zero; and the energy counters of a machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gguf_making import write_gguf

from messctl.costs import machine_counters, tokens
from messctl.costs.machine_counters import EnergyCounter, energy_counters
from messctl.costs.meter_choice import meter_for
from messctl.costs.tokens import FlopsMeter, StatedMeter
from messctl.errors import BackendError
from messctl.records import Completion
from messctl.zoo import CostPerToken, ModelSpec, Settings, ZooFile, load_zoo

NO_NVML = "libno-such-library.so.0"


def completion(tokens_in, tokens_out):
    return Completion("m", "answer", tokens_in, tokens_out, latency_s=1.0, load_s=0.0, finish="stop")


def zoo_of(*models, **more):
    return ZooFile(Path("zoo.yaml"), Settings(), models, **more)


def test_stated_costs_are_price_times_tokens():
    a = ModelSpec("a", Path("absent"), cost=CostPerToken("USD", 2.0, 3.0))
    free = ModelSpec("b", Path("absent"), cost=CostPerToken("USD", 0.0, 0.0))
    meter = meter_for(zoo_of(a, free))
    assert meter == StatedMeter("USD")
    assert (meter.unit, meter.source) == ("USD", "stated: USD per prompt token and per generated token, from zoo.yaml")
    assert meter.per_token(a) == a.cost
    assert meter.cost(a, completion(10, 5)) == 35.0
    assert meter.cost(free, completion(10, 5)) == 0.0
    for other in (ModelSpec("c", Path("c")), ModelSpec("c", Path("c"), cost=CostPerToken("J", 1, 1))):
        with pytest.raises(BackendError, match="model 'c': has no cost in USD; state one in zoo"):
            meter.cost(other, completion(1, 1))


def test_estimated_costs_follow_from_parameters_and_tokens(tmp_path):
    model = ModelSpec("a", write_gguf(tmp_path / "a.gguf"))
    meter = meter_for(zoo_of(model, flop_per_j=1e10))
    assert meter == FlopsMeter(1e10)
    assert (meter.unit, meter.source) == ("J", "estimated: 2 × active parameters × tokens at 1e+10 FLOP/J")
    assert meter.cost(model, completion(10, 5)) == pytest.approx(2 * 320 * 15 / 1e10, rel=1e-12)


def test_the_cost_of_a_server_follows_from_its_stated_parameters():
    model = ModelSpec("a", url="http://localhost/v1", parameters=8e9)
    assert FlopsMeter(1e10).cost(model, completion(10, 5)) == pytest.approx(2 * 8e9 * 15 / 1e10)
    with pytest.raises(BackendError, match="model 'a': has neither a cost nor parameters; state one in zoo.yaml"):
        FlopsMeter(1e10).per_token(ModelSpec("a", url="http://localhost/v1"))


def test_only_the_active_parameters_of_a_mixture_of_experts_count(tmp_path):
    tensors = {"blk.0.ffn_up_exps.weight": np.zeros((8, 4, 32), np.float16)}
    counts = {"llama.expert_count": 8, "llama.expert_used_count": 2}
    model = ModelSpec("moe", write_gguf(tmp_path / "a.gguf", tensors=tensors, counts=counts))
    assert FlopsMeter(1.0).cost(model, completion(0, 1)) == 2 * 256


def test_a_header_is_read_once_and_only_when_needed(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(tokens, "read_header", lambda path, true=tokens.read_header: read.append(path) or true(path))
    models = [ModelSpec(name, write_gguf(tmp_path / f"{name}.gguf")) for name in "ab"]
    meter = meter_for(zoo_of(*models))
    assert read == []
    for _ in range(3):
        meter.cost(models[1], completion(1, 1))
    assert read == [models[1].path]


def test_an_unknown_cost_is_an_error_not_zero(tmp_path):
    model = ModelSpec("a", write_gguf(tmp_path / "a.gguf"), cost=CostPerToken("J", 1, 1))
    for meter in (FlopsMeter(1e10), StatedMeter("J")):
        with pytest.raises(BackendError, match="model 'a': no tokens were counted"):
            meter.cost(model, completion(0, 0))
    with pytest.raises(BackendError, match="there is no such model file"):
        FlopsMeter(1e10).cost(ModelSpec("b", tmp_path / "absent"), completion(1, 1))


def test_the_processor_counters_are_listed_with_their_remedies(tmp_path):
    assert energy_counters(tmp_path / "absent", NO_NVML) == ()
    for zone, content in (("intel-rapl:0", "123\n"), ("intel-rapl:1", "?"), ("intel-rapl:0:0", "1"), ("other:0", "1")):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "energy_uj").write_text(content)
    (tmp_path / "intel-rapl:2").mkdir()
    assert energy_counters(tmp_path, NO_NVML) == (
        EnergyCounter("RAPL intel-rapl:0", None),
        EnergyCounter("RAPL intel-rapl:1", f"sudo chmod a+r {tmp_path}/intel-rapl:1/energy_uj"),
        EnergyCounter("RAPL intel-rapl:2", f"sudo chmod a+r {tmp_path}/intel-rapl:2/energy_uj"),
    )


def nvml(started, shut):
    """Return a driver of two devices, the second without a counter."""

    def count(number):
        number._obj.value = 2
        return 0

    def handle(index, device):
        device._obj.value = index + 1
        return 0

    return SimpleNamespace(
        nvmlInit_v2=lambda: started,
        nvmlShutdown=lambda: shut.append(True),
        nvmlDeviceGetCount_v2=count,
        nvmlDeviceGetHandleByIndex_v2=handle,
        nvmlDeviceGetTotalEnergyConsumption=lambda device, millijoules: 0 if device.value == 1 else 3,
    )


def test_the_counters_of_nvidia_devices_are_listed(tmp_path, monkeypatch):
    shut = []
    monkeypatch.setattr(machine_counters.ctypes, "CDLL", lambda name: nvml(0, shut))
    assert energy_counters(tmp_path) == (
        EnergyCounter("NVML device 0", None),
        EnergyCounter("NVML device 1", "this device has no energy counter"),
    )
    assert shut == [True]
    monkeypatch.setattr(machine_counters.ctypes, "CDLL", lambda name: nvml(9, shut))
    assert energy_counters(tmp_path) == (EnergyCounter("NVML", "the NVIDIA driver does not answer: try nvidia-smi"),)


@pytest.mark.parametrize(
    ("flags", "source", "qualities"),
    [
        ((True, True), "estimated: USD per prompt token", ["estimated", "estimated"]),
        ((True, False), "stated: USD per prompt token", ["estimated", "stated"]),
        ((False, False), "stated: USD per prompt token", ["stated", "stated"]),
    ],
)
def test_an_estimated_cost_in_zoo_yaml_stays_an_estimate(tmp_path, flags, source, qualities):
    costs = [f"cost: {{unit: USD, prompt: 1, generated: 2, estimated: {str(flag).lower()}}}" for flag in flags]
    lines = [f"- {{name: m{number}, path: m, {cost}}}" for number, cost in enumerate(costs)]
    (tmp_path / "zoo.yaml").write_text("\n".join(["models:", *lines]))
    zoo_file = load_zoo(tmp_path / "zoo.yaml")
    meter = meter_for(zoo_file)
    assert meter.source.startswith(source)
    with meter.measuring() as reading:
        pass
    done = Completion("m", "x", 1, 1, 1.0, 0.0, "stop")
    assert [reading.cost(model, done).quality for model in zoo_file.models] == qualities
