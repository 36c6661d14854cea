"""docs/gpu.md: its zoo is a zoo, and its sums are right; the example for one GPU has the same."""

from __future__ import annotations

import re

import pages
import pytest

from messctl.gguf.header import KV_BYTES
from messctl.zoo import load_zoo

PAGE = (pages.ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
EXAMPLE = (pages.ROOT / "examples" / "one-gpu" / "README.md").read_text(encoding="utf-8")
WORKING_GB, CUDA_GB = 0.3, 0.5


def test_zoo_on_the_page_loads(tmp_path):
    (block,) = [block.text for block in pages.blocks(PAGE) if block.language == "yaml"]
    (tmp_path / "zoo.yaml").write_text(block, encoding="utf-8")
    zoo_file = load_zoo(tmp_path / "zoo.yaml")
    assert zoo_file.names == ("qwen-1.5b", "qwen-7b", "qwen-14b")
    assert (zoo_file.meter, {model.gpu for model in zoo_file.models}) == ("nvml", {"require"})


def _rows() -> list[tuple[float, float, float]]:
    """Return file (GB), cache per 1,000 tokens (MB) and sum (GB) of each model; the caches are checked."""
    rows = re.findall(
        r"^\| [\d.]+B \| ([\d.]+) GB \| (\d+) × (\d+) × (\d+) \| ([\d.]+) MB \| ([\d.]+) GB \|$", PAGE, re.MULTILINE
    )
    assert len(rows) == 3
    for _, layers, heads, width, cache, _ in rows:
        assert round(2 * int(layers) * int(heads) * int(width) * KV_BYTES * 1000 / 1e6, 1) == float(cache)
    return [(float(file), float(cache), float(total)) for file, _, _, _, cache, total in rows]


def test_memory_on_the_page_follows_from_its_formula():
    rows = _rows()
    totals = [file + 8.192 * cache / 1000 + WORKING_GB for file, cache, _ in rows]
    assert totals == pytest.approx([total for *_, total in rows], abs=0.1)
    (stated,) = re.findall(r"^\| all, and CUDA .*? ([\d.]+) GB", PAGE, re.MULTILINE)
    assert sum(totals) + CUDA_GB == pytest.approx(float(stated), abs=0.05)


def test_memory_of_the_example_is_that_of_the_page():
    rows = _rows()
    stated = [float(value) for value in re.findall(r"^\| [^|]* \| ([\d.]+) \|$", EXAMPLE, re.MULTILINE)]
    files, caches = sum(file for file, *_ in rows), 8.192 * sum(cache for _, cache, _ in rows) / 1000
    assert stated == pytest.approx([files, caches, 3 * WORKING_GB, CUDA_GB, files + caches + 1.4], abs=0.05)
    assert "8,192 × (28.7 + 57.3 + 196.6) kB" in EXAMPLE
    assert [cache for _, cache, _ in rows] == [28.7, 57.3, 196.6]
