"""The speed of replay and tune, each figure beside a rival's from the same run.

    python benchmarks/tune_speed.py [--only grid,learning,end-to-end,hashing,cache,engines,sweep,help,paretobandit]
    python benchmarks/tune_speed.py --only large --rows 10000000

- `grid`: decisions/s of the recursion over a grid of V and α on all cores, with given predictions; the rivals are the
  same recursion in NumPy, with settings as vectors, and compiled code that plays one setting after another;
- `learning`: requests/s of a replay with learning, with given features; the rival is scikit-learn's SGDClassifier;
- `end-to-end`: requests/s of a streamed replay from a Parquet file with raw prompts and no cache; the rival is
  scikit-learn's HashingVectorizer, which only hashes the words;
- `hashing`: megabytes of prompts per second on one core, with the same rival;
- `cache`: loading a large trace with and without stored features;
- `engines`: one search with threads, with processes and, if it is installed, with Ray;
- `sweep`: a search as large as the sweep of the MESS+ paper, 1,860 runs over 2,350 requests; the rival is single runs;
- `help`: `messctl --help`; the rival is `pip --help`;
- `paretobandit`: requests/s of a replay; the rival is that package (`pip install paretobandit`) on the same features;
- `large`: time and peak memory of a streamed replay of 1 % of the rows and of all, and of 10 % in memory.

The ways alternate in every round. Printed are the median, the least and the most, the median ratio within a round,
and the work per second of processor time, which other work on the machine hardly affects.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from make_trace import write
from replay_speed import scikit_learn
from rich.console import Console
from rich.table import Table

from messctl.learning.features import encode
from messctl.policies import Rounds, build
from messctl.replay.holdout import Holdout
from messctl.replay.loading import load
from messctl.replay.result import Conditions
from messctl.replay.streaming import replay_streamed, survey
from messctl.trace import TraceFile
from messctl.tune import Space, parse_values, search
from messctl.tune.recursion import recurse
from messctl.tune.two_model_recursion import recurse_two_models
from messctl.zoo import Settings, Zoo

SETTINGS = Settings(alpha=0.8)
CORES = os.cpu_count() or 1
Way = tuple[float, Callable[[], object]]
"""The work of one call, and the call."""


def two_models(rounds: Rounds) -> Rounds:
    """Return the rounds for two models only, the costliest and the second."""
    two = [0, 1]
    zoo = Zoo.of([rounds.zoo.models[k] for k in two], rounds.zoo.reference)
    tables = {name: np.ascontiguousarray(getattr(rounds, name)[:, two]) for name in ("satisfied", "cost")}
    return replace(rounds, zoo=zoo, **tables)


def grid(folder: Path) -> tuple[str, Mapping[str, Way]]:
    rounds = two_models(load(trace(folder, 100_000, 16)).rounds)
    n, per_core = len(rounds), 1024
    played = build("messplus", rounds, SETTINGS).play(rounds)
    assert played.predicted is not None
    assert played.explored is not None
    forecast, part = (played.explored, played.predicted), np.zeros(n, dtype=np.int64)

    def run(vs: np.ndarray, first: int = n, *, any_zoo: bool = False) -> np.ndarray:
        queue, alpha = np.zeros(len(vs)), np.full(len(vs), SETTINGS.alpha)
        rest = (
            (rounds.satisfied[:first], rounds.cost[:first]),
            (forecast[0][:first], forecast[1][:first]),
            (np.zeros((1, len(vs))), np.zeros((1, len(vs))), queue),
            np.empty((0, len(vs)), np.int16),
        )
        if any_zoo:
            recurse((alpha, vs, 0.0), 0, (rounds.has_feedback[:first], 0, part[:first]), *rest)
        else:
            recurse_two_models((alpha, vs), 0, (rounds.has_feedback[:first], part[:first]), *rest)
        return queue

    blocks = np.geomspace(1e-3, 10, per_core * CORES).reshape(-1, 128)

    def ours() -> None:
        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(run, blocks))

    few = 5_000
    for any_zoo in (False, True):
        queue = run(blocks[0], few, any_zoo=any_zoo)
        assert np.array_equal(in_numpy(rounds, forecast, blocks[0], few), queue), "decisions differ"
    return "decisions/s of the grid recursion, two models, predictions given", {
        f"float64, {CORES} threads": (n * blocks.size, ours),
        "float64, one thread": (n * 1024, lambda: [run(block) for block in blocks[:8]]),
        "the same for any zoo, one thread": (n * 256, lambda: [run(block, any_zoo=True) for block in blocks[:2]]),
        "one setting at a time": (n * 8, lambda: [run(blocks[0][k : k + 1], any_zoo=True) for k in range(8)]),
        "NumPy, settings as vectors": (few * 128, lambda: in_numpy(rounds, forecast, blocks[0], few)),
    }


def in_numpy(rounds: Rounds, forecast: tuple[np.ndarray, np.ndarray], vs: np.ndarray, n: int) -> np.ndarray:
    """Return the queues at the end: the recursion as one would first write it for many settings."""
    explored, predicted = forecast
    many, models = len(vs), rounds.cost.shape[1]
    mean, count, queue, at = np.zeros((models, many)), np.zeros((models, many)), np.zeros(many), np.arange(many)
    for t in range(n):
        if explored[t]:
            count += 1
            mean += (rounds.cost[t][:, None] - mean) / count
            served = np.zeros(many, dtype=np.int64)
        else:
            scale = mean.max(axis=0)
            scale[scale == 0] = 1.0
            score = vs * (mean / scale) + queue * (SETTINGS.alpha - predicted[t][:, None])
            served = score.argmin(axis=0)
            count[served, at] += 1
            mean[served, at] += (rounds.cost[t][served] - mean[served, at]) / count[served, at]
        queue = np.maximum(0.0, queue + SETTINGS.alpha - rounds.satisfied[t][served])
    return queue


def learning(folder: Path) -> tuple[str, Mapping[str, Way]]:
    rounds = two_models(load(trace(folder, 100_000, 16)).rounds)
    policy = build("messplus", rounds, SETTINGS)
    return f"requests/s of a replay with learning, two models, {rounds.features.width} features given", {
        "messctl": (len(rounds), lambda: policy.play(rounds)),
        "scikit-learn": (1_000, lambda: scikit_learn(rounds, 1_000)),
    }


def end_to_end(folder: Path) -> tuple[str, Mapping[str, Way]]:
    path, few = trace(folder, 200_000, 80), 5_000
    prompts = next(TraceFile(path).batches(few)).prompts
    mean = statistics.fmean(map(len, prompts.to_pylist()))
    return f"requests/s end to end from Parquet, four models, raw prompts of {mean:.0f} characters, no cache", {
        "messctl replay, streamed": (
            200_000,
            lambda: replay_streamed(survey(path), ["messplus"], SETTINGS, Conditions()),
        ),
        "HashingVectorizer, hashing alone": (few, lambda: vectorized(prompts.to_pylist())),
    }


def vectorized(prompts: list[str]) -> object:
    from sklearn.feature_extraction.text import HashingVectorizer  # noqa: PLC0415

    return HashingVectorizer(n_features=256).transform(prompts)


def hashing(folder: Path) -> tuple[str, Mapping[str, Way]]:
    prompts = pq.read_table(trace(folder, 200_000, 80), columns=["prompt"])["prompt"].combine_chunks()
    few = prompts[:5_000].to_pylist()
    return "MB/s of prompts hashed, one core", {
        "messctl": (prompts.nbytes / 1e6, lambda: encode(prompts)),
        "HashingVectorizer": (sum(map(len, few)) / 1e6, lambda: vectorized(few)),
    }


def cache(folder: Path) -> tuple[str, Mapping[str, Way]]:
    path = trace(folder, 200_000, 80)
    load(path)
    return "requests/s of loading a trace", {
        "features stored": (200_000, lambda: load(path)),
        "prompts hashed": (200_000, lambda: load(path, cache=False)),
    }


def engines(folder: Path) -> tuple[str, Mapping[str, Way]]:
    recording = load(trace(folder, 20_000, 16))
    settings = Space((0.8,), parse_values("", ["0.001:10:25"]), (0.1, 0.5), (0.25,)).settings(SETTINGS)
    names = ["threads", "loky", *(["ray"] if find_spec("ray") else [])]
    return "decisions/s of a whole search, four models", {
        name: (
            len(settings) * 8 * 20_000,
            lambda name=name: search([recording], settings, Conditions(8), Holdout(), engine=name),
        )
        for name in names
    }


def sweep(folder: Path) -> tuple[str, Mapping[str, Way]]:
    path = trace(folder, 2_350, 16)
    rounds = load(path).rounds
    command = [
        "tune",
        str(path),
        "--policy",
        "messplus",
        "--margin",
        "0",
        "--alpha",
        "0.7,0.75,0.8,0.85",
        "--v",
        "0.001:10:31",
        "--c",
        "0.05,0.1,0.2,0.5,1",
    ]
    return (
        "runs/s of the paper's sweep in size, 1,860 runs of 2,350 requests (its log: 9 h 20 min, 0.055/s)",
        {
            "messctl tune, the whole command": (1860, lambda: messctl(*command, "--seeds", "3", "--json")),
            "one run after another, compiled": (
                62,
                lambda: [build("messplus", rounds, SETTINGS).play(rounds) for _ in range(62)],
            ),
            "one run, scikit-learn": (1, lambda: scikit_learn(rounds, 2_350)),
        },
    )


def help_(_: Path) -> tuple[str, Mapping[str, Way]]:
    return "starts/s", {
        "messctl --help": (1, lambda: messctl("--help")),
        "pip --help": (1, lambda: run_quietly([sys.executable, "-m", "pip", "--help"])),
    }


def paretobandit(folder: Path) -> tuple[str, Mapping[str, Way]]:
    rounds = load(trace(folder, 100_000, 16)).rounds
    few = 300
    dense = rounds.features.csr()[:few].toarray()
    policies = {name: build(name, rounds, SETTINGS) for name in ("messplus", "bandit")}
    return "requests/s of routing and learning, four models, the same features", {
        **{name: (len(rounds), lambda policy=policy: policy.play(rounds)) for name, policy in policies.items()},
        "paretobandit, 25 of the features": (few, lambda: their_loop(rounds, dense[:, :25])),
        "paretobandit": (few, lambda: their_loop(rounds, dense)),
    }


def their_loop(rounds: Rounds, features: np.ndarray) -> None:
    """Route and learn from the one answer served, as that package documents it for features that are given."""
    import logging  # noqa: PLC0415

    from pareto_bandit import BanditRouter  # noqa: PLC0415
    from pareto_bandit.feature_service import FeatureService  # noqa: PLC0415

    logging.disable(logging.WARNING)
    registry = {
        model: {"input_cost_per_m": float(cost), "output_cost_per_m": float(cost)}
        for model, cost in zip(rounds.zoo.models, rounds.cost.mean(axis=0), strict=True)
    }
    service = FeatureService.for_precomputed(dimension=features.shape[1])
    router = BanditRouter.create(model_registry=registry, feature_service=service, priors="none")
    for t, x in enumerate(features):
        model, log = router.route(x)
        router.process_feedback(log.request_id, float(rounds.satisfied[t, rounds.zoo.index(model)]))


def large(folder: Path, rows: int, console: Console) -> None:
    """Print the time and peak memory of commands, each in its own process."""
    table = Table(title="time and peak memory of `messctl replay --policy messplus`, prompts of about 450 characters")
    for heading in ("requests", "how", "seconds", "requests/s", "peak MB"):
        table.add_column(heading, justify="left" if heading == "how" else "right")
    for count, how in (
        (rows // 100, "--stream"),
        (rows // 10, "--stream"),
        (rows, "--stream"),
        (rows // 10, "--no-stream"),
    ):
        path = trace(folder, count, 80)
        seconds, peak = peak_of("replay", str(path), "--policy", "messplus", how, "--no-cache")
        table.add_row(f"{count:,}", how, f"{seconds:.1f}", f"{count / seconds:,.0f}", f"{peak:.0f}")
    console.print(table)


def peak_of(*arguments: str) -> tuple[float, float]:
    """Return the seconds that a command takes, and its peak memory in MB."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6)"
    )
    started = time.perf_counter()
    command = [sys.executable, "-c", code, sys.executable, "-m", "messctl", *arguments]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return time.perf_counter() - started, float(printed)


