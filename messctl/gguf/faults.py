"""Faults of a model file with which llama.cpp aborts or crashes, which would end the whole process.

llama.cpp reports all other faults by itself.
"""

from __future__ import annotations

from messctl.gguf.file import TOKENS, Part, Vocabulary
from messctl.gguf.tables import TENSOR_TYPES

MOST_LAYERS = 512

_NO_VOCABULARY = ("none", "no_vocab")
_SENTENCEPIECE = "llama"
_NOT_COMPUTED = {"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K"}


def check(parts: list[Part], architecture: str) -> None:
    """Raise ModelFileError if llama.cpp would crash with the model in `parts`."""
    first = parts[0]
    layers = first.count(f"{architecture}.block_count")
    if not 0 < layers <= MOST_LAYERS:
        first.fail(f"is damaged: its header states {layers:,} layers; download it again")
    for key, value in first.fields.items():
        if key.endswith("_epsilon") and isinstance(value, float) and not value >= 0:
            first.fail(f"is damaged: {key} is {value}, with which llama.cpp aborts; download it again")
    _check_vocabulary(first)
    for part in parts:
        _check_weights(part)


def _check_vocabulary(first: Part) -> None:
    kind, vocabulary = first.text("tokenizer.ggml.model"), first.fields.get(TOKENS)
    if kind in _NO_VOCABULARY:
        first.fail("has no vocabulary; use a file that contains the tokenizer")
    if not isinstance(vocabulary, Vocabulary):
        return
    if vocabulary.repeats:
        first.fail("is damaged: its vocabulary holds a token twice; download it again, or convert it again")
    if kind == _SENTENCEPIECE and vocabulary.bytes_known < 256:
        first.fail("has a vocabulary without all 256 bytes, with which llama.cpp aborts; use another file")


def _check_weights(part: Part) -> None:
    names = {TENSOR_TYPES[kind].name for kind in part.weight_types}
    for name in sorted(names & _NOT_COMPUTED):
        part.fail(f"has weights of type {name}, with which llama.cpp cannot compute; download another quantisation")
