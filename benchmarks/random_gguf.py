"""Random-weight GGUF files of real shapes: what a model costs does not depend on what it says.

    python benchmarks/random_gguf.py 1B /tmp/1b.gguf --type Q8_0

Llama-like, with a vocabulary of real size; one tensor is in memory at a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

BYTES = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPREAD = 0.02  # of the weights, about


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama's shape; `tied`: the output uses the input's embedding. All widths are multiples of 256."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    tied: bool = False
    vocabulary: int = 128_256
    context: int = 8192

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield each tensor's name and shape, rows first; those of one dimension are norms."""
        width, kv = self.width, self.width // self.heads * self.kv_heads
        yield "token_embd.weight", (self.vocabulary, width)
        for i in range(self.layers):
            yield f"blk.{i}.attn_norm.weight", (width,)
            yield f"blk.{i}.attn_q.weight", (width, width)
            yield f"blk.{i}.attn_k.weight", (kv, width)
            yield f"blk.{i}.attn_v.weight", (kv, width)
            yield f"blk.{i}.attn_output.weight", (width, width)
            yield f"blk.{i}.ffn_norm.weight", (width,)
            yield f"blk.{i}.ffn_gate.weight", (self.hidden, width)
            yield f"blk.{i}.ffn_up.weight", (self.hidden, width)
            yield f"blk.{i}.ffn_down.weight", (width, self.hidden)
        yield "output_norm.weight", (width,)
        if not self.tied:
            yield "output.weight", (self.vocabulary, width)

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(shape)) for _, shape in self.tensors())


SHAPES = {
    "tiny": Shape(256, 2, 4, 2, 512, tied=True, vocabulary=512, context=256),
    "1B": Shape(2048, 16, 32, 8, 8192, tied=True),
    "3B": Shape(3072, 28, 24, 8, 8192, tied=True),
    "8B": Shape(4096, 32, 32, 8, 14336),
    "14B": Shape(5120, 40, 40, 8, 17920),
}
TYPES = {"Q8_0": (Type.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0), "Q4_K": (Type.Q4_K, gguf.LlamaFileType.MOSTLY_Q4_K_M)}


def write(path: Path, shape: Shape, kind: str = "Q8_0", seed: int = 0) -> None:
    """Write a model of random weights; `kind` is a key of `TYPES`."""
    rng = np.random.default_rng(seed)
    quantised, file_type = TYPES[kind]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("model")
    writer.add_name(f"random-{kind}")
    writer.add_file_type(file_type)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_rope_freq_base(500_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocabulary)
    _add_vocabulary(writer, shape.vocabulary)
    writer.add_chat_template(TEMPLATE)
    sizes = dict(shape.tensors())
    for name, size in sizes.items():
        if len(size) == 1:
            writer.add_tensor_info(name, size, np.dtype(np.float32), size[0] * 4)
        else:
            bytes_ = gguf.quant_shape_to_byte_shape(size, quantised)
            writer.add_tensor_info(name, bytes_, np.dtype(np.uint8), int(np.prod(bytes_)), quantised)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for size in sizes.values():
        writer.write_tensor_data(np.ones(size, np.float32) if len(size) == 1 else _random(rng, size, quantised))
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    """Add a byte-level vocabulary of 256 bytes, some marks, and fillers that no text is made of."""
    others = [byte for byte in range(256) if byte not in BYTES]
    names = [*map(chr, BYTES), *(chr(256 + i) for i in range(len(others)))]
    marks = ["<|begin|>", "<|end|>"]
    fillers = [f"filler{i}" for i in range(size - len(names) - len(marks) - 1)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*names, "ab", *marks, *fillers])
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_token_types([*[normal] * 257, control, control, *[normal] * len(fillers)])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(258)
    writer.add_add_bos_token(False)


def _random(rng: np.random.Generator, size: tuple[int, ...], quantised: Type) -> np.ndarray:
    rows, *width = gguf.quant_shape_to_byte_shape(size, quantised)
    weights = np.frombuffer(rng.bytes(rows * width[0]), np.uint8).copy()
    if quantised is Type.Q8_0:  # 32 weights: a factor, then a signed byte each
        blocks = weights.reshape(-1, 34)
        blocks[:, :2] = np.frombuffer(np.float16(SPREAD / 74).tobytes(), np.uint8)
    else:  # Q4_K, 256 weights: two factors, 12 bytes of scales and minima, 4 bits each
        blocks = weights.reshape(-1, 144)
        factor = SPREAD / 180
        blocks[:, :4] = np.frombuffer(np.array([factor, 7.5 * factor], np.float16).tobytes(), np.uint8)
    return weights.reshape(rows, width[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("path", type=Path)
    parser.add_argument("--type", choices=TYPES, default="Q8_0")
    options = parser.parse_args()
    write(options.path, SHAPES[options.shape], options.type)
    print(f"{options.path}: {SHAPES[options.shape].parameters:,} parameters, {options.path.stat().st_size:,} bytes")
