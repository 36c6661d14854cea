"""The listing of a place: the files in it that may be models."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from messctl.inputs import read_text
from messctl.zoo.finding.places import Place

ENDING = ".gguf"
MOST_ENTRIES = 200_000
"""The most files and folders that are looked at in one place."""
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
_REPOSITORY, _SNAPSHOTS, _BLOBS = "models--", "snapshots", "blobs"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may be a model: its path, its name in the program that stored it, and that program."""

    path: Path
    title: str
    program: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that looks like a model and is not used, and why not."""

    what: str
    why: str


@dataclass(slots=True)
class Listing:
    """What is in one place. state: "" if it was searched; otherwise why it was not, or not completely."""

    place: Place
    state: str = ""
    candidates: list[Candidate] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def list_files(place: Place) -> Listing:
    """Return the GGUF files below a folder. A split model is its first file.

    Links are followed, and each folder is searched once. Hidden files and folders are left out. In a cache of
    huggingface_hub, a file of an old snapshot counts only if newer ones lack it.
    """
    listing, walk, newest = Listing(place), Walk(), set[tuple[str, ...]]()
    for path in walk.files(place.folder, place.depth):
        if path.name.lower().endswith(ENDING):
            key = _without_revision(path)
            if key not in newest:
                _add(listing, path)
            newest.add(key)
    listing.state = walk.state
    return listing


def _without_revision(path: Path) -> tuple[str, ...]:
    """Return the parts of a path; in a cache of huggingface_hub, those of its snapshot's revision left out."""
    parts = path.parts
    for place, part in enumerate(parts[:-2]):
        if part.startswith(_REPOSITORY) and parts[place + 1] == _SNAPSHOTS:
            return (*parts[: place + 2], *parts[place + 3 :])
    return parts


def _add(listing: Listing, path: Path) -> None:
    shard = _SHARD.search(path.name)
    if shard is not None:
        number, count = int(shard[1]), int(shard[2])
        beside = [_part(path, shard, each, count) for each in range(1, count + 1)] if count <= 10_000 else []
        there = [i for i, each in enumerate(beside, 1) if _exists(each)]
        if number != min(there, default=1):
            return  # one of the parts of a model that is listed already
        absent = [f"{i}" for i in range(1, count + 1) if i not in there] if beside else []
        if absent:
            why = f"is part of {count} files, of which number {absent[0]} is missing; download it again"
            listing.left_out.append(LeftOut(str(path), why))
            return
    listing.candidates.append(Candidate(path, _title(path), listing.place.program))


def _part(path: Path, shard: re.Match[str], number: int, count: int) -> Path:
    ending = path.name[shard.end() - len(ENDING) :]
    return path.with_name(f"{path.name[: shard.start()]}-{number:05d}-of-{count:05d}{ending}")


def _title(path: Path) -> str:
    """Return the file's name without its ending, without the number of its part, and behind its repository's name."""
    shard = _SHARD.search(path.name)
    stem = path.name[: shard.start()] if shard else path.name[: -len(ENDING)]
    repository = next((part for part in reversed(path.parts) if part.startswith(_REPOSITORY)), "")
    folder = repository.rpartition("--")[2] if repository else path.parent.name
    return f"{folder}/{stem}"


class Walk:
    """A walk through the files below a folder, bounded in depth and in the number of entries.

    state: why the walk is not complete; "" if it is.
    """

    def __init__(self) -> None:
        self.state = ""
        self._left = MOST_ENTRIES
        self._seen: set[tuple[int, int]] = set()

    def files(self, folder: Path, depth: int) -> Iterator[Path]:
        """Yield the files in a folder and in those below it, `depth` folders deep, in the order of their names."""
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in self._seen:
                return
            self._seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
        except FileNotFoundError:
            self.state = self.state or "does not exist"
            return
        except OSError as error:
            self.state = self.state or f"{folder} cannot be read ({error.strerror})"
            return
        self._left -= len(names)
        if self._left < 0:
            self.state = f"has more than {MOST_ENTRIES:,} files; the rest was not searched"
            return
        folders = []
        for name in _of_repository(folder, names):
            path = folder / name
            if is_folder(path):
                folders.append(path)
            else:
                yield path
        for below in folders if depth > 1 else ():
            yield from self.files(below, depth - 1)


def _of_repository(folder: Path, names: list[str]) -> list[str]:
    """Return the names in a folder to go on with: in a cache, no blobs, and the newest snapshot first."""
    if folder.name.startswith(_REPOSITORY) and _SNAPSHOTS in names:
        return [name for name in names if name != _BLOBS]
    if folder.name != _SNAPSHOTS or not folder.parent.name.startswith(_REPOSITORY) or not names:
        return names
    try:
        main = read_text(folder.parent / "refs" / "main").strip()
    except (OSError, ValueError):
        main = ""
    return sorted(names, key=lambda name: (name == main, _changed(folder / name)), reverse=True)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder that can be seen."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _exists(path: Path) -> bool:
    """Return whether a path exists, be it a link without a target."""
    return os.path.lexists(path)
