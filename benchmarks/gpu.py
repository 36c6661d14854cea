"""Everything that needs a real NVIDIA GPU, by one command; ends with a table as Markdown.

    python benchmarks/gpu.py --folder /tmp/gpu

Checks for CUDA; builds llama-cpp-python for this chip alone, into the Python that runs this (--no-build: as it is);
runs the live tests with the zoo in the box on the GPU, and `messctl doctor`; writes random-weight models of real
shapes, calibrates them by the device's energy counter, runs llama-bench beside it where its binary is found, and prints
joules per token and tokens per second against size. The zoo.yaml with the measured costs stays there. Live tests that
fail stop nothing: they are repeated at the end, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from random_gguf import SHAPES, write

ROOT = Path(__file__).parents[1]
LIVE_TESTS = tuple(
    f"tests/{name}.py"
    for name in (
        "backends/test_backends",
        "live/test_router",
        "doctor/test_offload",
        "costs/test_counters",
        "backends/test_residency",
    )
)
MESSCTL = (sys.executable, "-m", "messctl")
BENCHED = ("-p", "512", "-n", "128", "-ngl", "999", "-o", "json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("gpu"), help="where models, zoo.yaml and results go")
    parser.add_argument("--sizes", default="1B,3B,8B,14B", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--type", choices=("Q8_0", "Q4_K"), default="Q8_0")
    parser.add_argument("--no-build", action="store_true", help="take llama-cpp-python as it is installed")
    parser.add_argument(
        "--without-gpu", action="store_true", help="try the script itself: no CUDA, seconds as the cost"
    )
    parser.add_argument("--llama-bench", default=shutil.which("llama-bench"), help="llama.cpp's own benchmark")
    options = parser.parse_args()
    sizes = options.sizes.split(",")
    if unknown := set(sizes) - set(SHAPES):
        parser.error(f"unknown sizes: {', '.join(sorted(unknown))}")
    options.folder.mkdir(parents=True, exist_ok=True)
    chip = "no GPU" if options.without_gpu else check_cuda(build=not options.no_build)
    run([*MESSCTL, "doctor", "--zoo", str(zoo_in_the_box(options.folder, gpu=not options.without_gpu))])
    failed = [] if options.without_gpu else live_tests()
    zoo = write_models(options.folder, sizes, options.type, gpu=not options.without_gpu)
    calibrated = calibrate(zoo, "seconds" if options.without_gpu else "nvml", quick=options.without_gpu)
    benched = {size: bench(options.llama_bench, options.folder / f"{size}.gguf") for size in sizes}
    table = as_markdown(chip, options.type, options.folder, calibrated, benched)
    (options.folder / "table.md").write_text(table, encoding="utf-8")
    print(table)
    if failed:
        raise SystemExit("\n".join(["live tests failed:", *failed]))


def run(command: list[str], **options: object) -> None:
    print("$", " ".join(command), flush=True)
    subprocess.run(command, check=True, **options)


def live_tests() -> list[str]:
    """Run the live tests, seen as they run; return what pytest says of those that failed, a line each."""
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", *LIVE_TESTS]
    print("$", " ".join(command), flush=True)
    said = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as tests:
        for line in tests.stdout:
            print(line, end="", flush=True)
            said.append(line.rstrip())
    failed = [line for line in said if line.startswith(("FAILED ", "ERROR "))]
    return failed or ([f"pytest: exit code {tests.returncode}"] if tests.returncode else [])


def output_of(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def check_cuda(*, build: bool) -> str:
    """Return the chip's name; build llama.cpp for it alone, unless it is there already."""
    for program in ("nvidia-smi", *(("nvcc", "cmake") if build else ())):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is not there: install NVIDIA's driver and CUDA toolkit, and cmake")
    if importlib.util.find_spec("pynvml") is None:
        raise SystemExit("nvidia-ml-py is not installed: pip install 'messctl[gpu]'")
    name, capability = (
        output_of(["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]).splitlines()[0].split(", ")
    )
    if build and not offloads():
        flags = f"-DGGML_CUDA=on -DCMAKE_CUDA_ARCHITECTURES={capability.replace('.', '')}"
        pip = [sys.executable, "-m", "pip", "install", "--force-reinstall", "--no-deps", "--no-cache-dir"]
        run([*pip, "--no-binary", "llama-cpp-python", "llama-cpp-python"], env={**os.environ, "CMAKE_ARGS": flags})
    if not offloads():
        raise SystemExit("llama.cpp still cannot put layers on a GPU: read the build's output, or leave out --no-build")
    return name


def offloads() -> bool:
    code = "import llama_cpp; print(llama_cpp.llama_supports_gpu_offload())"
    return (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout.strip()
        == "True"
    )


def zoo_in_the_box(folder: Path, *, gpu: bool) -> Path:
    """Write the zoo in the box, with every layer on the GPU."""
    text = (ROOT / "zoo.yaml").read_text(encoding="utf-8")
    path = folder / "box.yaml"
    path.write_text(
        text.replace("defaults:\n", f"defaults:\n  gpu: {'require' if gpu else 'auto'}\n", 1), encoding="utf-8"
    )
    return path


def write_models(folder: Path, sizes: list[str], kind: str, *, gpu: bool) -> Path:
    """Write the models that are not there yet, and their zoo.yaml."""
    lines = [f"energy: {{meter: {'nvml' if gpu else 'seconds'}}}"]
    lines += [f"defaults: {{n_ctx: 2048, max_tokens: 256, gpu: {'require' if gpu else 'off'}}}", "models:"]
    for size in sizes:
        path = folder / f"{size}.gguf"
        if not path.exists():
            print(f"writing {path}: {SHAPES[size].parameters:,} parameters", flush=True)
            write(path.with_suffix(".part"), SHAPES[size], kind)
            path.with_suffix(".part").rename(path)
        lines.append(f"  - {{name: {size}, path: {size}.gguf}}")
    zoo = folder / "zoo.yaml"
    zoo.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return zoo


def calibrate(zoo: Path, meter: str, *, quick: bool) -> dict[str, object]:
    command = [*MESSCTL, "zoo", "calibrate", "--zoo", str(zoo), "--meter", meter, "--json", "-o", str(zoo)]
    command += ["--time", "30s", "--prompt-tokens", "64"] if quick else ["--time", "4m", "--seconds", "1"]
    command += ["--force"]  # the table says how well each cost is known
    print("$", " ".join(command), flush=True)
    return json.loads(output_of(command))


def bench(binary: str | None, model: Path) -> dict[str, float]:
    """Return llama-bench's tokens per second of a prompt and of generation; nothing without its binary."""
    if not binary:
        return {}
    rows = json.loads(output_of([binary, "-m", str(model), *BENCHED]))
    return {"generated" if row["n_gen"] else "prompt": row["avg_ts"] for row in rows}


def as_markdown(
    chip: str, kind: str, folder: Path, calibrated: dict[str, object], benched: dict[str, dict[str, float]]
) -> str:
    unit = calibrated["models"][0]["unit"]
    head = (
        "size", "parameters", "file, GB", "load, s", "prompt, tokens/s", "llama-bench pp512", "generated, tokens/s",
        "llama-bench tg128", f"{unit}/request", f"{unit}/prompt token", f"{unit}/generated token", "width", "cost",
    )  # fmt: skip
    lines = [f"{chip}, {kind}, random weights; {calibrated['measured']}", "", f"| {' | '.join(head)} |"]
    lines.append("|---|" + "---:|" * (len(head) - 1))
    for row in calibrated["models"]:
        size, ours = row["model"], benched[row["model"]]
        gigabytes = (folder / f"{size}.gguf").stat().st_size / 1e9
        cells = (
            size, f"{SHAPES[size].parameters:,}", f"{gigabytes:.2f}", f"{row['load_s']:.2f}",
            speed(row["prompt_tokens_per_s"]), speed(ours.get("prompt")), speed(row["generated_tokens_per_s"]),
            speed(ours.get("generated")), f"{row['fixed']:.3g}", f"{row['prompt']:.3g}", f"{row['generated']:.3g}",
            widest(row), row["cost_quality"],
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def widest(row: dict[str, object]) -> str:
    """Return the widest interval of a model's costs."""
    widths = [row[f"{part}_width"] for part in ("fixed", "prompt", "generated")]
    return "–" if None in widths else f"± {max(widths):.0%}"


def speed(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


if __name__ == "__main__":
    main()
