"""What a GGUF file says about its model, from all the files that it is split into."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from messctl.gguf import faults
from messctl.gguf.file import Part, read_part
from messctl.gguf.tables import FILE_TYPES, TENSOR_TYPES

KV_BYTES = 2  # llama.cpp stores keys and values as f16

_WORD = re.compile(r"[\w.-]+")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF file says about its model.

    - `kind` is "model" for a file that can run by itself.
    - `parameters` is the number of elements in all tensors. `active_parameters` are those that one token uses: all of
      them, or in a mixture of experts the shared ones and the used share of the experts.
    - `file_bytes` is the size of all parts.
    - `quantisation` is the name in the file, or else the type of most elements.
    - `context_length` is the model's own context in tokens.
    - `kv_heads` is the largest number of key-value heads in a layer. `kv_bytes_per_token` are the bytes of one token in
      the cache, in f16, over all layers.
    - `chat_template`: whether the file contains one.
    """

    path: Path
    kind: str
    architecture: str
    name: str
    parameters: int
    active_parameters: int
    file_bytes: int
    quantisation: str
    context_length: int
    block_count: int
    kv_heads: int
    kv_bytes_per_token: int
    chat_template: bool
    license: str | None
    description: str | None

    def memory_bytes(self, n_ctx: int) -> int:
        """Return an estimate, in bytes, of the memory for a context of `n_ctx` ≥ 0 tokens (0: the model's own context).

        It is the file plus a full f16 cache. Buffers for computation need more, a sliding window needs less.
        """
        return self.file_bytes + self.kv_bytes_per_token * (n_ctx or self.context_length)


def read_header(path: Path) -> Header:
    """Return the header of the GGUF file `path`, with its other parts if it is split.

    Raises ModelFileError if the file is absent, unreadable, not GGUF, cut short or damaged, or if llama.cpp would crash
    with it.
    """
    return header_of(read_part(path))


def header_of(first: Part) -> Header:
    """Return the header of a model whose file, or first file, was read already. Raises as `read_header` does."""
    parts = [first, *(read_part(other) for other in _other_parts(first))]
    elements: Counter[int] = Counter()
    for part in parts:
        elements += part.elements
    total = elements.total()
    if not total:
        first.fail("holds no weights, only a vocabulary; use the model's own file")

    architecture = first.text("general.architecture") or ""
    if not _WORD.fullmatch(architecture):
        first.fail("does not name its architecture (general.architecture); download it again, or convert it again")
    faults.check(parts, architecture)
    blocks = first.count(f"{architecture}.block_count")
    context = first.count(f"{architecture}.context_length")
    embedding = first.count(f"{architecture}.embedding_length")
    heads = first.counts(f"{architecture}.attention.head_count", (0,))
    kv_heads = first.counts(f"{architecture}.attention.head_count_kv", heads)
    head_size = embedding // max(*heads, 1)
    key = first.count(f"{architecture}.attention.key_length", head_size)
    value = first.count(f"{architecture}.attention.value_length", head_size)
    all_kv_heads = kv_heads[0] * blocks if len(kv_heads) == 1 else sum(kv_heads[:blocks])
    return Header(
        path=first.path,
        kind=first.text("general.type") or "model",
        architecture=architecture,
        name=first.text("general.name") or first.path.stem,
        parameters=total,
        active_parameters=total - _unused_parameters(first, architecture, sum(part.expert_elements for part in parts)),
        file_bytes=sum(part.file_bytes for part in parts),
        quantisation=_quantisation(first, elements),
        context_length=context,
        block_count=blocks,
        kv_heads=max(kv_heads),
        kv_bytes_per_token=all_kv_heads * (key + value) * KV_BYTES,
        chat_template=bool((first.text("tokenizer.chat_template") or "").strip()),
        license=first.text("general.license"),
        description=first.text("general.description"),
    )


def _other_parts(first: Part) -> list[Path]:
    count = first.count("split.count", 1)
    if count <= 1:
        return []
    name, number = first.path.name, first.count("split.no", 0) + 1
    match = _SHARD.search(name)
    if match is None or int(match[2]) != count or int(match[1]) != number:
        first.fail(f"is part {number} of {count}, so its name must end in -{number:05d}-of-{count:05d}.gguf; rename it")
    names = [f"{name[: match.start()]}-{i:05d}-of-{count:05d}.gguf" for i in range(1, count + 1)]
    if number != 1:
        first.fail(f"is part {number} of {count}; give the first part, {names[0]}")
    return [first.path.with_name(other) for other in names[1:]]


def _unused_parameters(first: Part, architecture: str, expert_elements: int) -> int:
    """Return how many parameters of the experts one token does not use."""
    experts = first.count(f"{architecture}.expert_count", 0)
    used = first.count(f"{architecture}.expert_used_count", 0)
    return expert_elements * (experts - used) // experts if 0 < used < experts else 0


def _quantisation(first: Part, elements: Counter[int]) -> str:
    stated = first.fields.get("general.file_type")
    if isinstance(stated, int) and stated in FILE_TYPES:
        return FILE_TYPES[stated]
    return TENSOR_TYPES[elements.most_common(1)[0][0]].name
