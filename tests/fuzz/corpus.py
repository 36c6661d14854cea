"""The real files that a campaign changes: `python corpus.py FOLDER` writes them."""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
from importer_cases import CASES

from messctl.cli import run
from messctl.trace import Outcome, Row, TraceMetadata, TraceWriter

ROOT = Path(__file__).parents[2]
SERVERS = """
sla: {alpha: 0.85}
router: {policy: bandit, v: auto, margin: 0.01, trial_budget: 0.1, seed: 3, features: words}
energy: {meter: auto, idle: include, flop_per_j: 1.0e+10, load_watts: 20}
memory: {cpu_gb: 8, gpu_gb: none}
grader: {regex: '^-?[0-9]+$'}
defaults: &d {n_ctx: 0, max_tokens: 64, temperature: 0, timeout_s: 5, retries: 1}
models:
  - {name: a, path: 'box:pico-34k.gguf', n_threads: 1, cost: {unit: J, prompt: 1.0e-6, generated: 2.0e-6}}
  - name: b
    url: http://127.0.0.1:9/v1
    key_env: NO_KEY
    omit: [top_p]
    chat_template: {file: none.jinja}
    cost: {unit: J, prompt: 1.0e-5, generated: 2.0e-5, load: 1, measured: 'here, 2026-01-01'}
"""


def main(corpus: Path) -> None:
    """Write the files of every subject into a folder of its own."""
    for name in ("zoo", "trace", "log"):
        (corpus / name).mkdir(parents=True)
    for number, path in enumerate(
        (ROOT / "zoo.yaml", ROOT / "examples/one-gpu/zoo.yaml", ROOT / "examples/ci/zoo.yaml")
    ):
        shutil.copy(path, corpus / "zoo" / f"{number}.yaml")
    (corpus / "zoo" / "servers.yaml").write_text(SERVERS)
    for name, case in CASES.items():
        sources = case.write(corpus / name, case.models)
        (corpus / name / "sources").write_text("\n".join(str(path.relative_to(corpus / name)) for path in sources))
    _traces(corpus / "trace")
    _state(corpus / "state.db")
    live = pq.read_table(ROOT / "traces/live.parquet").slice(0, 200)
    pq.write_table(live, corpus / "log" / "live.parquet")
    shutil.copy(corpus / "state.db", corpus / "log" / "log.db")


def _traces(folder: Path) -> None:
    """Write a trace, and again without checksums and compression, so that changes reach far."""
    fields = ("satisfied", "cost", "tokens_in", "tokens_out", "answer")
    metadata = TraceMetadata(models=("lab/big", "small"), cost_unit="J")
    with TraceWriter(folder / "t.parquet", metadata, fields, ("source", "arrived_at", "served", "alpha")) as writer:
        for row in range(300):
            outcomes = {name: Outcome(row % 2, 1.0 + row, answer=f"answer {row}") for name in metadata.models}
            arrived = datetime.fromtimestamp(row, UTC)
            writer.append(Row(f"r{row}", f"What is {row} + {row}?", outcomes, "s", arrived, served="small", alpha=0.8))
    table = pq.read_table(folder / "t.parquet")
    pq.write_table(table, folder / "plain.parquet", compression="none", use_dictionary=False)
    pq.write_table(table, folder / "dictionary.parquet", compression="snappy", row_group_size=100)
    pq.write_table(table.slice(0, 20), folder / "short.parquet", compression="none", data_page_version="2.0")


def _state(path: Path) -> None:
    for number in range(8):
        asked = [
            "ask",
            f"What is {number} + 1?",
            "--expect",
            str(number + 1),
            "--state",
            str(path),
            "--zoo",
            str(ROOT / "zoo.yaml"),
        ]
        if run(asked) != 0:
            raise SystemExit("the models in the box do not answer; install messctl[llama]")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
