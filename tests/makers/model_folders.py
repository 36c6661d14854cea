"""Folders of models, laid out as the programs that store models lay them out."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from gguf_making import write_gguf

MODEL, ADAPTER = "application/vnd.ollama.image.model", "application/vnd.ollama.image.adapter"


def gguf_file(path: Path, width: int = 32, **more: Any) -> Path:
    """Write a small GGUF file, whose contents depend on its `width`, into a folder that is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_gguf(path, width=width, **more)


def ollama(folder: Path, name: str, file: Path | None, *, media_type: str = MODEL, more: tuple[str, ...] = ()) -> Path:
    """Store a file as `ollama pull` does: `name` is `model:tag` or `host/namespace/model:tag`; return the blob."""
    where, _, tag = name.rpartition(":")
    parts = where.split("/") if "/" in where else ["registry.ollama.ai", "library", where]
    layers = []
    blob = folder / "blobs"
    blob.mkdir(parents=True, exist_ok=True)
    if file is not None:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        blob /= f"sha256-{digest}"
        shutil.copyfile(file, blob)
        layers.append({"mediaType": media_type, "digest": f"sha256:{digest}", "size": file.stat().st_size})
    for kind in ("template", "license", "params", *more):
        small = folder / "blobs" / f"sha256-{hashlib.sha256(kind.encode()).hexdigest()}"
        small.write_text(kind)
        media = f"application/vnd.ollama.image.{kind}"
        layers.append({"mediaType": media, "digest": small.name.replace("-", ":"), "size": len(kind)})
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": f"sha256:{'0' * 64}", "size": 9}
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": config,
        "layers": layers,
    }
    manifest = folder.joinpath("manifests", *parts, tag)
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps(document))
    return blob


def hugging_face(hub: Path, repository: str, name: str, file: Path, revision: str = "a" * 40) -> Path:
    """Store a file as huggingface_hub does: a blob, and a link to it in a snapshot; return the link."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for below in ("blobs", "refs", f"snapshots/{revision}"):
        (folder / below).mkdir(parents=True, exist_ok=True)
    blob = folder / "blobs" / digest
    shutil.copyfile(file, blob)
    (folder / "refs" / "main").write_text(revision)
    link = folder / "snapshots" / revision / name
    link.parent.mkdir(parents=True, exist_ok=True)
    up = "/".join([".."] * (1 + len(Path(name).parts)))
    link.symlink_to(f"{up}/blobs/{digest}")
    return link


def lm_studio(models: Path, repository: str, name: str, file: Path) -> Path:
    """Store a file as LM Studio does: below its publisher and its repository."""
    path = models / repository / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, path)
    return path


def llama_cpp(cache: Path, repository: str, name: str, file: Path) -> Path:
    """Store a file as llama.cpp's `-hf` does: the repository is a part of its name, and notes are beside it."""
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{repository.replace('/', '_')}_{name}"
    shutil.copyfile(file, path)
    Path(f"{path}.json").write_text('{"etag": "x", "url": "https://huggingface.co/"}')
    owner, _, rest = repository.partition("/")
    (cache / f"manifest={owner}={rest}=latest.json").write_text(json.dumps({"ggufFile": {"rfilename": name}}))
    return path
