"""Makes a prompt file of puzzles that the models in the box have not seen, for `messctl record`.

    python benchmarks/make_puzzles.py puzzles.jsonl --count 6000

The families take turns, as on the model card. Some families have fewer different puzzles than the file needs, and
repeat them. The seed is not one of those that the models were measured with.
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
    arguments = parser.parse_args()
    puzzles = held_out(arguments.count, arguments.seed)
    random.Random(arguments.seed).shuffle(puzzles)  # families in turn would be an order that no user has
    with arguments.output.open("w", encoding="utf-8") as file:
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
