"""What a GGUF file is for, if it is not a language model that can answer by itself.

Source: the `gguf` package (GGUFType, MODEL_ARCH_NAMES, PoolingType), and llama.cpp's list of architectures.
"""

from __future__ import annotations

import re

from messctl.gguf.file import Part

_KINDS = {
    "adapter": "a LoRA adapter",
    "mmproj": "the part of a model that reads pictures or sound (mmproj)",
    "imatrix": "an importance matrix",
    "vocab": "a vocabulary without weights",
}
_ARCHITECTURES = {
    "clip": _KINDS["mmproj"],
    "t5": "an encoder-decoder model",
    "t5encoder": "an encoder",
    "wavtokenizer-dec": "a model that makes sound",
    **dict.fromkeys(("dream", "llada", "llada-moe", "rnd1"), "a diffusion model"),
}
_EMBEDDING = "an embedding model"
_RERANKER = "a reranker"
_ENCODES = re.compile(r"bert|-embed(?:ding)?$")
_NO_POOLING, _RANK = 0, 4
"""Values of `pooling_type`: a model without one of the others generates text."""


def other_purpose(first: Part) -> str | None:
    """Return what a file is, such as "a LoRA adapter"; None for a language model, as far as its fields tell."""
    kind, architecture = first.text("general.type") or "model", first.text("general.architecture") or ""
    if kind != "model":
        return _KINDS.get(kind, f"of the kind {kind!r}")
    if architecture in _ARCHITECTURES:
        return _ARCHITECTURES[architecture]
    pooling = first.fields.get(f"{architecture}.pooling_type", _NO_POOLING)
    if pooling != _NO_POOLING:
        return _RERANKER if pooling == _RANK else _EMBEDDING
    not_causal = first.fields.get(f"{architecture}.attention.causal") is False
    if not_causal or _ENCODES.search(architecture):
        return _EMBEDDING
    return None
