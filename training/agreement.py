"""Checks that llama.cpp and PyTorch agree: the same tokens, and nearly the same logits."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import torch
from llama_cpp import Llama as Runtime

from training.export import CHAT_TEMPLATE, Precision, export, load_checkpoint
from training.model import Llama
from training.puzzles import held_out
from training.sizes import SIZES
from training.tokens import encode_prompt

TOLERANCE: Final[dict[Precision, float]] = {"f32": 2e-3, "f16": 0.15}
"""The largest accepted difference between two logits."""

_F32_CACHE: Final = 0
"""ggml's number for F32. Its default, an F16 cache, would cause most of the difference."""

ODD_PROMPTS: Final = (
    "",
    " ",
    "  two  spaces ",
    "naïve café",
    "日本語の質問",
    "👩‍👩‍👧 emoji",
    "a\tb\nc\r\n",
    "\x00\x7f",
    "▁Ġ½",
)


def same_tokens(runtime: Runtime, texts: Iterable[str]) -> bool:
    """Return whether llama.cpp splits each text into its bytes, and joins them again."""
    return all(
        runtime.tokenize(text.encode(), add_bos=False, special=True) == list(text.encode())
        and runtime.detokenize(list(text.encode())) == text.encode()
        for text in texts
    )


def logit_difference(model: Llama, runtime: Runtime, prompts: Iterable[str]) -> float:
    """Return the largest absolute difference of the logits over all tokens of `prompts`."""
    largest = 0.0
    for prompt in prompts:
        tokens = encode_prompt(prompt)
        with torch.inference_mode():
            ours = model(torch.tensor([tokens]))[0].numpy()
        runtime.reset()  # type: ignore[no-untyped-call]
        runtime.eval(tokens)
        largest = max(largest, float(np.abs(runtime.scores[: len(tokens)] - ours).max()))
    return largest


def main() -> int:
    """Compare each checkpoint with its export, in F32 and in F16."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(SIZES), help="sizes; all by default")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    options = parser.parse_args()
    prompts = [puzzle.prompt for puzzle in held_out(60, seed=2)]
    failed = False
    for name in options.names:
        model = load_checkpoint(name, options.checkpoints)
        for precision, tolerance in TOLERANCE.items():
            with TemporaryDirectory() as folder:
                path = Path(folder) / f"{name}.gguf"
                export(model, path, precision)
                cache = _F32_CACHE if precision == "f32" else None
                runtime = Runtime(
                    str(path),
                    n_ctx=256,
                    n_threads=1,
                    logits_all=True,
                    type_k=cache,
                    type_v=cache,
                    verbose=False,
                )
                tokens = same_tokens(runtime, [*prompts, *ODD_PROMPTS])
                template = runtime.metadata["tokenizer.chat_template"] == CHAT_TEMPLATE
                difference = logit_difference(model, runtime, prompts)
                runtime.close()
            good = tokens and template and difference <= tolerance
            failed |= not good
            verdict = "agrees" if good else "DIFFERS"
            print(f"{name} {precision} {verdict}: tokens {tokens}, logits within {difference:.2g}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
