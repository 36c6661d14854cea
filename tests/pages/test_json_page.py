"""docs/json.md names every key of every document that a command prints with --json, and no other."""

from __future__ import annotations

import csv
import json
import math
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import command_lines
import pages
import pytest
from live_making import typed
from servers import misbehaving, streamed

from messctl.cli import run
from messctl.zoo.models import BOX

PAGE = pages.ROOT / "docs" / "json.md"
BOX_ZOO = """
defaults: {n_ctx: 0, max_tokens: 8, temperature: 0}
memory: {cpu_gb: 1}
models:
- {name: a, path: "box:pico-34k.gguf"}
- {name: b, path: "box:nano-109k.gguf"}
"""
AWAY_ZOO = """
router: {reference: b}
defaults: {n_ctx: 64, max_tokens: 8, temperature: 0, retries: 0}
models:
- {name: away, url: "http://127.0.0.1:9/v1", cost: {unit: J, prompt: 1, generated: 1}}
- {name: b, path: "box:nano-109k.gguf", cost: {unit: J, prompt: 2, generated: 2}}
"""
SILENT_ZOO = """
models:
- {{name: silent, url: "{}", cost: {{unit: J, prompt: 1, generated: 1}}}}
"""
LONG = "stone " * 200
GRID = "--v auto --margin 0 --policy bandit --seeds 2 --shuffle"
SAME = {
    "choices[].closest.": "choices[].chosen.",
    "choices[].front[].": "choices[].chosen.",
    ".held_out.": ".chosen_on.",
    ".whole.": ".chosen_on.",
    "[].empty.<model>.": "[].answers.<model>.",
}
"""Parts of a document that have the keys of another part; the page lists these once."""
SCENES = {
    "ask": ["ask sum --zoo away.yaml --state away"],
    "chat": ["chat"],  # its turns print what ask prints, and its /status what status prints
    "feedback": ["feedback good"],
    "log": ["log --state away"],
    "status": ["status", "status --state away", "status --state long"],
    "export": ["export -o live.parquet"],
    "evaluate": ["evaluate live.parquet --policy always:a"],
    "state backup": ["state backup copy.sqlite --overwrite"],
    "state copy": ["state copy copy.sqlite another.sqlite"],
    "state upgrade": ["state upgrade --state another.sqlite"],
    "state prune": ["state prune --keep 0m --state away"],
    "reset": ["reset --yes --state away"],
    "warm": ["warm trace.parquet --state new"],
    "record": ["record prompts.csv -o recorded.parquet --grader exact"],
    "import": [
        "import routellm answers.csv --cost a=1 --cost b=9 -o trace.parquet",
        "import table answers.csv -o unwritten.parquet",
    ],
    "replay": ["replay trace.parquet", "replay trace.parquet --policy messplus --alpha 0.6"],
    "tune": [
        f"tune trace.parquet {GRID} -o tuned.yaml --dry-run --alpha 0.1",
        "tune worse.parquet --policy bandit --v auto --margin 0 --seeds 2 --alpha 0.7",
        "tune telling.parquet --policy bandit --v auto --margin 0 --seeds 2 --alpha 0.8 --slack 0.1",
    ],
    "trace info": ["trace info trace.parquet", "trace info bad.parquet"],
    "trace validate": ["trace validate trace.parquet", "trace validate bad.parquet"],
    "trace head": ["trace head trace.parquet"],
    "zoo init": [f"zoo init --folder {BOX} --dry-run", "zoo init --yes -o found.yaml"],
    "zoo check": ["zoo check", "zoo check --zoo away.yaml"],
    "zoo calibrate": ["zoo calibrate --seconds 0 --meter flops -o new.yaml --dry-run"],
    "doctor": ["doctor"],
}
"""What is run for each command, each with --json added, in an order in which what one needs is there."""
ORDER = [
    *("import", "trace info", "trace validate", "trace head", "replay", "tune", "chat", "ask", "feedback", "log"),
    *(
        "state backup",
        "state copy",
        "state upgrade",
        "state prune",
        "status",
        "export",
        "evaluate",
        "reset",
        "warm",
        "record",
    ),
    *("zoo init", "zoo check", "zoo calibrate", "doctor"),
]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The documents that every command prints."""
    pytest.importorskip("llama_cpp")
    folder = tmp_path_factory.mktemp("json")
    found: dict[str, list[Any]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MESSCTL_STATE", str(folder / "state"))
        _prepare(folder)
        for name in ORDER:
            if name == "log":
                with misbehaving(lambda handler: handler.answer(streamed())) as server:
                    (folder / "silent.yaml").write_text(SILENT_ZOO.format(server.url))
                    _printed("ask sum --zoo silent.yaml --state away", patch)
            if name == "status":
                typed(patch)
                _printed(f"ask '{LONG}' --zoo away.yaml --state long --model b", patch)
            for line in SCENES[name]:
                typed(patch, b"sum\n/good\n/status\n" if name == "chat" else b"")
                text = _printed(f"{line} --json", patch)
                lines = text.splitlines() if name == "chat" else [text]
                found.setdefault(name, []).extend(json.loads(each) for each in lines)
    return found


def _prepare(folder: Path) -> None:
    """Write the zoos, and small files to import, record and look into."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "zoo.yaml").write_text(BOX_ZOO, encoding="utf-8")
    (folder / "away.yaml").write_text(AWAY_ZOO, encoding="utf-8")
    with (folder / "answers.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "a", "b"])
        writer.writerows([f"question {n}", n % 2 == 0, n % 5 > 0] for n in range(60))
    (folder / "prompts.csv").write_text("prompt,reference\nWhat is 1 + 1?,2\n", encoding="utf-8")
    (folder / "bad.gguf").write_bytes(b"GGUF")
    bad = {"request_id": ["1"], "prompt": ["x"], "satisfied/a": [2.0], "cost/a": [1.0]}
    pq.write_table(pa.table(bad), folder / "bad.parquet")
    rows = range(400)
    worse: dict[str, list[Any]] = {"request_id": [str(n) for n in rows], "prompt": [f"question {n}" for n in rows]}
    for model, step, cost in (("a", 99, 9.0), ("b", 9, 1.0), ("c", 2, 2.0)):  # c is worse than b, and dearer
        worse |= {f"satisfied/{model}": [float(n % step > 0) for n in rows], f"cost/{model}": [cost] * len(rows)}
    pq.write_table(pa.table(worse), folder / "worse.parquet")
    pq.write_table(pa.table(_telling(600)), folder / "telling.parquet")


def _telling(n: int) -> dict[str, list[Any]]:
    """Return a trace in which right answers are equal, and sure of themselves."""
    rng = random.Random(1)
    columns: dict[str, list[Any]] = {
        "request_id": [str(k) for k in range(n)],
        "prompt": [f"what {k}" for k in range(n)],
    }
    for model, rate, cost in (("large", 0.95, 100.0), ("middle", 0.7, 2.0), ("small", 0.7, 1.0)):
        right = [rng.random() < rate for _ in range(n)]
        columns |= {
            f"satisfied/{model}": [float(each) for each in right],
            f"cost/{model}": [cost] * n,
            f"answer/{model}": ["yes" if each else f"no, says {model}" for each in right],
            f"logprob/{model}": [-math.exp(rng.gauss(-4.0 if each else 0.0, 0.3)) for each in right],
        }
    return columns


def _printed(line: str, patch: pytest.MonkeyPatch) -> str:
    """Run a command in this process and return what it printed on stdout."""
    import io
    import shlex

    out = io.StringIO()
    with patch.context() as inner:
        inner.setattr(sys, "stdout", out)
        run(shlex.split(line))
    return out.getvalue()


def _sections() -> dict[str, set[str]]:
    """Return the keys that the page's tables name, by the command in the heading above."""
    found = {}
    for heading, text in re.findall(
        r"^## `messctl ([a-z ]+)`\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE
    ):
        found[heading] = set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))
    return found | {"chat": found["ask"] | found["status"]}


