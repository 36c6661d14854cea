"""Make a prompt file of puzzles that the models in the box have not seen, for `messctl record`.

    python benchmarks/make_puzzles.py puzzles.jsonl --count 6000

The families take turns, as on the model card. Some of them hold fewer different puzzles than are asked for, and then
repeat themselves. The seed is none of those that the models were measured by.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Write the file."""
    sys.path.append(str(ROOT))
    from training.puzzles import held_out  # noqa: PLC0415  # it is no part of the installed package

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=6_000)
    parser.add_argument("--seed", type=int, default=23)
    asked = parser.parse_args()
    puzzles = held_out(asked.count, asked.seed)
    random.Random(asked.seed).shuffle(puzzles)  # families in turn would be an order that no user has
    with asked.output.open("w", encoding="utf-8") as file:
        for number, puzzle in enumerate(puzzles, start=1):
            record = {
                "request_id": f"p{number}",
                "prompt": puzzle.prompt,
                "reference": puzzle.answer,
                "source": puzzle.family,
            }
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
