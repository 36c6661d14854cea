"""`messctl doctor`: whether this machine has what is needed, and what to do where it has not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from messctl.cli.arguments import JsonOption, StateOption, ZooOption
from messctl.cli.output import console, print_json
from messctl.display.text import plain
from messctl.errors import MessctlError

if TYPE_CHECKING:
    from messctl.zoo import ZooFile

Status = Literal["ok", "warning", "broken"]
MARKS: dict[Status, str] = {"ok": "✓", "warning": "!", "broken": "✗"}
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
CPP_LIBRARY = "libstdc++.so.6"
ALONE = "import llama_cpp; llama_cpp.llama_supports_gpu_offload()"
TOGETHER = f"{ALONE}; import pyarrow"
"""What meets where models answer and Parquet is read or written; a second copy of the C++ library kills that."""
LOADING_S = 120.0
"""A process that takes longer to load llama.cpp is said to hang."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about a subject; `remedy` says what to do, where anything is to be done."""

    subject: str
    status: Status
    text: str
    remedy: str | None = None


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("doctor", epilog="Example: messctl doctor --zoo zoo.yaml")(doctor)


def doctor(zoo: ZooOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Check llama.cpp, the energy counters, the zoo and the state; exit code 2 where something necessary is broken."""
    findings = list(examine(zoo, state))
    broken = any(finding.status == "broken" for finding in findings)
    if as_json:
        print_json({"usable": not broken, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            line = f"{MARKS[finding.status]} {finding.subject}: {finding.text}{remedy}"
            console().print(plain(line), soft_wrap=True)
    if broken:
        raise typer.Exit(2)


def examine(zoo: Path | None, state: Path | None) -> Iterator[Finding]:
    """Yield what is found, good or bad."""
    from messctl.zoo import load_zoo

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
                yield from _together()
            yield from _zoo(zoo_file)
            if llama_cpp.status != "broken":
                yield from _offload(zoo_file)
        yield from _energy(zoo_file)
    yield from _state(state)


def _llama_cpp() -> Finding:
    subject = "llama.cpp"
    if (death := _death(ALONE)) is not None:
        again = "pip install --force-reinstall --no-cache-dir --no-binary llama-cpp-python llama-cpp-python"
        remedy = _preload() if _death(ALONE, preloaded=True) is None else f"build it on this machine: {again}"
        return Finding(subject, "broken", f"a process that loads it {death}", remedy)
    try:
        import llama_cpp
    except ImportError:
        return Finding(subject, "broken", "is not installed", "pip install llama-cpp-python")
    except (OSError, RuntimeError) as error:
        again = "pip install --force-reinstall llama-cpp-python"
        return Finding(subject, "broken", f"cannot be loaded ({' '.join(str(error).split())})", again)
    from messctl.backends.llama_library import load_library
    from messctl.backends.offload import REBUILD

    load_library()  # from here on llama.cpp's log does not go to stderr
    built = _built_for(llama_cpp.llama_print_system_info().decode("ascii", "replace"))
    if not built and llama_cpp.llama_supports_gpu_offload():
        built = ["a GPU"]
    text = f"llama-cpp-python {llama_cpp.__version__}, built for {' and '.join(built) or 'the CPU alone'}"
    if not built and NVIDIA_DRIVER.exists():
        return Finding(subject, "warning", f"{text}, though there is an NVIDIA driver", f"for CUDA: {REBUILD}")
    return Finding(subject, "ok", text)


def _together() -> Iterator[Finding]:
    """Yield what is wrong where llama.cpp and pyarrow meet in one process, if anything is."""
    if (death := _death(TOGETHER)) is not None:
        text = f"a process that loads pyarrow, too, as `record`, `export` and GGUF features do, {death}"
        remedy = _preload() if _death(TOGETHER, preloaded=True) is None else "see docs/gpu.md"
        yield Finding("llama.cpp", "warning", text, remedy)


def _death(program: str, *, preloaded: bool = False) -> str | None:
    """Return how a process of its own that runs the program ended, by a signal or never; None where it did not."""
    environment = os.environ | {"LD_PRELOAD": _with_library()} if preloaded else None
    command = [sys.executable, "-P", "-c", program]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=LOADING_S
        )
    except subprocess.TimeoutExpired:
        return f"hangs (for {LOADING_S:.0f} s)"
    return f"dies ({signal.strsignal(-done.returncode)})" if done.returncode < 0 else None


def _with_library() -> str:
    return ":".join(filter(None, (CPP_LIBRARY, os.environ.get("LD_PRELOAD"))))


def _preload() -> str:
    return f"export LD_PRELOAD={_with_library()}, see docs/gpu.md"


def _built_for(system_info: str) -> list[str]:
    """Return the devices, other than the CPU, that llama.cpp's `NAME : KEY = VALUE | …` speaks of."""
    return [name for name in re.findall(r"(?:^|\|)\s*(\w+) : ", system_info) if name != "CPU"]


def _zoo(zoo_file: ZooFile) -> Iterator[Finding]:
    from messctl.backends import OpenAICompatible
    from messctl.backends.machine import free_memory
    from messctl.zoo import check_zoo
    from messctl.zoo.memory import format_bytes

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
            yield Finding("server", "ok", f"{model.spec.url} answers for {model.spec.name}, and has {names}")
    if result.usable:
        needed = format_bytes(result.needed_bytes)
        text = f"{zoo_file.path}: {len(zoo_file.models)} models can be used; they need about {needed} of memory"
        yield Finding("zoo", "ok", text)


def _offload(zoo_file: ZooFile) -> Iterator[Finding]:
    """Load the smallest model, and say where it went; nothing where there is no llama.cpp, or no model to load."""
    from messctl.backends import LlamaCpp
    from messctl.backends.llama_library import load_library
    from messctl.backends.offload import missing_gpu
    from messctl.doctor.offload import prove

    local = [model for model in zoo_file.models if model.path is not None]
    if not local:
        return
    try:
        api = load_library().api
        wanting = [(model, wanted) for model in local if (wanted := missing_gpu(api, model))]
        for model, wanted in wanting[:1]:
            status: Status = "broken" if model.gpu == "require" else "warning"
            yield Finding("offload", status, f"model {model.name!r} {wanted}")
        if not api.llama_supports_gpu_offload():
            if not wanting:
                yield Finding("offload", "ok", "llama.cpp is built for the CPU alone, where all layers stay")
            return
        if all(model.gpu_layers == 0 for model in local):
            yield Finding("offload", "ok", "no model is to be put on a GPU")
            return
        with LlamaCpp() as backend:
            proof = prove(zoo_file, backend)
    except MessctlError as error:
        yield Finding("offload", "warning", f"could not be tried: {error}")
    except OSError as error:
        yield Finding("offload", "warning", f"could not be tried: {error.filename}: {error.strerror}")
    else:
        yield Finding("offload", "ok" if proof.offloaded else "warning", str(proof))


def _energy(zoo_file: ZooFile | None) -> Iterator[Finding]:
    from messctl.costs.machine_counters import energy_counters
    from messctl.costs.meter_choice import meter_for

    try:
        meter = None if zoo_file is None else meter_for(zoo_file)
    except MessctlError as error:
        yield Finding("energy", "broken", str(error))
        meter = None
    counters = energy_counters()
    readable = [counter.name for counter in counters if counter.remedy is None]
    for counter in counters:
        if counter.remedy is not None:
            yield Finding("energy", "warning", f"{counter.name} is there, but cannot be read", counter.remedy)
    costs = "costs are estimated from FLOPs" if meter is None else f"costs are {meter.source}"
    found = f"{', '.join(readable)} can be read (energy.meter)" if readable else "no counter can be read"
    yield Finding("energy", "ok", f"{found}; {costs}")


def _state(path: Path | None) -> Iterator[Finding]:
    from messctl.state import store

    try:
        path = path or store.default_path()
        if not path.exists():
            yield _new_state(path)
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


def _new_state(path: Path) -> Finding:
    """Return whether a state can be made at `path`, where there is none."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return Finding("state", "ok", f"{path}: none yet; the first question makes it")
    return Finding("state", "broken", f"{path}: cannot be made in {folder}", "choose another place with --state")