def _keys(value: Any, known: set[str], prefix: str = "") -> Iterator[str]:
    """Yield the path of every key: `results[].policy`; where the page has `shares.<model>`, any key is a model's."""
    if isinstance(value, list):
        for each in value:
            yield from _keys(each, known, f"{prefix}[]")
    if not isinstance(value, dict):
        return
    lead = f"{prefix}." if prefix else ""
    for key, below in value.items():
        wild = next((path for path in sorted(known) if path.startswith(f"{lead}<")), None)
        name = wild.removeprefix(lead).split(">")[0] + ">" if wild else key
        yield _once(f"{lead}{name}")
        yield from _keys(below, known, f"{lead}{name}")


def _once(path: str) -> str:
    for part, same in SAME.items():
        path = path.replace(part, same)
    return path


def test_page_describes_every_command_with_json():
    with_json = {
        name for name, command in command_lines.commands().items() if "--json" in command_lines.options(command)
    }
    assert set(_sections()) == with_json == set(SCENES) == set(ORDER)


@pytest.mark.parametrize("name", SCENES)
def test_page_names_every_key_and_no_other(name, documents):
    described = _sections()[name]
    printed = {key for document in documents[name] for key in _keys(document, described)} - {"version", "[].version"}
    if name == "chat":  # the page refers to the documents of ask and status, which are held to their own keys
        assert printed <= described
    else:
        assert printed == described


@pytest.mark.parametrize("name", SCENES)
def test_first_key_of_a_document_is_its_version(name, documents):
    for document in documents[name]:
        first = document[0] if isinstance(document, list) else document
        assert next(iter(first.items())) == ("version", 1)
