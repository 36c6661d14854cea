"""A small Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU, tied embeddings."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.sizes import Size
from training.tokens import VOCAB_SIZE

EPSILON: Final = 1e-5
ROPE_BASE: Final = 10_000.0
CONTEXT: Final = 2048
"""The limit of prompt and answer together, in tokens. In training, none has more than a hundred."""


def rotations(head_dim: int) -> tuple[Tensor, Tensor]:
    """Return the cosines and sines, each (CONTEXT, head_dim/2), that rotate the pairs at each position."""
    rates = ROPE_BASE ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles = torch.outer(torch.arange(CONTEXT, dtype=torch.float32), rates)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the neighbouring elements 2i and 2i+1 of `x`, (batch, heads, time, head_dim).

    llama.cpp has the same convention for the architecture "llama". The weights of Q and K are
    therefore exported without the permutation that a half-split convention needs.
    """
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Attention(nn.Module):
    """Causal self-attention. The query heads share `kv_heads` key and value heads."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.head_dim = size.head_dim
        self.group = size.heads // size.kv_heads
        kv_dim = size.kv_heads * size.head_dim
        self.q = nn.Linear(size.dim, size.dim, bias=False)
        self.k = nn.Linear(size.dim, kv_dim, bias=False)
        self.v = nn.Linear(size.dim, kv_dim, bias=False)
        self.out = nn.Linear(size.dim, size.dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map (batch, time, dim) to the same shape."""
        batch, time, dim = x.shape
        q, k, v = (layer(x).view(batch, time, -1, self.head_dim).transpose(1, 2) for layer in (self.q, self.k, self.v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (t.repeat_interleave(self.group, dim=1) for t in (k, v))
        # Written out, because the fused CPU kernel is several times slower for such short sequences.
        scores = q @ k.transpose(-1, -2) * self.head_dim**-0.5
        future = torch.ones(time, time, dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(future, float("-inf")).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, time, dim))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and SwiGLU, each on normalised input and added to the residual stream."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(size.dim, eps=EPSILON)
        self.attention = Attention(size)
        self.hidden_norm = nn.RMSNorm(size.dim, eps=EPSILON)
        self.gate = nn.Linear(size.dim, size.hidden, bias=False)
        self.up = nn.Linear(size.dim, size.hidden, bias=False)
        self.down = nn.Linear(size.hidden, size.dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map (batch, time, dim) to the same shape."""
        x = x + self.attention(self.attention_norm(x), cos, sin)
        h = self.hidden_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))  # type: ignore[no-any-return]


class Llama(nn.Module):
    """The model: maps tokens to the logits of each next token."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        self.embedding = nn.Embedding(VOCAB_SIZE, size.dim)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = nn.RMSNorm(size.dim, eps=EPSILON)
        cos, sin = rotations(size.head_dim)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                # In deeper models, the layers that write to the residual stream start with smaller weights.
                depth = (2 * size.layers) ** 0.5 if name.endswith(("out.weight", "down.weight")) else 1.0
                spread = 0.02 if name.startswith("embedding") else weight.shape[1] ** -0.5
                nn.init.normal_(weight, std=spread / depth)

    def features(self, tokens: Tensor) -> Tensor:
        """Map token ids (batch, time) to the input of the head, (batch, time, dim)."""
        time = tokens.shape[1]
        cos, sin = self.get_buffer("cos")[:time], self.get_buffer("sin")[:time]
        x: Tensor = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.norm(x)  # type: ignore[no-any-return]

    def head(self, features: Tensor) -> Tensor:
        """Return the logits over the vocabulary, (..., VOCAB_SIZE). The embedding is the weight matrix."""
        return F.linear(features, self.embedding.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits (batch, time, VOCAB_SIZE) of token ids (batch, time)."""
        return self.head(self.features(tokens))

    def parameter_count(self) -> int:
        """Return the number of weights. The tied embedding counts once."""
        return sum(weight.numel() for weight in self.parameters())

    @torch.inference_mode()
    def answer(self, prompt: list[int], end: int, most: int = 64) -> list[int]:
        """Return the greedy answer to the tokens of `prompt`: at most `most` tokens, without `end`."""
        tokens = list(prompt)
        for _ in range(most):
            token = int(self(torch.tensor([tokens]))[0, -1].argmax())
            if token == end:
                break
            tokens.append(token)
        return tokens[len(prompt) :]
