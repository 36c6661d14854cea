"""The listing of Ollama's models: a manifest for each name, and the files, named by their contents.

    manifests/<registry>/<namespace>/<model>/<tag>      JSON; its layers name the files
    blobs/sha256-<digest>                               the files

Source: Ollama's server/manifest.go and server/modelpath.go; the layers' media types are those of its registry.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from messctl.inputs import read_bytes
from messctl.zoo.finding.listing import Candidate, LeftOut, Listing, Walk, is_folder, list_files
from messctl.zoo.finding.places import Place

_MANIFESTS = ("manifests", "manifests-v2")
_REGISTRY, _LIBRARY, _LATEST = "registry.ollama.ai", "library", "latest"
_MODEL, _ADAPTER = "application/vnd.ollama.image.model", "application/vnd.ollama.image.adapter"
_DIGEST = re.compile(r"sha256[:-](\w+)")
_DEPTH = 6


def is_ollama(folder: Path) -> bool:
    """Return whether Ollama's manifests are in a folder."""
    return any(is_folder(folder / name) for name in _MANIFESTS)


def list_ollama(place: Place) -> Listing:
    """Return the models in Ollama's folder, those with the tag `latest` last: another tag says more."""
    folders = [place.folder, place.folder / "models", place.folder / ".ollama" / "models"]
    folder = next((each for each in folders if is_ollama(each)), None)
    if folder is None:
        return list_files(place)
    listing, walk, manifests = Listing(place), Walk(), []
    for name in _MANIFESTS:
        if is_folder(folder / name):
            manifests += [(path, path.relative_to(folder / name).parts) for path in walk.files(folder / name, _DEPTH)]
    for path, parts in sorted(manifests, key=lambda pair: (pair[1][-1] == _LATEST, pair[1])):
        title = _title(parts)
        try:
            listing.candidates.append(Candidate(_blob(folder, _layers(path)), title, place.program))
        except _UnusableError as error:
            listing.left_out.append(LeftOut(f"{place.program}'s {title}", str(error)))
    listing.state = walk.state
    return listing


class _UnusableError(Exception):
    """A manifest names no file that can be used. The message says why."""


def _title(parts: tuple[str, ...]) -> str:
    """Return a model's name as Ollama writes it: the registry and the namespace are left out if they are the usual."""
    *where, tag = parts
    names = where[1:] if where[:1] == [_REGISTRY] else where
    names = names[1:] if names[:1] == [_LIBRARY] else names
    return f"{'/'.join(names)}:{tag}"


def _layers(path: Path) -> list[dict[str, Any]]:
    try:
        document = json.loads(read_bytes(path))
    except OSError as error:
        raise _UnusableError(
            f"its manifest {path} cannot be read ({error.strerror}); correct its permissions"
        ) from None
    except (ValueError, RecursionError):
        raise _UnusableError(f"its manifest {path} is damaged; pull it again") from None
    layers = document.get("layers") if isinstance(document, dict) else None
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def _blob(folder: Path, layers: list[dict[str, Any]]) -> Path:
    """Return the file of a model. Raises _UnusableError if there is none, or if it is only a part of the model."""
    models = [layer for layer in layers if layer.get("mediaType") == _MODEL]
    if any(layer.get("mediaType") == _ADAPTER for layer in layers):
        raise _UnusableError("has a LoRA adapter, which messctl cannot apply; merge it into the model")
    if not models:
        raise _UnusableError("has no GGUF file here: it runs at a server, or is in another format")
    if len(models) > 1:
        raise _UnusableError("is stored in several files, which messctl cannot join; use --url with Ollama's server")
    digest = _DIGEST.fullmatch(str(models[0].get("digest")))
    if digest is None:
        raise _UnusableError("its manifest is damaged; pull it again")
    for separator in "-:":
        blob = folder / "blobs" / f"sha256{separator}{digest[1]}"
        if blob.exists():
            return blob
    raise _UnusableError(f"its file {folder / 'blobs' / f'sha256-{digest[1]}'} is missing; pull it again")