def messctl(*arguments: str) -> None:
    run_quietly([sys.executable, "-m", "messctl", *arguments])


def run_quietly(command: list[str]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)


def trace(folder: Path, rows: int, words: int) -> Path:
    """Return a synthetic trace, and write it first if it does not exist."""
    path = folder / f"{rows}-{words}.parquet"
    if not path.exists():
        write(path, rows, words, seed=1)
    return path


def measure(title: str, ways: Mapping[str, Way], rounds: int, console: Console) -> None:
    """Print the rates of all ways; the last one is the rival."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    busy: dict[str, list[float]] = {name: [] for name in ways}
    for _, work in ways.values():
        work()  # compiles, and warms the caches, before the timing
    for _ in range(rounds):
        for name, (amount, work) in ways.items():
            started, worked = time.perf_counter(), processor_time()
            work()
            rates[name].append(amount / (time.perf_counter() - started))
            busy[name].append(amount / max(1e-6, processor_time() - worked))
    rival = list(ways)[-1]
    table = Table(title=title)
    for heading in ("way", "median", "least to most", f"× {rival}", "per processor second"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for name in ways:
        ratio = statistics.median(mine / other for mine, other in zip(rates[name], rates[rival], strict=True))
        spread = f"{number(min(rates[name]))} to {number(max(rates[name]))}"
        table.add_row(
            name, number(statistics.median(rates[name])), spread, f"{ratio:,.1f}", number(statistics.median(busy[name]))
        )
    console.print(table)


def processor_time() -> float:
    """Return the processor seconds of this process and its children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


ROWS: Mapping[str, Callable[[Path], tuple[str, Mapping[str, Way]]]] = {
    "grid": grid,
    "learning": learning,
    "end-to-end": end_to_end,
    "hashing": hashing,
    "cache": cache,
    "engines": engines,
    "sweep": sweep,
    "help": help_,
    "paretobandit": paretobandit,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(ROWS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=10_000_000, help="of `large`")
    parser.add_argument("--folder", type=Path, help="the folder for the traces; default: a temporary one")
    arguments = parser.parse_args()
    console = Console(width=130)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for name in arguments.only.split(","):
            if name == "large":
                large(folder, arguments.rows, console)
            elif name == "paretobandit" and not find_spec("pareto_bandit"):
                console.print("paretobandit is not installed: pip install paretobandit")
            else:
                measure(*ROWS[name](folder), arguments.rounds, console)
    load_1 = os.getloadavg()[0]
    console.print(
        f"{platform.machine()}, {CORES} cores, load {load_1:.1f} at the end, Python {platform.python_version()}; "
        + ", ".join(filter(None, map(installed, ("numba", "numpy", "pyarrow", "scikit-learn", "paretobandit", "ray"))))
    )


def installed(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()
