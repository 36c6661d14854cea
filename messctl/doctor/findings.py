"""The findings of `messctl doctor`: llama.cpp, its GPU support, the energy counters, the zoo and the state."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from messctl.backends import LlamaCpp, OpenAICompatible
from messctl.backends.llama_library import load_library
from messctl.backends.machine import free_memory
from messctl.backends.offload import REBUILD, missing_gpu
from messctl.costs.machine_counters import energy_counters
from messctl.costs.meter_choice import meter_for
from messctl.doctor.offload import report_of_load
from messctl.errors import MessctlError
from messctl.state import databases, store
from messctl.state.place import Address, Place, exists
from messctl.zoo import ZooFile, check_zoo, load_zoo
from messctl.zoo.memory import format_bytes

Status = Literal["ok", "warning", "broken"]
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
CPP_LIBRARY = "libstdc++.so.6"
ALONE = "import llama_cpp; llama_cpp.llama_supports_gpu_offload()"
TOGETHER = f"{ALONE}; import pyarrow"
"""A process that answers and also reads or writes Parquet. A second copy of the C++ library kills such a process."""
LOADING_S = 120.0
"""The longest time that a process may take to load llama.cpp, in seconds; after it, the process hangs."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding about a subject. `remedy` says what to do; it is None if there is nothing to do."""

    subject: str
    status: Status
    text: str
    remedy: str | None = None


def examine(zoo: Path | None, state: Place | None) -> Iterator[Finding]:
    """Yield all findings, good and bad, about the zoo file and the state at these paths; None is the default path."""
    try:
        zoo_file = load_zoo(zoo)
    except MessctlError as error:
        yield _llama_cpp()
        yield Finding("zoo", "broken", str(error))
        yield from _energy(None)
    else:
        if zoo_file.settings.features is None and all(model.url for model in zoo_file.models):
            yield Finding("llama.cpp", "ok", "is not needed: all models are at servers")
            yield from _zoo(zoo_file)
        else:
            llama_cpp = _llama_cpp()
            yield llama_cpp
            if llama_cpp.status != "broken":
                yield from _with_pyarrow()
            yield from _zoo(zoo_file)
            if llama_cpp.status != "broken":
                yield from _offload(zoo_file)
        yield from _energy(zoo_file)
    yield from _state(state)


def _llama_cpp() -> Finding:
    """Return whether llama.cpp can be loaded, and for which devices it is built."""
    subject = "llama.cpp"
    if (death := _death(ALONE)) is not None:
        again = "pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python llama-cpp-python"
        remedy = _preload() if _death(ALONE, preloaded=True) is None else f"build it on this machine: {again}"
        return Finding(subject, "broken", f"a process that loads it {death}", remedy)
    try:
        import llama_cpp  # noqa: PLC0415  # may be missing or broken; that is a finding
    except ImportError:
        return Finding(subject, "broken", "is not installed", "pip install llama-cpp-python")
    except (OSError, RuntimeError) as error:
        again = "pip install --force-reinstall llama-cpp-python"
        return Finding(subject, "broken", f"cannot be loaded ({' '.join(str(error).split())})", again)
    load_library()  # from here on llama.cpp's log does not go to stderr
    built = _built_for(llama_cpp.llama_print_system_info().decode("ascii", "replace"))
    if not built and llama_cpp.llama_supports_gpu_offload():
        built = ["a GPU"]
    text = f"llama-cpp-python {llama_cpp.__version__}, built for {' and '.join(built) or 'the CPU alone'}"
    if not built and NVIDIA_DRIVER.exists():
        return Finding(subject, "warning", f"{text}, but this machine has an NVIDIA driver", f"for CUDA: {REBUILD}")
    return Finding(subject, "ok", text)


def _with_pyarrow() -> Iterator[Finding]:
    """Yield a warning if llama.cpp and pyarrow cannot be loaded by the same process."""
    if (death := _death(TOGETHER)) is not None:
        text = f"a process that loads pyarrow too, as `record`, `export` and GGUF features do, {death}"
        remedy = _preload() if _death(TOGETHER, preloaded=True) is None else "see docs/gpu.md"
        yield Finding("llama.cpp", "warning", text, remedy)


def _death(program: str, *, preloaded: bool = False) -> str | None:
    """Run a Python program in a child process. Return how a signal or a hang ended it; None for any other end."""
    environment = os.environ | {"LD_PRELOAD": _libraries()} if preloaded else None
    command = [sys.executable, "-P", "-c", program]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=LOADING_S
        )
    except subprocess.TimeoutExpired:
        return f"hangs (for {LOADING_S:.0f} s)"
    return f"dies ({signal.strsignal(-done.returncode)})" if done.returncode < 0 else None


