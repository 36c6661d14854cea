"""The search: which models are in the places, each once, and what is left out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from messctl.errors import ModelFileError
from messctl.gguf import Header, header_of, other_purpose, read_part
from messctl.inputs import open_plain
from messctl.zoo.finding.listing import Candidate, LeftOut, Listing, list_files
from messctl.zoo.finding.names import readable, unique
from messctl.zoo.finding.ollama import is_ollama, list_ollama
from messctl.zoo.finding.places import OLLAMA, Place

_EMBEDDING = re.compile(r"embedding|rerank|(?<![a-z])embed(?![a-z])")
_SAMPLES, _SAMPLE_BYTES = 256, 1 << 14
"""How many blocks of a file, of which size in bytes, tell it from another file of the same size."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A model's file: the name that it gets, its header, where it was found, and what else is the same file."""

    name: str
    path: Path
    header: Header
    program: str
    title: str
    twins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Search:
    """What was found, from the smallest model to the largest, what was left out, and where messctl looked."""

    files: tuple[FoundFile, ...]
    left_out: tuple[LeftOut, ...]
    listings: tuple[Listing, ...]


def search(places: Iterable[Place], on_file: Callable[[Path], object] = str) -> Search:
    """Return the models in the places. `on_file` gets each file before it is read; nothing is loaded."""
    listings = tuple(_list(place) for place in places)
    left_out = [each for listing in listings for each in listing.left_out]
    found: dict[tuple[int, int], list[Candidate]] = {}
    for candidate in (each for listing in listings for each in listing.candidates):
        try:
            status = candidate.path.stat()
        except OSError:
            left_out.append(LeftOut(str(candidate.path), "is a link to a file that is missing; download it again"))
            continue
        found.setdefault((status.st_dev, status.st_ino), []).append(candidate)
    models: list[tuple[list[Candidate], Header]] = []
    for same in found.values():
        on_file(same[0].path)
        header = _header(same[0])
        if isinstance(header, LeftOut):
            left_out.append(header)
            continue
        twin = next((each for each in models if _same_contents(each[1], header)), None)
        if twin is None:
            models.append((same, header))
        else:
            twin[0].extend(same)
    return Search(_named(models), tuple(dict.fromkeys(left_out)), listings)


def _list(place: Place) -> Listing:
    return list_ollama(place) if place.program == OLLAMA or is_ollama(place.folder) else list_files(place)


def _header(candidate: Candidate) -> Header | LeftOut:
    """Return a file's header, or why it is no model that can answer."""
    path = candidate.path
    if _EMBEDDING.search(candidate.title.rpartition("/")[2].lower()):
        return LeftOut(str(path), "is an embedding model, by its name; add it by hand if it answers prompts")
    if not str(path).isprintable():
        return LeftOut(ascii(str(path)), "has a name that zoo.yaml cannot hold; rename it")
    try:
        first = read_part(path)
        purpose = other_purpose(first)
        return header_of(first) if purpose is None else LeftOut(str(path), f"is {purpose}, not a model that answers")
    except ModelFileError as error:
        return LeftOut(str(error.path), error.what)


def _same_contents(one: Header, other: Header) -> bool:
    """Return whether two models are copies of one, as far as their sizes and many small parts of them tell."""
    facts = [(each.file_bytes, each.parameters, each.context_length) for each in (one, other)]
    try:
        return facts[0] == facts[1] and _digest(one.path) == _digest(other.path)
    except OSError:
        return False


def _digest(path: Path) -> bytes:
    size, digest = path.stat().st_size, hashlib.sha256()
    with open_plain(path) as file:
        step = max(_SAMPLE_BYTES, size // _SAMPLES)
        for start in (*range(0, size, step), max(0, size - _SAMPLE_BYTES)):
            file.seek(start)
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.digest()


def _named(models: Iterable[tuple[list[Candidate], Header]]) -> tuple[FoundFile, ...]:
    ordered = sorted(models, key=lambda pair: (pair[1].active_parameters, pair[1].file_bytes, str(pair[0][0].path)))
    wishes = [
        (readable(same[0].title, _stated(header)), header.quantisation, same[0].program) for same, header in ordered
    ]
    return tuple(
        FoundFile(name, same[0].path, header, same[0].program, same[0].title, _twins(same))
        for name, (same, header) in zip(unique(wishes), ordered, strict=True)
    )


def _stated(header: Header) -> str:
    """Return the name in a file; "" if it has none."""
    return "" if header.name == header.path.stem else header.name


def _twins(same: list[Candidate]) -> tuple[str, ...]:
    """Return the other names of a file: its paths, or Ollama's names."""
    first, *others = (f"{OLLAMA}'s {each.title}" if each.program == OLLAMA else str(each.path) for each in same)
    return tuple(dict.fromkeys(text for text in others if text != first))
