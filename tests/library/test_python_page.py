"""The page on messctl in Python runs as a doctest, from its first line to its last."""

from __future__ import annotations

import doctest
import re

import pytest

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_page_runs_as_a_doctest(root, tmp_path, monkeypatch):
    for library in ("pandas", "llama_cpp"):
        pytest.importorskip(library, reason=f"{library} is not installed; `make dev` installs it")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "traces").symlink_to(root / "traces")
    text = "\n".join(BLOCK.findall((root / "docs" / "python.md").read_text(encoding="utf-8")))
    examples = doctest.DocTestParser().get_doctest(text, {}, "docs/python.md", None, 0)
    assert len(examples.examples) > 20
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL | doctest.NORMALIZE_WHITESPACE)
    runner.run(examples, out=said.append)
    assert not runner.failures, "".join(said)
