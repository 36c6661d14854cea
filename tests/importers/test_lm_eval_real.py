"""The real lm-evaluation-harness runs against servers of two packaged models; its results are imported and replayed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from servers import LlamaServer

from messctl.cli import run
from messctl.zoo.models import BOX

pytest.importorskip("llama_cpp.server")
LM_EVAL = shutil.which("lm_eval", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(LM_EVAL is None, reason="lm-eval is not installed")]
TASK = Path(__file__).parent / "lm_eval_task"
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": "none"}


def evaluate(server: LlamaServer, model: str, folder: Path) -> float:
    """Run the harness, and return the share of correct puzzles that it reports."""
    url = f"{server.url}/chat/completions"
    command = [
        str(LM_EVAL), "run", "--model", "local-chat-completions", "--tasks", "puzzles", "--include_path", str(TASK),
        "--model_args", f"model={model},base_url={url},num_concurrent=1,max_retries=2,tokenized_requests=False",
        "--apply_chat_template", "--log_samples", "--output_path", str(folder / "out"),
    ]  # fmt: skip
    environment = {**os.environ, **OFFLINE, "HF_HOME": str(folder / "hf")}
    done = subprocess.run(command, cwd=TASK, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (results,) = (folder / "out" / model).glob("results_*.json")
    return float(json.loads(results.read_text())["results"]["puzzles"]["exact_match,none"])


def test_results_of_the_real_harness_can_be_imported_and_replayed(tmp_path, capsys):
    shares = {}
    for model in ("micro-400k", "mini-1m"):
        with LlamaServer(BOX / f"{model}.gguf", model, tmp_path) as server:
            shares[model] = evaluate(server, model, tmp_path)
    costs = ["--cost", "micro-400k=1", "--cost", "mini-1m=3.3"]
    trace = str(tmp_path / "harness.parquet")
    assert run(["import", "lm-eval", str(tmp_path / "out"), *costs, "-o", trace]) == 0
    assert run(["trace", "validate", trace]) == 0
    rows = pq.read_table(trace).to_pylist()
    puzzles = [json.loads(line) for line in (TASK / "puzzles.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [puzzle["question"] for puzzle in puzzles]
    for model, share in shares.items():
        assert 0.5 < share < 1
        right = [row[f"satisfied/{model}"] for row in rows]
        assert sum(right) / len(right) == pytest.approx(share)
        correct = [
            row[f"answer/{model}"].strip() == puzzle["answer"] for row, puzzle in zip(rows, puzzles, strict=True)
        ]
        assert correct == [value == 1.0 for value in right]
    capsys.readouterr()
    assert run(["replay", trace, "--alpha", "0.7", "--json"]) == 0
    policies = {result["policy"]: result for result in json.loads(capsys.readouterr().out)["results"]}
    for model, share in shares.items():
        assert policies[f"always:{model}"]["attained"] == pytest.approx(share)
    assert "bandit" in policies
