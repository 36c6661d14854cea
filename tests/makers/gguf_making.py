"""Tiny GGUF files for tests of their headers, written with the gguf package. `backends_files` makes models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import gguf
import numpy as np

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}[{{ m.content }}]{% elif m.role == 'user' %}"
    "<|user|>{{ m.content }}{% else %}<|answer|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|answer|>{% endif %}"
)


def write_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    kind: str | None = "model",
    width: int = 32,
    blocks: int = 2,
    heads: int | list[int] = 4,
    kv_heads: int | list[int] | None = 2,
    context: int = 256,
    template: str | None = TEMPLATE,
    tensors: dict[str, np.ndarray] | None = None,
    file_type: int | None = 1,
    counts: dict[str, int] | None = None,
    u16: dict[str, int] | None = None,
    texts: dict[str, str] | None = None,
    vocabulary: int | Sequence[str] | None = 3,
    more: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
) -> Path:
    """Write a file with a header and a few weights, by default 32 × 10 of them. `more` may add fields and tensors."""
    writer = gguf.GGUFWriter(path, architecture)
    if kind is not None:
        writer.add_type(kind)
    if file_type is not None:
        writer.add_file_type(file_type)
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(blocks)
    writer.add_head_count(heads)
    if kv_heads is not None:
        writer.add_head_count_kv(kv_heads)
    if vocabulary is not None:
        tokens = [f"t{i}" for i in range(vocabulary)] if isinstance(vocabulary, int) else list(vocabulary)
        writer.add_token_list(tokens)
        writer.add_token_scores([float(i) for i in range(len(tokens))])
    if template is not None:
        writer.add_chat_template(template)
    for key, count in (counts or {}).items():
        writer.add_uint32(key, count)
    for key, count in (u16 or {}).items():
        writer.add_uint16(key, count)
    for key, text in (texts or {}).items():
        writer.add_string(key, text)
    if tensors is None:
        tensors = {"token_embd.weight": np.zeros((10, width), np.float16)}
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    more(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
