"""The cores and the memory that this process may use: on the machine itself, and in a container with limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from messctl.backends import machine

GIB = 2**30


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of /sys/fs/cgroup, on a machine with 4 GiB of available memory."""
    (tmp_path / "meminfo").write_text(f"MemTotal: {8 * GIB // 1024} kB\nMemAvailable:   {4 * GIB // 1024} kB\n")
    monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path / "cgroup")
    (tmp_path / "cgroup" / "memory").mkdir(parents=True)
    return tmp_path / "cgroup"


def write_files(folder: Path, **texts: object) -> None:
    for name, text in texts.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_hardware_threads_of_one_core_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = range(8)
    monkeypatch.setattr(machine.sys, "platform", "linux")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(cpus), raising=False)
    monkeypatch.setattr(machine, "_CPUS", tmp_path)
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert machine.physical_cores() == 8
    for cpu in cpus:
        (tmp_path / f"cpu{cpu}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}" / "topology" / "physical_package_id").write_text(f"{cpu // 4}\n")
        (tmp_path / f"cpu{cpu}" / "topology" / "core_id").write_text(f"{cpu % 2}\n")
    assert machine.physical_cores() == 4
    for quota, cores in (("max 100000", 4), ("350000 100000", 3), ("50000 100000", 1)):
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
        assert machine.physical_cores() == cores


def test_free_memory_of_this_machine_is_a_number_or_unknown() -> None:
    assert (machine.free_memory() or 1) > 0


@pytest.mark.parametrize(
    ("text", "free"),
    [
        ("MemTotal:  9 kB\nMemAvailable:   7 kB\n", 7 * 1024),
        ("MemTotal: 9 kB\n", None),
        ("MemAvailable: many\n", None),
        ("MemAvailable:\n", None),
        ("", None),
    ],
)
def test_free_memory_is_what_the_system_calls_available(cgroup: Path, text: str, free: int | None) -> None:
    machine._MEMINFO.write_text(text)
    assert machine.free_memory() == free


def test_free_memory_is_unknown_without_proc(cgroup: Path) -> None:
    machine._MEMINFO.unlink()
    assert machine.free_memory() is None


def test_a_container_limit_bounds_the_free_memory(cgroup: Path) -> None:
    write_files(cgroup, memory__max=3000, memory__current=2500)
    assert machine.free_memory() == 500


def test_the_file_cache_of_a_container_counts_as_free(cgroup: Path) -> None:
    write_files(cgroup, memory__max=3000, memory__current=2500, memory__stat="anon 2000\ninactive_file 400")
    assert machine.free_memory() == 900


def test_the_limit_of_an_older_container_bounds_the_free_memory(cgroup: Path) -> None:
    write_files(
        cgroup / "memory",
        memory__limit_in_bytes=3000,
        memory__usage_in_bytes=2500,
        memory__stat="inactive_file 1\ntotal_inactive_file 400",
    )
    assert machine.free_memory() == 900


@pytest.mark.parametrize("limit", ["max", 16 * GIB, 2**63 - 4096])
def test_a_container_with_a_large_limit_or_none_has_the_memory_of_the_machine(cgroup: Path, limit: object) -> None:
    write_files(cgroup, memory__max=limit, memory__current=GIB)
    write_files(cgroup / "memory", memory__limit_in_bytes=limit, memory__usage_in_bytes=GIB)
    assert machine.free_memory() == 4 * GIB


def test_free_memory_is_never_negative(cgroup: Path) -> None:
    write_files(cgroup, memory__max=1000, memory__current=1200)
    assert machine.free_memory() == 0


def test_free_memory_is_known_from_the_container_alone(cgroup: Path) -> None:
    machine._MEMINFO.unlink()
    write_files(cgroup, memory__max=3000, memory__current=1000)
    assert machine.free_memory() == 2000
