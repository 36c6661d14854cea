"""The places where programs store models.

Sources: Ollama's FAQ and its packages for Linux; LM Studio's documentation; huggingface_hub's environment variables;
llama.cpp's `fs_get_cache_directory`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from messctl.inputs import read_text

OLLAMA, LM_STUDIO, HUGGING_FACE, LLAMA_CPP = "Ollama", "LM Studio", "Hugging Face", "llama.cpp"
HERE, FOLDER = "this folder", "--folder"
DEEP = 12
"""How many folders below a place are searched."""
NEAR = 2
"""The same for the current folder, which may be the home folder: it and the folders in it."""

_SERVICE = (
    *("usr/share/ollama/.ollama/models", "var/lib/ollama", "var/snap/ollama/common/models"),
    "usr/local/share/ollama/.ollama/models",
)
"""Where Ollama stores models if the system runs it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder in which models may be, the program that puts them there, and how many folders deep to search."""

    program: str
    folder: Path
    depth: int = DEEP


def places(
    environment: Mapping[str, str],
    home: Path,
    platform: str,
    *,
    here: Path | None = None,
    folders: Iterable[Path] = (),
    root: Path = Path("/"),
) -> tuple[Place, ...]:
    """Return the places to search, each folder once: `here` and `folders` first, then those of the programs.

    environment: the environment variables. home: the home folder. platform: as in `sys.platform`. root: the folder
    that holds `usr` and `var`. A place need not exist.
    """
    found = [] if here is None else [Place(HERE, here, NEAR)]
    found += [Place(FOLDER, folder) for folder in folders]
    found += [Place(OLLAMA, folder) for folder in _ollama(environment, home, platform, root)]
    found += [Place(LM_STUDIO, folder) for folder in _lm_studio(home)]
    found += [Place(HUGGING_FACE, folder) for folder in _hugging_face(environment, home)]
    found += [Place(LLAMA_CPP, _llama_cpp(environment, home, platform))]
    return tuple({place.folder: place for place in reversed(found)}.values())[::-1]


def _ollama(environment: Mapping[str, str], home: Path, platform: str, root: Path) -> list[Path]:
    service = [] if platform in ("win32", "darwin") else [root / path for path in _SERVICE]
    return [*_named(environment, home, "OLLAMA_MODELS"), home / ".ollama" / "models", *service]


def _lm_studio(home: Path) -> list[Path]:
    """Return LM Studio's folders. A file in the home folder may name another home; its settings, another folder."""
    pointer = _text(home / ".lmstudio-home-pointer").strip()
    homes = [*([Path(pointer)] if pointer else []), home / ".lmstudio", home / ".cache" / "lm-studio"]
    chosen = [folder for each in homes if (folder := _downloads_folder(each / "settings.json"))]
    return [*chosen, *(each / "models" for each in homes)]


def _downloads_folder(settings: Path) -> Path | None:
    try:
        folder = json.loads(_text(settings)).get("downloadsFolder")
    except (ValueError, AttributeError, RecursionError):
        return None
    return Path(folder) if isinstance(folder, str) and Path(folder).is_absolute() else None


def _hugging_face(environment: Mapping[str, str], home: Path) -> list[Path]:
    """Return the caches of huggingface_hub. The first variable that is set decides, as it does there."""
    for name, below in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
        folders = _named(environment, home, name)
        if folders:
            return [folders[0] / below]
    cache = [*_named(environment, home, "XDG_CACHE_HOME"), home / ".cache"]
    return [folder / "huggingface" / "hub" for folder in cache]


def _llama_cpp(environment: Mapping[str, str], home: Path, platform: str) -> Path:
    folders = _named(environment, home, "LLAMA_CACHE")
    if folders:
        return folders[0]
    if platform == "darwin":
        return home / "Library" / "Caches" / "llama.cpp"
    if platform == "win32":
        return next(iter(_named(environment, home, "LOCALAPPDATA")), home / "AppData" / "Local") / "llama.cpp"
    return next(iter(_named(environment, home, "XDG_CACHE_HOME")), home / ".cache") / "llama.cpp"


def _named(environment: Mapping[str, str], home: Path, variable: str) -> list[Path]:
    """Return the folder that a variable names, `~` being the home folder; none if it is not set."""
    text = environment.get(variable, "").strip()
    if not text:
        return []
    return [home / text[2:] if text.startswith("~/") else Path(text).absolute()]


def _text(path: Path) -> str:
    """Return a small text file; "" if there is none, or if it cannot be read."""
    try:
        return read_text(path)
    except (OSError, ValueError):
        return ""
