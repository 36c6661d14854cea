"""What the pages under docs/ say can be done."""

from __future__ import annotations

import re

import pytest

from messctl.gguf.header import KV_BYTES
from messctl.zoo import load_zoo


@pytest.fixture
def page(root):
    return (root / "docs" / "gpu.md").read_text(encoding="utf-8")


def test_the_zoo_on_the_gpu_page_is_a_zoo(page, tmp_path):
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "zoo.yaml").write_text(block, encoding="utf-8")
    zoo_file = load_zoo(tmp_path / "zoo.yaml")
    assert zoo_file.names == ("qwen-1.5b", "qwen-7b", "qwen-14b")
    assert (zoo_file.meter, {model.gpu for model in zoo_file.models}) == ("nvml", {"require"})


def test_the_memory_on_the_gpu_page_is_as_its_formula_says(page):
    rows = re.findall(
        r"^\| [\d.]+B \| ([\d.]+) GB \| (\d+) × (\d+) × (\d+) \| ([\d.]+) MB \| ([\d.]+) GB \|$", page, re.MULTILINE
    )
    assert len(rows) == 3
    totals = []
    for file, layers, heads, width, per_thousand, total in rows:
        per_token = 2 * int(layers) * int(heads) * int(width) * KV_BYTES
        assert round(per_token * 1000 / 1e6, 1) == float(per_thousand)
        totals.append(float(file) + 8192 * per_token / 1e9 + 0.3)
        assert totals[-1] == pytest.approx(float(total), abs=0.1)
    assert sum(totals) + 0.5 == pytest.approx(float(re.findall(r"all, and CUDA .*? ([\d.]+) GB", page)[0]), abs=0.1)


def test_the_commands_on_the_gpu_page_exist(page):
    from messctl.cli import run

    for command in re.findall(r"^\$ messctl (.*)$", page, re.MULTILINE):
        words = [word for word in command.split() if not word.startswith(("-", '"'))]
        known = [word for word in words[:2] if word in ("zoo", "check", "calibrate", "doctor", "ask")]
        assert run([*known, "--help"]) == 0
