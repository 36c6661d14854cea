"""Prompt files: the prompts to record, in JSON Lines, JSON, CSV, Parquet or plain text."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from messctl.errors import SourceError
from messctl.importers.base import Place
from messctl.importers.files import (
    byte_lines,
    csv_cells,
    csv_record,
    decode_json,
    json_document,
    json_records,
    parquet_records,
    reading,
)
from messctl.inputs import valid_unicode

FIELDS = ("prompt", "reference", "request_id", "source")
Check = Callable[[Sequence[str]], str | None]
"""Takes a prompt's references, and returns what is wrong with them, or None."""
Parts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a file. A good answer is any of the `references`; without one, the answers are not compared."""

    request_id: str
    prompt: str
    references: tuple[str, ...] = ()
    source: str | None = None


@dataclass(frozen=True, slots=True)
class PromptFile:
    """The prompts of a file, in order, and one error message for each skipped prompt."""

    path: Path
    prompts: tuple[Prompt, ...]
    skipped: tuple[str, ...]


def read_prompts(path: Path, *, skip_bad: bool = False, check: Check = lambda _: None) -> PromptFile:
    """Read a prompt file. The suffix says the format; a file with an unknown suffix is text, with a prompt per line.

    A prompt without a `request_id` gets the number of its row, line or record. `check` gets its references. A bad
    prompt is an error that names its place; with `skip_bad` it is left out. Raises SourceError, also if none is left.
    """
    prompts: dict[str, Prompt] = {}
    skipped: list[str] = []
    for at, read in _records(path):
        try:
            prompt = _prompt(at, read(), check)
            if prompt.request_id in prompts:
                raise at.error(f"{prompt.request_id!r} appears twice", "request_id", "give each prompt its own id")
        except SourceError as error:
            if not skip_bad:
                raise SourceError(f"{error}, or add --skip-bad") from None
            skipped.append(str(error))
        else:
            prompts[prompt.request_id] = prompt
    if not prompts:
        raise SourceError(f"{path}: has no {'usable prompts; correct them' if skipped else 'prompts; add some'}")
    return PromptFile(path, tuple(prompts.values()), tuple(skipped))


def _prompt(at: Place, record: Parts, check: Check) -> Prompt:
    values = {name: at.optional(record, name) for name in FIELDS}
    prompt, request_id, source = (_text(at, name, values[name]) for name in ("prompt", "request_id", "source"))
    if prompt is None:
        raise (at.missing("prompt", record) if "prompt" not in record else at.error("is empty", "prompt", "fill it"))
    references = _references(at, values["reference"])
    problem = check(references)
    if problem:
        raise at.error(problem, "reference")
    return Prompt(request_id or str(at.row), prompt, references, source)


def _references(at: Place, value: object) -> tuple[str, ...]:
    """Return the references: a text or a number, or a list of them, each once. Raises SourceError for a blank in it."""
    if not isinstance(value, list):
        text = _text(at, "reference", value)
        return () if text is None else (text,)
    texts = [_text(at, f"reference[{number}]", each) for number, each in enumerate(value, 1)]
    for number, text in enumerate(texts, 1):
        if text is None:
            raise at.error("is empty", f"reference[{number}]", "fill it, or remove it from the list")
    return tuple(dict.fromkeys(filter(None, texts)))


def _text(at: Place, name: str, value: object) -> str | None:
    """Return a field as text, a number as it is written; None if it is missing or blank. NaN is missing."""
    if isinstance(value, (int, float)):  # also True and False
        value = None if math.isnan(value) else json.dumps(value)
    return valid_unicode(at.text(name, value)).strip() or None


def _records(path: Path) -> Iterator[tuple[Place, Callable[[], Parts]]]:
    """Yield the place of every record, and a function that reads it and raises SourceError for a bad one."""
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        for at, line in _lines(path):
            yield at, lambda at=at, line=line: at.mapping(decode_json(at, line()))  # type: ignore[misc]
    elif suffix == ".json":
        for at, record in json_records(Place(path), json_document(path)):
            yield at, lambda record=record: record  # type: ignore[misc]
    elif suffix == ".csv":
        for at, header, cells in csv_cells(path):
            yield at, partial(csv_record, at, header, cells)
    elif suffix in (".parquet", ".pq"):
        for at, record in parquet_records(path):
            yield at, lambda record=record: record  # type: ignore[misc]
    else:
        for at, line in _lines(path):
            yield at, lambda line=line: {"prompt": line()}  # type: ignore[misc]


def _lines(path: Path) -> Iterator[tuple[Place, Callable[[], str]]]:
    """Yield the place of every line that is not blank, and a function that decodes it."""
    with reading(path):
        for at, line in byte_lines(path):
            if line.strip():
                yield at, lambda at=at, line=line: _decoded(at, line)  # type: ignore[misc]


def _decoded(at: Place, line: bytes) -> str:
    if b"\0" in line:
        raise at.error("has NUL bytes, as UTF-16 text has", advice="convert it to UTF-8")
    try:
        return line.decode("utf-8-sig" if at.row == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise at.error(f"is not UTF-8 text ({error.reason})", advice="convert it to UTF-8") from None
