"""docs/zoo.md names every key of zoo.yaml with its default, and no other."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from typing import Any

import pages
import pytest

from messctl.zoo import load_zoo
from messctl.zoo.file import ENERGY_KEYS, ROUTER_KEYS, SECTIONS, SLA_KEYS, ZooFile
from messctl.zoo.models import CostPerToken, ModelSpec
from messctl.zoo.schema import RULE, rules
from messctl.zoo.settings import Settings
from messctl.zoo.state_place import StatePlace
from messctl.zoo.tenants import Tenant

PAGE = (pages.ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")
KEYS = {
    "sections": tuple(SECTIONS),
    "sla": tuple(SLA_KEYS),
    "router": (*ROUTER_KEYS, "features.gguf"),
    "state": tuple(rules(StatePlace)),
    "energy": tuple(ENERGY_KEYS),
    "memory": ("cpu_gb", "gpu_gb"),
    "tenants": tuple(rules(Tenant)),
    "models": (*rules(ModelSpec), "chat_template.file", *(f"cost.{name}" for name in rules(CostPerToken))),
}
KINDS = {
    "sla": Settings,
    "router": Settings,
    "state": StatePlace,
    "energy": ZooFile,
    "memory": ZooFile,
    "models": ModelSpec,
    "tenants": Tenant,
}


def _rows(section: str) -> dict[str, list[str]]:
    """Return the cells of the tables under a heading, by the key in backticks that begins a row."""
    heading = "The sections" if section == "sections" else f"`{section}`"
    (text,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE + "\n", re.DOTALL | re.MULTILINE)
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        match = re.match(r"\| `([^`]+)` \|(.*)\|$", line)
        if match:
            assert match[1] not in found, match[1]
            found[match[1]] = [cell.strip() for cell in re.split(r"(?<!\\)\|", match[2])]
    return found


@pytest.mark.parametrize("section", KEYS)
def test_page_names_every_key_and_no_other(section):
    assert sorted(_rows(section)) == sorted(KEYS[section])


@pytest.mark.parametrize("section", KINDS)
def test_page_states_every_default(section):
    kind = KINDS[section]
    known = {field.name: field for field in fields(kind)}
    if section == "models":
        known |= {f"cost.{field.name}": field for field in fields(CostPerToken)}
    said = {key: cells[0].strip("`") for key, cells in _rows(section).items() if key in known}
    assert said == {key: _default(known[key]) for key in said}


def _default(field: Any) -> str:
    """Return a field's default as the page writes it; a dash where the file must say it, or nothing is taken."""
    value, absent = field.default, getattr(field.metadata[RULE], "absent", None)
    if value is MISSING:
        return "needed"
    if field.name == "features":
        return "words"
    if field.name == "idle":
        return "include"
    if value is None or value == ():
        return absent or "–"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _zoos() -> list[object]:
    """Return the blocks of the pages that are a zoo.yaml."""
    return [
        pytest.param(block.text, id=f"{pages.name_of(page)}-{number}")
        for page in pages.pages()
        for number, block in enumerate(pages.blocks(page.read_text(encoding="utf-8")))
        if block.language == "yaml" and "models:" in block.text and "apiBase:" not in block.text  # of Continue
    ]


@pytest.mark.parametrize("text", _zoos())
def test_zoo_on_a_page_loads(text, tmp_path):
    (tmp_path / "zoo.yaml").write_text(text, encoding="utf-8")
    assert len(load_zoo(tmp_path / "zoo.yaml").models) >= 2
