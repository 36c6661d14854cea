"""The model card: the models, their abilities, and their training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from training.families import FAMILIES
from training.measures import Measure, Record, table
from training.puzzle import HELD_OUT_SHARE
from training.sizes import SIZES

_TEMPLATE: Final = """\
---
license: apache-2.0
language: en
library_name: gguf
---

# The zoo in the box

{count} tiny language models of the Llama architecture, as GGUF files for llama.cpp. Each was trained
from scratch on one processor core. They are real models, and small on purpose: together they have
{megabytes:.1f} MB. Each costs at least {ratio:.1f} times as much per answer as the one before it, and is right
more often.

**They answer only puzzles of the {families} kinds below, in English, worded like the examples.** To any
other prompt they reply with nonsense, without a warning. They know no conversation: the chat
template passes on the last user message alone, without system message and earlier turns.

## Models

{models}

All are decoders with RMSNorm, rotary positions (base 10000), grouped-query attention, SwiGLU and
tied embeddings. All have the same tokenizer, with one token per byte of UTF-8 and three control
tokens. The computation per answer is therefore proportional to the number of parameters.

## Examples

{examples}

## Right answers

Measured with llama-cpp-python on {puzzles} held-out puzzles, with equal parts per family. The models
answered greedily, by chat completion on one thread. An answer is right if it equals the expected one.

{table}

## Training

The puzzles are generated endlessly from a seed; no data was collected. A hash decides which puzzles
are held out: one key in {share}. For computed families the key is the task. A held-out sum was therefore
never seen in other words, or with swapped operands. For facts (capitals, opposites, the calendar,
the multiplication table, number words up to twenty) the key is the prompt: the fact was seen in
other words. The loss counts the answer alone. AdamW, cosine schedule, one thread each:

{training}

Made with `python -m training.train --all --seed {seed} --out DIR`, and measured with
`python -m training.evaluate DIR --card DIR/MODELCARD.md`.

## License

Apache-2.0, files and code.
"""

_EXAMPLES: Final = (
    ("addition", "What is 17 + 25?"),
    ("subtraction", "Take 48 from 95."),
    ("multiplication", "7 x 8 = ?"),
    ("chain", "What is 12 + 30 - 7?"),
    ("sequence", "What comes next: 3, 7, 11, 15?"),
    ("comparison", "Which is larger, 381 or 327?"),
    ("parity", "Is 237 odd or even?"),
    ("sorting", "Sort the digits 5291."),
    ("reversal", "Reverse the word stone."),
    ("counting", "How many a are in banana?"),
    ("position", "What is the second letter of lamp?"),
    ("words", "Write 47 in words."),
    ("calendar", "Which day comes after Sunday?"),
    ("capitals", "What is the capital of France?"),
    ("opposites", "What is the opposite of hot?"),
)


def card(measures: Sequence[Measure], records: Sequence[Record]) -> str:
    """Return the card of the measured models, as Markdown."""
    parameters = [m.parameters for m in measures]
    return _TEMPLATE.format(
        count=len(measures),
        megabytes=sum(m.file_bytes for m in measures) / 1e6,
        ratio=min((after / before for before, after in pairwise(parameters)), default=1.0),
        families=len(FAMILIES),
        models=_models(measures),
        examples=_rows(("kind", "for example"), [(kind, f"`{prompt}`") for kind, prompt in _EXAMPLES]),
        puzzles=min(m.puzzles for m in measures),
        table=table(measures),
        share=HELD_OUT_SHARE,
        training=_training(records),
        seed=records[0].seed,
    )


def _models(measures: Sequence[Measure]) -> str:
    head = ("model", "parameters", "file, kB", "width", "layers", "heads (KV)", "SwiGLU")
    rows = []
    for m in measures:
        size = SIZES[m.name]
        shape = (str(size.dim), str(size.layers), f"{size.heads} ({size.kv_heads})", str(size.hidden))
        rows.append((m.name, f"{m.parameters:,}", f"{m.file_bytes / 1000:.0f}", *shape))
    return _rows(head, rows)


def _training(records: Sequence[Record]) -> str:
    head = ("model", "seed", "steps", "puzzles", "peak rate", "minutes", "last loss, nats")
    rows = [
        (r.name, str(r.seed), f"{r.steps:,}", f"{r.puzzles:,}", f"{SIZES[r.name].rate:g}",
         f"{r.seconds / 60:.0f}", f"{r.loss:.3f}")
        for r in records
    ]  # fmt: skip
    notes = "".join(f"\n\n{r.name}: {r.note}" for r in records if r.note)
    return _rows(head, rows) + notes


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))
