"""Writes a trained model as a GGUF file for llama.cpp."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.model import CONTEXT, EPSILON, ROPE_BASE, Llama
from training.sizes import SIZES
from training.tokens import ANSWER, BEGIN, CONTROL_TEXTS, END, VOCAB_SIZE, byte_texts

Precision = Literal["f32", "f16"]

LICENSE: Final = "apache-2.0"
AUTHOR: Final = "messctl"

CHAT_TEMPLATE: Final = (
    "{%- set turn = namespace(text='') -%}"
    "{%- for message in messages if message['role'] == 'user' -%}"
    "{%- if message['content'] is string -%}"
    "{%- set turn.text = message['content'] -%}"
    "{%- else -%}"
    "{%- set turn.text = '' -%}"
    "{%- for part in message['content'] if part['type'] == 'text' -%}"
    "{%- set turn.text = turn.text + part['text'] -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{{- '<|begin|>' + (turn.text | trim) + '<|answer|>' -}}"
)
"""Only the last user message: the models know single questions, no system message or history."""

_FILE_TYPES: Final = {"f32": gguf.LlamaFileType.ALL_F32, "f16": gguf.LlamaFileType.MOSTLY_F16}


def describe(model: Llama) -> str:
    """Return one sentence for the metadata."""
    return (
        f"A Llama of {model.parameter_count():,} parameters which was trained from scratch to "
        "answer short puzzles (sums, words, a few facts) and can do nothing else."
    )


def export(model: Llama, path: Path, precision: Precision = "f16") -> None:
    """Write `model` to `path`: the matrices in `precision`, the gains of the norms in F32."""
    writer = gguf.GGUFWriter(path, "llama")
    _add_description(writer, model, precision)
    _add_shape(writer, model)
    _add_tokenizer(writer)
    for name, weight in _tensors(model):
        writer.add_tensor(name, _array(weight, precision))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_description(writer: gguf.GGUFWriter, model: Llama, precision: Precision) -> None:
    base, _, label = model.size.name.partition("-")
    writer.add_type("model")
    writer.add_name(model.size.name)
    writer.add_basename(base)
    writer.add_size_label(label)
    writer.add_author(AUTHOR)
    writer.add_license(LICENSE)
    writer.add_description(describe(model))
    writer.add_languages(["en"])
    writer.add_file_type(_FILE_TYPES[precision])


def _add_shape(writer: gguf.GGUFWriter, model: Llama) -> None:
    size = model.size
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(size.dim)
    writer.add_block_count(size.layers)
    writer.add_feed_forward_length(size.hidden)
    writer.add_head_count(size.heads)
    writer.add_head_count_kv(size.kv_heads)
    writer.add_rope_dimension_count(size.head_dim)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_vocab_size(VOCAB_SIZE)


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    texts = [*byte_texts(), *(CONTROL_TEXTS[token] for token in (BEGIN, ANSWER, END))]
    types = [gguf.TokenType.NORMAL] * BEGIN + [gguf.TokenType.CONTROL] * len(CONTROL_TEXTS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(texts)
    writer.add_token_types(types)
    # llama.cpp requires a list of merges. The result of this one is no token, so llama.cpp falls
    # back to the bytes, and every text is one token per byte.
    writer.add_token_merges([f"{texts[0]} {texts[0]}"])
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _tensors(model: Llama) -> Iterator[tuple[str, Tensor]]:
    """Yield GGUF's names and the weights. llama.cpp uses the embedding as the missing `output.weight`."""
    yield "token_embd.weight", model.embedding.weight
    yield "output_norm.weight", model.norm.weight
    names = {
        "attention_norm": "attn_norm",
        "attention.q": "attn_q",
        "attention.k": "attn_k",
        "attention.v": "attn_v",
        "attention.out": "attn_output",
        "hidden_norm": "ffn_norm",
        "gate": "ffn_gate",
        "up": "ffn_up",
        "down": "ffn_down",
    }
    for i, block in enumerate(model.blocks):
        for ours, theirs in names.items():
            yield f"blk.{i}.{theirs}.weight", block.get_parameter(f"{ours}.weight")


def _array(weight: Tensor, precision: Precision) -> NDArray[np.float32] | NDArray[np.float16]:
    array = weight.detach().float().numpy()
    if precision == "f16" and array.ndim == 2:
        return array.astype(np.float16)
    return array


def load_checkpoint(name: str, folder: Path) -> Llama:
    """Return the model of size `name` from its last checkpoint in `folder`."""
    model = Llama(SIZES[name])
    model.load_state_dict(torch.load(folder / f"{name}.pt")["model"])
    return model.eval()


def main() -> int:
    """Export checkpoints again, without training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(SIZES), help="sizes; all by default")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--out", type=Path, required=True, help="folder for the GGUF files")
    parser.add_argument("--precision", choices=("f32", "f16"), default="f16")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        model = load_checkpoint(name, options.checkpoints)
        export(model, options.out / f"{name}.gguf", options.precision)
    return 0


if __name__ == "__main__":
    sys.exit(main())
