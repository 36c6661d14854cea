"""Trains the models of the zoo and exports them: `python -m training.train --all --out DIR`."""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn import functional as F

from training.batches import Batch, batches
from training.export import export
from training.measures import Record, write_record
from training.model import Llama
from training.puzzles import held_out, is_right
from training.sizes import SIZES, Size
from training.tokens import END, decode, encode_prompt

WARM_UP: Final = 200
"""The number of steps until the learning rate reaches its peak."""

_REPORT_EVERY = 500
_BETAS = (0.9, 0.98)
_DECAY = 0.01
_CLIP = 1.0


def rate_at(step: int, size: Size) -> float:
    """Return the learning rate at `step`: a short rise, then half a cosine down to a hundredth."""
    if step < WARM_UP:
        return size.rate * (step + 1) / WARM_UP
    done = (step - WARM_UP) / max(1, size.steps - WARM_UP)
    return size.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def optimizer_of(model: Llama) -> torch.optim.AdamW:
    """Return an AdamW that decays the matrices, but not the gains of the norms."""
    matrices = [w for w in model.parameters() if w.dim() == 2]
    gains = [w for w in model.parameters() if w.dim() != 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": _DECAY},
        {"params": gains, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=_BETAS, fused=True)


def loss_of(model: Llama, batch: Batch) -> torch.Tensor:
    """Return the mean cross-entropy of the answer tokens, in nats. The prompt is not learned."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=model.size.bf16):
        features = model.features(batch.tokens).flatten(0, 1)[batch.places]
        logits = model.head(features)
    return F.cross_entropy(logits.float(), batch.targets)


def accuracy(model: Llama, count: int) -> float:
    """Return the share of `count` held-out puzzles that the model answers correctly, greedily."""
    right = 0
    for puzzle in held_out(count, seed=1):
        answer = decode(model.answer(encode_prompt(puzzle.prompt), END))
        right += is_right(answer, puzzle)
    return right / count


def train(size: Size, seed: int, folder: Path) -> Llama:
    """Train one size from `seed`, or resume from its checkpoint in `folder`.

    The checkpoint and a record of the training are stored in `folder`.
    """
    torch.manual_seed(seed)
    model = Llama(size)
    optimizer = optimizer_of(model)
    checkpoint = folder / f"{size.name}.pt"
    first, before, mean_loss = 0, 0.0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, before = state["step"], state["seconds"]
    began = time.monotonic()
    # A resumed training uses another stream, so that it does not repeat earlier puzzles.
    stream = batches(size.batch, seed + first, int(size.ramp * size.steps), first)
    for step, batch in zip(range(first, size.steps), stream, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, size)
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        optimizer.step()
        mean_loss += (loss.item() - mean_loss) / min(step - first + 1, 100)
        done = step + 1
        if done % _REPORT_EVERY == 0 or done == size.steps:
            seconds = before + time.monotonic() - began
            print(f"{size.name} step {done}/{size.steps} loss {mean_loss:.3f} {seconds:.0f} s", flush=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": done, "seconds": seconds}, checkpoint)
            record = Record(size.name, seed, done, done * size.batch, round(seconds), round(mean_loss, 4))
            write_record(folder / f"{size.name}.json", record)
    return model.eval()


def main() -> int:
    """Train and export the chosen sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="SIZE", help=f"of {', '.join(SIZES)}")
    parser.add_argument("--all", action="store_true", help="train every size")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for the GGUF files; without it, none is written")
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.checkpoints.mkdir(parents=True, exist_ok=True)
    for name in SIZES if options.all else options.names:
        model = train(SIZES[name], options.seed, options.checkpoints)
        share = accuracy(model, 600)
        print(f"{name}: {model.parameter_count()} parameters, held-out {share:.1%}", flush=True)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            export(model, options.out / f"{name}.gguf")
    return 0


if __name__ == "__main__":
    sys.exit(main())
