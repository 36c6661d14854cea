"""Energy counters: recorded samples, fake /sys trees and fake drivers, and the real counters if there are any."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messctl.backends import Scripted
from messctl.costs import counters, energy, nvml, rapl
from messctl.costs.counters import Sample, Span, counts_between, wrap_around_s
from messctl.costs.energy import EnergyMeter
from messctl.costs.meter_choice import meter_for
from messctl.costs.metered_backend import MeteredBackend, cost_of
from messctl.costs.nvml import NvmlCounter, nvml_counters, visible
from messctl.costs.rapl import rapl_counters
from messctl.costs.seconds import SecondsMeter
from messctl.costs.tokens import StatedMeter
from messctl.errors import BackendError, MissingExtraError
from messctl.records import Completion, Cost, Question
from messctl.zoo import SUBTRACTED, CostPerToken, ModelSpec, Settings, ZooFile

MODEL = ModelSpec("m", Path("m.gguf"), cost=CostPerToken("J", 1.0, 2.0))
STATED = StatedMeter("J")


def completion(tokens_in=10, tokens_out=5, **more):
    stated = {"latency_s": 1.0, "load_s": 0.0, "finish": "stop"} | more
    return Completion("m", "answer", tokens_in, tokens_out, **stated)


@dataclass
class Recorded:
    """A counter that replays recorded samples (seconds, count, watts), and whether others used the device."""

    samples: list[tuple[float, int, float | None]]
    range: int | None = None
    step_s: float = 0.1
    joules_per_count: float = 1e-3
    name: str = "recorded"
    shared: list[bool] = field(default_factory=list)

    def sample(self):
        if not self.samples:
            raise BackendError("recorded: the device is gone")
        at_s, count, watts = self.samples.pop(0)
        return Sample(at_s, count, watts)

    def is_shared(self):
        return self.shared.pop(0) if self.shared else False


def measured(*recorded, expected=STATED, idle_w=0.0):
    meter = EnergyMeter(recorded, expected, idle_w)
    with meter.measuring() as reading:
        pass
    return reading.cost(MODEL, completion())


# --- what a counter counts ---------------------------------------------------------------------------------------


@given(
    st.integers(2, 2**40),
    st.integers(0, 2**40),
    st.lists(st.integers(0, 2**40), min_size=1, max_size=20),
)
def test_energy_does_not_depend_on_the_split_even_if_the_counter_wraps_around(size, start, steps):
    """Nothing is lost if a counter wraps around less than once between two samples."""
    steps = [step % size for step in steps]
    totals = [start + sum(steps[:i]) for i in range(len(steps) + 1)]
    recorded = Recorded([(float(i), total % size, None) for i, total in enumerate(totals)], range=size, step_s=0.0)
    span = Span(recorded)
    for _ in steps:
        span.update()
    assert span.joules() == (pytest.approx(sum(steps) * 1e-3), any(steps))
    assert span.seconds == len(steps)
    parts = [Sample(0.0, total % size) for total in totals]
    assert sum(counts_between(recorded, *pair) for pair in pairwise(parts)) == sum(steps)


@given(st.lists(st.integers(0, 10**12), min_size=2, max_size=10).map(sorted))
def test_energy_does_not_depend_on_the_split_of_a_counter_without_a_range(shown):
    recorded = Recorded([])
    looks = [Sample(float(i), count) for i, count in enumerate(shown)]
    whole = counts_between(recorded, looks[0], looks[-1])
    assert whole == sum(counts_between(recorded, *pair) for pair in pairwise(looks))


RECORDED = [
    # what happened, samples, idle draw in W, the cost
    ("a second at 200 W", [(0.0, 5_000, 30.0), (1.0, 205_000, 300.0)], 0.0, Cost(200.0, "measured")),
    ("less an idle draw of 60 W", [(0.0, 5_000, 30.0), (1.0, 205_000, 300.0)], 60.0, Cost(140.0, "measured")),
    ("shorter than a step: power × time", [(0.0, 5_000, 100.0), (0.05, 5_000, 300.0)], 0.0, Cost(10.0, "estimated")),
    ("shorter than a step, and one step", [(0.0, 5_000, 100.0), (0.05, 9_000, 300.0)], 0.0, Cost(10.0, "estimated")),
    ("the counter did not move", [(0.0, 5_000, 100.0), (0.5, 5_000, 100.0)], 0.0, Cost(50.0, "estimated")),
    ("no power reported: by the tokens", [(0.0, 5_000, None), (0.05, 5_000, None)], 0.0, Cost(20.0, "estimated")),
    ("no more than the idle draw", [(0.0, 5_000, 60.0), (1.0, 65_000, 60.0)], 60.0, Cost(20.0, "estimated")),
]


@pytest.mark.parametrize(("samples", "idle_w", "cost"), [each[1:] for each in RECORDED], ids=[r[0] for r in RECORDED])
def test_recorded_samples_give_the_expected_cost(samples, idle_w, cost):
    got = measured(Recorded(list(samples)), idle_w=idle_w)
    assert (got.amount, got.quality) == (pytest.approx(cost.amount), cost.quality)


def test_energies_of_devices_are_added_and_the_idle_draw_is_subtracted_once():
    first, second = Recorded([(0.0, 0, None), (2.0, 100_000, None)]), Recorded([(0.0, 7, None), (2.0, 50_007, None)])
    meter = EnergyMeter((first, second), STATED, 20.0)
    with meter.measuring() as reading:
        pass
    assert reading.cost(MODEL, completion()) == Cost(pytest.approx(150.0 - 2 * 20.0), "measured")
    assert meter.source == "measured: recorded + recorded, idle draw of 20 W subtracted"


def test_if_one_device_reports_nothing_the_cost_is_estimated_from_tokens():
    first, second = Recorded([(0.0, 0, None), (1.0, 100_000, None)]), Recorded([(0.0, 7, None), (1.0, 7, None)])
    assert measured(first, second) == Cost(20.0, "estimated")


@pytest.mark.parametrize("there", [[True, False], [False, True], [True, True]])
def test_a_second_process_on_the_device_makes_the_cost_shared(there):
    recorded = Recorded([(0.0, 0, None), (1.0, 100_000, None)], shared=there)
    assert measured(recorded) == Cost(pytest.approx(100.0), "shared")


def test_simultaneous_answers_each_cost_all_the_energy_and_are_marked_shared():
    looks = [(0.0, 0, None), (1.0, 100_000, None), (2.0, 200_000, None), (3.0, 300_000, None)]
    meter = EnergyMeter((Recorded(looks),), STATED)
    with meter.measuring() as outer, meter.measuring() as inner:
        pass
    assert inner.cost(MODEL, completion()) == Cost(pytest.approx(100.0), "shared")
    assert outer.cost(MODEL, completion()) == Cost(pytest.approx(300.0), "shared")
    with EnergyMeter((Recorded([(0.0, 0, None), (1.0, 1_000, None)]),), STATED).measuring() as alone:
        pass
    assert alone.cost(MODEL, completion()).quality == "measured"


def test_idle_draw_is_measured_once_before_the_first_answer(monkeypatch):
    slept = []
    monkeypatch.setattr(energy.time, "sleep", slept.append)
    looks = [(0.0, 0, None), (1.0, 40_000, None), (1.0, 40_000, None), (3.0, 240_000, None)]
    meter = EnergyMeter((Recorded([*looks, (3.0, 240_000, None), (4.0, 380_000, None)]),), STATED, SUBTRACTED)
    costs = []
    for _ in range(2):
        with meter.measuring() as reading:
            pass
        costs.append(reading.cost(MODEL, completion()))
    assert costs == [Cost(pytest.approx(200.0 - 2 * 40.0), "measured"), Cost(pytest.approx(140.0 - 40.0), "measured")]
    assert (slept, meter.idle_w()) == ([energy.IDLE_S], pytest.approx(40.0))
    assert meter.source == "measured: recorded, idle draw subtracted"


def test_a_missing_or_reset_counter_is_an_error_not_a_cost_of_zero():
    with pytest.raises(BackendError, match="the device is gone"):
        measured(Recorded([(0.0, 0, None)]))
    with pytest.raises(BackendError, match="recorded: the energy counter was reset while a model answered"):
        measured(Recorded([(0.0, 10, None), (1.0, 5, None)]))
    with pytest.raises(BackendError, match="no tokens were counted"):
        recorded = Recorded([(0.0, 0, None), (0.01, 0, None)])
        with EnergyMeter((recorded,), STATED).measuring() as reading:
            pass
        reading.cost(MODEL, completion(0, 0))


def test_a_counter_that_wraps_around_is_sampled_during_the_answer(monkeypatch):
    """The counter wraps around several times during one answer. Only the sampling thread makes the sum right."""
    assert wrap_around_s([Recorded([])]) is None
    assert wrap_around_s([Recorded([], range=10**6)]) == pytest.approx(1000 / counters.MOST_WATTS)
    monkeypatch.setattr(energy, "wrap_around_s", lambda counters: 0.001)
    looked = threading.Event()
    seen = []

    class Turning(Recorded):
        def sample(self):
            seen.append(len(seen))
            if len(seen) > 20:
                looked.set()
            return Sample(float(len(seen)), (len(seen) * 700) % 1000)

    meter = EnergyMeter((Turning([], range=1000),), STATED)
    with meter.measuring() as reading:
        assert looked.wait(60)
    assert reading.cost(MODEL, completion()) == Cost(pytest.approx((len(seen) - 1) * 0.7), "measured")


def test_seconds_meter_counts_loading_and_answering():
    meter = SecondsMeter()
    with meter.measuring() as reading:
        pass
    assert reading.cost(MODEL, completion(latency_s=2.0, load_s=0.5)) == Cost(2.5, "measured")
    with pytest.raises(BackendError, match="an answer took 0 seconds, so its cost is unknown; choose another meter"):
        reading.cost(MODEL, completion(latency_s=0.0))
    with pytest.raises(BackendError, match="seconds per token are unknown; run messctl zoo calibrate"):
        meter.per_token(MODEL)
    timed = ModelSpec("m", Path("m"), cost=CostPerToken("s", 1.0, 2.0))
    assert meter.per_token(timed) == timed.cost


def test_a_metered_backend_returns_the_cost_of_each_answer():
    spec = ModelSpec("m", Path("m"), cost=CostPerToken("J", 1.0, 2.0, fixed=0.5))
    got = MeteredBackend(Scripted({"m": "one two"}), STATED).complete(spec, Question("a b c"))
    assert cost_of(got) == Cost(3 * 1.0 + 2 * 2.0 + 0.5, "stated")
    with pytest.raises(BackendError, match="no meter was running"):
        cost_of(Scripted({"m": "one"}).complete(spec, Question("a")))


# --- RAPL --------------------------------------------------------------------------------------------------------


def zone(tree, folder, name, energy="123\n", largest="999\n"):
    (tree / folder).mkdir()
    (tree / folder / "name").write_text(name + "\n")
    (tree / folder / "energy_uj").write_text(energy)
    (tree / folder / "max_energy_range_uj").write_text(largest)


def test_rapl_counts_each_package_once(tmp_path):
    for folder, name in (
        ("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:0:1", "dram"),
        ("intel-rapl:1", "package-1"), ("intel-rapl:2", "psys"), ("intel-rapl-mmio:0", "package-0"),
    ):  # fmt: skip
        zone(tmp_path, folder, name)
    assert [(counter.name, counter.range) for counter in rapl_counters(tmp_path)] == [
        ("RAPL package-0", 1000), ("RAPL package-1", 1000),
    ]  # fmt: skip


def test_rapl_counter_wraps_around(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", energy="900")
    (counter,) = rapl_counters(tmp_path)
    span = Span(counter)
    for shown in ("999", "0", "950", "40"):
        (tmp_path / "intel-rapl:0" / "energy_uj").write_text(shown)
        span.update()
    assert span._counts == 99 + 1 + 950 + 90


def test_unreadable_rapl_counter_names_the_remedy(tmp_path, monkeypatch):
    zone(tmp_path, "intel-rapl:0", "package-0")
    (counter,) = rapl_counters(tmp_path)
    file = tmp_path / "intel-rapl:0" / "energy_uj"
    read = Path.read_text

    def refuse(path, *arguments, **options):
        if path == file:
            raise PermissionError(13, "Permission denied")
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(
        BackendError, match=f"RAPL package-0: no permission to read {file}; run: sudo chmod a\\+r {file}"
    ):
        counter.sample()


@pytest.mark.parametrize("content", ["?", None])
def test_rapl_counter_without_a_number_is_refused(tmp_path, content):
    zone(tmp_path, "intel-rapl:0", "package-0")
    (counter,) = rapl_counters(tmp_path)
    file = tmp_path / "intel-rapl:0" / "energy_uj"
    file.write_text(content) if content else file.unlink()
    with pytest.raises(BackendError, match="cannot be read .*; choose another energy.meter"):
        counter.sample()


def test_a_machine_without_rapl_is_refused(tmp_path):
    with pytest.raises(BackendError, match="has no counter; choose flops, seconds or auto"):
        rapl_counters(tmp_path)


def test_the_real_rapl_counter_shows_a_plausible_power():
    found = rapl.zones(rapl.POWERCAP)
    if not found:
        pytest.skip("this machine shows no RAPL counter")
    try:
        counter = rapl_counters()[0]
        span = Span(counter)
    except BackendError as error:
        pytest.skip(f"the counter cannot be read: {error}")
    while not span.joules()[0]:
        span.update()
    assert 0.0 < span.joules()[0] / span.seconds < counters.MOST_WATTS


# --- NVML --------------------------------------------------------------------------------------------------------


class NVMLError(Exception):
    pass


class Driver:
    """A fake NVML driver. A device is a list of (seconds, millijoules, milliwatts); None is "not supported"."""

    NVMLError = NVMLError

    def __init__(self, *devices, names=None, pids=(), started=True):
        self.devices = [list(device) for device in devices]
        self.names = names or ["NVIDIA Recorded"] * len(devices)
        self.pids = list(pids)
        self.started = started
        self.at_s = 0.0

    def nvmlInit(self):  # noqa: N802
        if not self.started:
            raise NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self):  # noqa: N802
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle):  # noqa: N802
        return self.names[handle].encode()

    def nvmlDeviceGetUUID(self, handle):  # noqa: N802
        return f"GPU-{handle}{handle}aa"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        return self._supported(self.devices[handle][0][1])

    def nvmlDeviceGetPowerUsage(self, handle):  # noqa: N802
        return self._supported(self.devices[handle].pop(0)[2])

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802
        return [SimpleNamespace(pid=pid) for pid in self._supported(self.pids.pop(0) if self.pids else [])]

    def clock(self):
        return self.devices[0][0][0]

    def _supported(self, value):
        if value is None:
            raise NVMLError("Not Supported")
        return value


def recorded_meter(driver, **more):
    counter = NvmlCounter(driver, 0, "NVML GPU 0", clock=driver.clock)
    return EnergyMeter((counter,), STATED, **more)


# A device that updates its counter every 100 ms, at 25 W idle and 250 W busy.
DEVICE = [(0.00, 1_000_000, 25_000), (0.95, 1_225_000, 250_000)]


def test_nvml_counts_millijoules_of_the_whole_device():
    with recorded_meter(Driver(DEVICE)).measuring() as reading:
        pass
    assert reading.cost(MODEL, completion()) == Cost(pytest.approx(225.0), "measured")
    with recorded_meter(Driver(DEVICE), idle_w=25.0).measuring() as reading:
        pass
    assert reading.cost(MODEL, completion()) == Cost(pytest.approx(225.0 - 0.95 * 25), "measured")


def test_nvml_estimates_power_times_time_between_two_updates():
    with recorded_meter(Driver([(0.0, 1_000, 200_000), (0.04, 1_000, 100_000)])).measuring() as reading:
        pass
    assert reading.cost(MODEL, completion()) == Cost(pytest.approx(0.04 * 150.0), "estimated")


def test_an_nvml_device_without_power_is_still_counted():
    with recorded_meter(Driver([(0.0, 1_000, None), (1.0, 51_000, None)])).measuring() as reading:
        # The fake moves on when the power is read. Here it refuses the power, and moves on.
        pass
    assert reading.cost(MODEL, completion()) == Cost(pytest.approx(50.0), "measured")


def test_an_nvml_device_without_a_counter_is_an_error():
    meter = recorded_meter(Driver([(0.0, None, 1)]))
    message = "NVML GPU 0: has no energy counter that can be read .Not Supported."
    with pytest.raises(BackendError, match=message), meter.measuring():
        pass


# Three seconds of an NVIDIA H200 (driver 580.159.04, CUDA 13.0), sampled through NVML every 6 ms: the first sample, the
# last, and each that differs from the one before. Soon after 0.86 s the device falls from 131 W to 83 W.
H200 = [
    (0.0000, 22075632, 130090), (0.0265, 22075632, 130104), (0.0611, 22088737, 130104), (0.1265, 22088737, 130147),
    (0.1609, 22101831, 130147), (0.2264, 22101831, 130086), (0.2609, 22114917, 130086), (0.3265, 22114917, 130071),
    (0.3610, 22128027, 130071), (0.4265, 22128027, 130256), (0.4609, 22141141, 130256), (0.5265, 22141141, 130674),
    (0.5609, 22154227, 130674), (0.6265, 22154227, 130922), (0.6612, 22167324, 130922), (0.7264, 22167324, 131051),
    (0.7611, 22180410, 131051), (0.8264, 22180410, 131138), (0.8610, 22193494, 131138), (0.9319, 22193494, 128887),
    (0.9590, 22202862, 128887), (1.0317, 22202862, 124263), (1.0585, 22211192, 124263), (1.1316, 22211192, 119343),
    (1.1584, 22219526, 119343), (1.2332, 22219526, 114588), (1.2621, 22227884, 114588), (1.3331, 22227884, 110208),
    (1.3626, 22236231, 110208), (1.4332, 22236231, 105487), (1.4625, 22244515, 105487), (1.5333, 22244515, 100773),
    (1.5624, 22252787, 100773), (1.6321, 22252787, 96048), (1.6624, 22261044, 96048), (1.7319, 22261044, 90503),
    (1.7583, 22269233, 90503), (1.8318, 22269233, 86551), (1.8585, 22277463, 86551), (1.9318, 22277463, 83061),
    (1.9585, 22285714, 83061), (2.0317, 22285714, 82922), (2.0588, 22293916, 82922), (2.1332, 22293916, 82793),
    (2.1620, 22302146, 82793), (2.2334, 22302146, 82654), (2.2622, 22310342, 82654), (2.3334, 22310342, 82554),
    (2.3621, 22318542, 82554), (2.4319, 22318542, 82451), (2.4622, 22326738, 82451), (2.5317, 22326738, 82348),
    (2.5622, 22334904, 82348), (2.6368, 22334904, 82266), (2.6586, 22343043, 82266), (2.7331, 22343043, 82212),
    (2.7624, 22351278, 82212), (2.8368, 22351278, 82141), (2.8583, 22359407, 82141), (2.9332, 22359407, 82076),
    (2.9620, 22367645, 82076), (2.9970, 22367645, 82076),
]  # fmt: skip


def h200(start_s, end_s):
    """Return the metered cost of a part of the recording, and its power × time."""
    first = max(look for look in H200 if look[0] <= start_s)
    last = max(look for look in H200 if look[0] <= end_s)
    looks = [(start_s, *first[1:]), (end_s, *last[1:])]
    with recorded_meter(Driver(looks)).measuring() as reading:
        pass
    return reading.cost(MODEL, completion()), (end_s - start_s) * (first[2] + last[2]) / 2000


def test_a_real_counter_is_updated_as_often_as_assumed():
    updates = [look[0] for before, look in pairwise(H200) if look[1] > before[1]]
    steps = [late - early for early, late in pairwise(updates)]
    step_s = NvmlCounter(None, 0, "NVML GPU 0").step_s
    assert len(steps) == 29
    assert sum(steps) / len(steps) == pytest.approx(step_s, rel=0.001)
    assert max(abs(step - step_s) for step in steps) < 0.006  # the sampling interval


@pytest.mark.parametrize(("start_s", "end_s", "joules"), [(0.0612, 0.8611, 104.757), (2.0589, 2.9621, 73.729)])
def test_real_energy_is_power_times_time_while_power_is_steady(start_s, end_s, joules):
    cost, by_power = h200(start_s, end_s)
    assert cost == Cost(pytest.approx(joules), "measured")
    assert cost.amount == pytest.approx(by_power, rel=0.02)


def test_real_energy_is_less_than_power_times_time_for_a_second_after_power_fell():
    """The power that this device reports is the mean of the last second; the energy is not."""
    cost, by_power = h200(0.8611, 1.8586)
    assert cost == Cost(pytest.approx(83.969), "measured")
    assert by_power == pytest.approx(108.6, rel=0.01)
    assert h200(2.0, 2.05)[0] == Cost(pytest.approx(0.05 * 82.99, rel=0.001), "estimated")
    assert h200(1.06, 1.11)[0] == Cost(
        pytest.approx(0.05 * 124.263), "estimated"
    )  # 83 W would be right: this is 1.5 times as much


PIDS = [
    # all processes are visible, process ids before and after, shared
    (True, [[], []], False),
    (True, [["own"], ["own"]], False),
    (True, [["own"], ["own", "worker"]], False),
    (True, [["own"], ["own", 1]], True),
    (True, [[1], []], True),
    (False, [[], [4711]], False),
    (False, [[4711], [4711, 4712]], True),
    (True, [None, None], False),
]


@pytest.mark.parametrize(("outside", "pids", "shared"), PIDS)
def test_nvml_notices_other_processes(monkeypatch, outside, pids, shared):
    import os
    import subprocess
    import sys

    worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    numbers = {"own": os.getpid(), "worker": worker.pid}
    try:
        monkeypatch.setattr(nvml, "_sees_all_pids", lambda: outside)
        seen = [None if sample is None else [numbers.get(pid, pid) for pid in sample] for sample in pids]
        with recorded_meter(Driver(DEVICE, pids=seen)).measuring() as reading:
            pass
    finally:
        worker.communicate(b"\n")
    assert reading.cost(MODEL, completion()).quality == ("shared" if shared else "measured")


UUIDS = ["GPU-00aa", "GPU-11aa", "GPU-11bb"]
VISIBLE = [
    (None, [0, 1, 2]),
    ("", []),
    ("-1", []),
    ("2,0", [2, 0]),
    ("GPU-11bb", [2]),
    ("GPU-00", [0]),
    ("GPU-11", []),  # ambiguous: the beginning of two
    ("1, GPU-00aa", [1, 0]),
    ("0,7,1", [0]),  # CUDA stops at the first missing device
    ("0,0", [0]),
]


@pytest.mark.parametrize(("stated", "devices"), VISIBLE)
def test_visible_devices_follow_cuda_s_rules(stated, devices):
    assert visible(stated, UUIDS, by_bus=True) == devices


def test_ambiguous_device_numbers_and_parts_of_devices_are_refused():
    with pytest.raises(BackendError, match="set CUDA_DEVICE_ORDER=PCI_BUS_ID, or use their UUIDs"):
        visible("1", UUIDS, by_bus=False)
    assert visible("GPU-11bb", UUIDS, by_bus=False) == [2]
    with pytest.raises(BackendError, match="a part of a device .MIG.; name a whole device"):
        visible("MIG-1", UUIDS, by_bus=True)


def test_nvml_counters_are_those_of_the_visible_devices(monkeypatch):
    two = Driver(DEVICE, DEVICE, names=["NVIDIA A", "NVIDIA B"])
    assert [counter.name for counter in nvml_counters(two, {})] == ["NVML GPU 0 (NVIDIA A)", "NVML GPU 1 (NVIDIA B)"]
    ordered = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert [counter.handle for counter in nvml_counters(two, ordered)] == [1]
    with pytest.raises(BackendError, match="uses numbers, but the devices differ in kind"):
        nvml_counters(two, {"CUDA_VISIBLE_DEVICES": "1"})
    with pytest.raises(BackendError, match="there is no NVIDIA device to measure .CUDA_VISIBLE_DEVICES=''"):
        nvml_counters(two, {"CUDA_VISIBLE_DEVICES": ""})
    with pytest.raises(BackendError, match="the NVIDIA driver does not answer .Driver Not Loaded."):
        nvml_counters(Driver(started=False))
    monkeypatch.setitem(nvml.importlib.import_module("sys").modules, "pynvml", None)
    with pytest.raises(MissingExtraError, match=r"needs nvidia-ml-py: pip install 'messctl\[gpu\]'"):
        nvml_counters()


def test_the_real_nvml_counter_shows_a_plausible_power():
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    try:
        found = nvml_counters()
        span = Span(found[0])
    except BackendError as error:
        pytest.skip(f"no NVIDIA device can be measured: {error}")
    while not span.joules()[1]:
        span.update()
    assert 0.0 < span.joules()[0] / span.seconds < counters.MOST_WATTS


# --- which meter -------------------------------------------------------------------------------------------------


def test_the_meter_follows_from_zoo_yaml(monkeypatch):
    from messctl.costs import meter_choice
    from messctl.costs.tokens import FlopsMeter

    monkeypatch.setattr(meter_choice, "nvml_counters", lambda: (Recorded([], name="N"),))
    monkeypatch.setattr(meter_choice, "rapl_counters", lambda: (Recorded([], name="R"),))
    dollars = ModelSpec("a", Path("a"), cost=CostPerToken("USD", 1.0, 1.0))

    def chosen(model, meter, **more):
        return meter_for(ZooFile(Path("zoo.yaml"), Settings(), (model,), meter=meter, **more))

    assert chosen(MODEL, "auto") == STATED
    assert chosen(MODEL, "flops") == FlopsMeter(1e10)
    assert chosen(MODEL, "seconds") == SecondsMeter()
    assert chosen(MODEL, "nvml+rapl").source == "measured: N + R, idle draw included"
    assert chosen(MODEL, "rapl", idle=12.5).source == "measured: R, idle draw of 12.5 W subtracted"
    assert chosen(MODEL, "nvml").per_token(MODEL) == MODEL.cost
    assert chosen(dollars, "nvml")._expected == FlopsMeter(1e10)  # dollars say nothing about joules
