"""docs/architecture.md lists every room, and the layers that are enforced."""

from __future__ import annotations

import re
import tomllib

import pages

PAGE = (pages.ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_page_lists_every_room():
    rooms = {path.name for path in (pages.ROOT / "messctl").iterdir() if path.is_dir() and path.name[0] not in "_."}
    assert set(re.findall(r"^\| `messctl/(\w+)/` \|", PAGE, re.MULTILINE)) == rooms


def test_page_shows_the_layers_that_are_enforced():
    contracts = tomllib.loads((pages.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (contract,) = contracts["contracts"]
    (block,) = [block.text for block in pages.blocks(PAGE) if block.language == "text"]
    assert block.split("\n")[:-1] == contract["layers"]
