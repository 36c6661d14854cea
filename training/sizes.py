"""The sizes of the zoo: the shape and the training of each model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Size:
    """One model of the zoo.

    `dim` is the width of the residual stream, `hidden` that of the SwiGLU layer, both in elements.
    `batch` is the number of puzzles per step, `rate` the peak learning rate. The share of hard
    puzzles grows over the share `ramp` of the steps. With `bf16`, training multiplies matrices in
    bfloat16, which saves time for all but the narrowest.
    """

    name: str
    dim: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    steps: int
    batch: int
    rate: float
    ramp: float = 0.25
    bf16: bool = False

    @property
    def head_dim(self) -> int:
        """The number of elements per attention head."""
        return self.dim // self.heads


SIZES: Final = {
    size.name: size
    for size in (
        Size("pico-34k", 32, 3, 2, 2, 48, steps=16_000, batch=64, rate=4e-3, ramp=1.0),
        Size("nano-109k", 64, 3, 4, 2, 96, steps=12_000, batch=64, rate=2.5e-3, ramp=0.5, bf16=True),
        Size("micro-400k", 128, 3, 4, 2, 192, steps=13_000, batch=64, rate=1.5e-3, bf16=True),
        Size("mini-1m", 192, 4, 6, 2, 384, steps=16_500, batch=64, rate=1.5e-3, bf16=True),
    )
}
"""All sizes by name, the smallest first."""
