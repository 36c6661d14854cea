"""Tiny GGUF models for the tests: the right shape for llama.cpp, written in milliseconds.

A model here answers by rote: its layers add nothing, so that the next token follows from the last one alone, as
`follows` says. `random_weights` makes one whose answer depends on all that it has read.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter, TokenType

BOS, END, USER, ANSWER = "<s>", "<|end|>", "<|user|>", "<|answer|>"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}[{{ m.content }}]{% elif m.role == 'user' %}"
    "<|user|>{{ m.content }}{% else %}<|answer|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|answer|>{% endif %}"
)


def _byte_names() -> list[str]:
    """Return how GPT-2's byte-level vocabulary writes each of the 256 bytes."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    names, fresh = {}, 256
    for byte in range(256):
        if byte in kept:
            names[byte] = chr(byte)
        else:
            names[byte], fresh = chr(fresh), fresh + 1
    return [names[byte] for byte in range(256)]


# The 257th token is there for the one merge without which llama.cpp loads no such vocabulary.
TOKENS = (*_byte_names(), "ab", BOS, END, USER, ANSWER)
ID = {name: place for place, name in enumerate(TOKENS)}
SPECIAL = (BOS, END, USER, ANSWER)


def token(what: str | int) -> int:
    """Return the id of a special token, of an ASCII character or of a byte."""
    return what if isinstance(what, int) else ID[what] if what in SPECIAL else ord(what)


def write_gguf(
    path: Path,
    follows: Mapping[str | int, str | int] | None = None,
    *,
    template: str | None = TEMPLATE,
    architecture: str = "llama",
    n_ctx: int = 256,
    broken_weights: bool = False,
    omit: str | None = None,
    tokenizer: str = "gpt2",
    tokens: tuple[str, ...] = TOKENS,
) -> Path:
    """Write a model that answers by rote (`follows`), or one with random weights where there is none."""
    size, heads = (272, 4) if follows is not None else (32, 4)
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(size)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_rope_dimension_count(size // heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    _add_vocabulary(writer, tokenizer, tokens)
    if template is not None:
        writer.add_chat_template(template)
    for name, weights in _weights(size, follows).items():
        if name != omit:
            writer.add_tensor(name, np.full_like(weights, np.nan) if broken_weights else weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_vocabulary(writer: GGUFWriter, tokenizer: str, tokens: tuple[str, ...]) -> None:
    writer.add_tokenizer_model(tokenizer)
    if tokenizer == "none":
        return
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(list(tokens))
    writer.add_token_types([TokenType.CONTROL if name in SPECIAL else TokenType.NORMAL for name in tokens])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(ID[BOS])
    writer.add_eos_token_id(ID[END])
    writer.add_add_bos_token(True)


def _weights(size: int, follows: Mapping[str | int, str | int] | None) -> dict[str, np.ndarray[Any, Any]]:
    coin = np.random.default_rng(0)

    def draw(rows: int, columns: int) -> np.ndarray[Any, Any]:
        return (coin.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    weights = {
        "token_embd.weight": draw(len(TOKENS), size),
        "output.weight": draw(len(TOKENS), size) * 3,
        "output_norm.weight": np.ones(size, np.float32),
        "blk.0.attn_norm.weight": np.ones(size, np.float32),
        "blk.0.ffn_norm.weight": np.ones(size, np.float32),
        **{f"blk.0.attn_{part}.weight": draw(size, size) * 2 for part in ("q", "k", "v", "output")},
        "blk.0.ffn_gate.weight": draw(64, size),
        "blk.0.ffn_up.weight": draw(64, size),
        "blk.0.ffn_down.weight": draw(size, 64),
    }
    if follows is not None:
        weights["token_embd.weight"] = np.eye(len(TOKENS), size, dtype=np.float32)
        weights["output.weight"] = np.zeros((len(TOKENS), size), np.float32)
        for before, after in follows.items():
            weights["output.weight"][token(after), token(before)] = 2.0
        weights["blk.0.attn_output.weight"] *= 0
        weights["blk.0.ffn_down.weight"] *= 0
    return weights


def says(answer: bytes) -> dict[str | int, str | int]:
    """Return what follows what in a model that always answers `answer`, none of whose bytes may occur twice."""
    assert len(set(answer)) == len(answer)
    chain: list[str | int] = [ANSWER, *answer, END]
    return dict(pairwise(chain))