def _libraries() -> str:
    return ":".join(filter(None, (CPP_LIBRARY, os.environ.get("LD_PRELOAD"))))


def _preload() -> str:
    return f"export LD_PRELOAD={_libraries()}, see docs/gpu.md"


def _built_for(system_info: str) -> list[str]:
    """Return the devices, except the CPU, in llama.cpp's system info `NAME : KEY = VALUE | …`."""
    return [name for name in re.findall(r"(?:^|\|)\s*(\w+) : ", system_info) if name != "CPU"]


def _zoo(zoo_file: ZooFile) -> Iterator[Finding]:
    try:
        with OpenAICompatible() as servers:
            result = check_zoo(zoo_file, free_memory(), servers.list_models)
    except MessctlError as error:
        yield Finding("zoo", "broken", str(error))
        return
    for problem in result.problems:
        yield Finding("zoo", "broken" if problem.fatal else "warning", f"{zoo_file.path}: {problem}")
    for model in result.models:
        if model.listed is not None:
            names = ", ".join(model.listed[:10]) or "no models"
            yield Finding("server", "ok", f"{model.spec.url} answers for {model.spec.name}, and lists {names}")
    if result.usable:
        needed = format_bytes(result.needed_bytes)
        text = f"{zoo_file.path}: {len(zoo_file.models)} models can be used; they need about {needed} of memory"
        yield Finding("zoo", "ok", text)


def _offload(zoo_file: ZooFile) -> Iterator[Finding]:
    """Load the smallest model, and yield where its layers are; nothing if no model runs on this machine."""
    local = [model for model in zoo_file.models if model.path is not None]
    if not local:
        return
    try:
        api = load_library().api
        unmet = [(model, text) for model in local if (text := missing_gpu(api, model))]
        for model, text in unmet[:1]:
            status: Status = "broken" if model.gpu == "require" else "warning"
            yield Finding("offload", status, f"model {model.name!r} {text}")
        if not api.llama_supports_gpu_offload():
            if not unmet:
                yield Finding("offload", "ok", "llama.cpp is built for the CPU alone; all layers stay there")
            return
        if all(model.gpu_layers == 0 for model in local):
            yield Finding("offload", "ok", "no model asks for a GPU")
            return
        with LlamaCpp() as backend:
            report = report_of_load(zoo_file, backend)
    except MessctlError as error:
        yield Finding("offload", "warning", f"could not be tried: {error}")
    except OSError as error:
        yield Finding("offload", "warning", f"could not be tried: {error.filename}: {error.strerror}")
    else:
        yield Finding("offload", "ok" if report.offloaded else "warning", str(report))


def _energy(zoo_file: ZooFile | None) -> Iterator[Finding]:
    try:
        meter = None if zoo_file is None else meter_for(zoo_file)
    except MessctlError as error:
        yield Finding("energy", "broken", str(error))
        meter = None
    counters = energy_counters()
    readable = [counter.name for counter in counters if counter.remedy is None]
    for counter in counters:
        if counter.remedy is not None:
            yield Finding("energy", "warning", f"{counter.name} exists, but cannot be read", counter.remedy)
    costs = "costs are estimated from FLOPs" if meter is None else f"costs are {meter.source}"
    found = f"{', '.join(readable)} can be read (energy.meter)" if readable else "no counter can be read"
    yield Finding("energy", "ok", f"{found}; {costs}")


def _state(path: Place | None) -> Iterator[Finding]:
    try:
        path = path or store.default_path()
        if isinstance(path, Path) and not exists(path):
            yield _new_state(path)
            return
        if not isinstance(path, Path) and (may_begin := databases.may_begin(path)) is not None:
            yield _new_schema(path, may_begin=may_begin)
            return
        if not databases.is_made(path):
            yield Finding("state", "ok", f"{path}: is an empty file; the first request makes a state of it")
            return
        problems = store.check(path)
    except MessctlError as error:
        problems = [str(error)]
    except OSError as error:
        problems = [f"{path}: {error.strerror or error}; choose another place with --state"]
    for problem in problems:
        yield Finding("state", "broken", problem)
    if not problems:
        yield Finding("state", "ok", f"{path}: sound")


def _new_schema(address: Address, *, may_begin: bool) -> Finding:
    """Return whether a state can be created in a database that can be reached."""
    none = f"{address}: the database can be reached, and has no state yet"
    if may_begin:
        return Finding(
            "state", "ok", f"{none}; the first request creates it", "if you have one already, correct the address"
        )
    return Finding("state", "broken", f"{none}, which this user may not create", "see docs/postgresql.md")


def _new_state(path: Path) -> Finding:
    """Return whether a state can be created at `path`."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return Finding("state", "ok", f"{path}: does not exist yet; the first request creates it")
    return Finding("state", "broken", f"{path}: cannot be created in {folder}", "choose another place with --state")
