"""How pages are written: their length, their sentences, and that what they point at is there."""

from __future__ import annotations

import re
from pathlib import Path

import command_lines
import pages
import pytest

ROOT = pages.ROOT
PAGES = [pytest.param(page, id=pages.name_of(page)) for page in pages.pages()]
WRITTEN = [pytest.param(page, id=pages.name_of(page)) for page in pages.pages() if page.parent.name != "benchmarks"]
LONGEST_SENTENCE = 35
"""Words."""


def _prose(text: str) -> list[str]:
    """Return the paragraphs and list items of a page: no blocks, tables, headings, pictures or comments."""
    text = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->|!\[[^\]]*\]\([^)]*\)", "", text, flags=re.DOTALL)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = command_lines.SPAN.sub("code", text)
    lines = [re.sub(r"^\s*(?:[-*]|\d+\.)\s+", "\n\n", line) for line in text.splitlines()]
    lines = ["" if re.match(r"\s*(?:\||#|    \S)", line) else line for line in lines]
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", "\n".join(lines)) if part.strip()]


def _sentences(text: str) -> list[str]:
    return [each for part in _prose(text) for each in re.split(r"(?<=[.!?])[\")*]*\s+", part)]


def test_readme_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1400


@pytest.mark.parametrize("page", WRITTEN)
def test_no_sentence_is_long(page):
    text = page.read_text(encoding="utf-8")
    long = [sentence for sentence in _sentences(text) if len(sentence.split()) > LONGEST_SENTENCE]
    assert not long


def test_long_sentence_is_found():
    assert max(len(each.split()) for each in _sentences(f"# Head\n\nShort. {'word ' * 40}.\n\n- item\n")) > 35
    assert _sentences("| a | b |\n|---|---|\n\nOne `two three` [four](five.md).\n") == ["One code four."]


def _anchors(page: Path) -> set[str]:
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    astray = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            astray.append(link)
    assert not astray


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_module_in_backticks_exists(page):
    absent = []
    for span in command_lines.spans(page.read_text(encoding="utf-8")):
        for word in span.split():
            if not _exists(word, page):
                absent.append(word)
    assert not absent


def _exists(word: str, page: Path) -> bool:
    """Tell whether a word names no file or module of the project, or one that is there."""
    if re.fullmatch(r"messctl(?:\.[a-z_0-9]+)+(?:\.[A-Z]\w+)?", word):
        module = re.sub(r"\.[A-Z]\w+$", "", word).replace(".", "/")
        return any((ROOT / f"{module}{end}").exists() for end in (".py", "")) or word.endswith(".json")
    folder = word.partition("/")[0]
    ours = "/" in word and folder in ("messctl", "tests", "docs", "examples", "benchmarks", "training", "traces", ".ci")
    if ours and not re.search(r"[*<…{]", word):
        return (ROOT / word).exists() or (page.parent / word).exists()
    if re.fullmatch(r"\w+\.py", word):
        return any(ROOT.glob(f"[!.]*/**/{word}"))
    return True


def test_missing_file_is_found():
    page = ROOT / "README.md"
    assert not _exists("messctl/nowhere/", page)
    assert not _exists("benchmarks/absent.py", page)
    assert not _exists("messctl.nowhere.Absent", page)
    assert _exists("messctl/live/router.py", page)
    assert _exists("messctl.zoo.Settings", page)


TERMS = (
    "α",
    "V",
    "debt (virtual queue)",
    "certificate",
    "reference",
    "margin",
    "propensity",
    "explore",
    "held out",
    "static-mix",
    "hindsight",
    "satisfaction",
    "reward model",
    "off-policy",
    "calibration",
    "pending feedback",
)


@pytest.mark.parametrize("term", TERMS)
def test_glossary_explains(term):
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert re.search(rf"^\*\*{re.escape(term)}\*\*", text, re.MULTILINE | re.IGNORECASE)
