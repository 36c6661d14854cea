"""Changes to real files: bytes flipped, cut, repeated and replaced, and odd values in place of right ones."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Any

NUMBERS = (0, 1, -1, 127, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**64 - 1)
TOKENS = (
    *("", " ", "\0", "\n", "\r", "\t", '"', "'", ",", ":", ";", "|", "/", "\\", "#", "{", "}", "[", "]", "[/b]", "%s"),
    *("null", "true", "NaN", "Infinity", "-Infinity", "1e999", "-1", "0", "1e-400", "9" * 400, "0x1f", "1_0", "1:30"),
    *("&a", "*a", "!!python/object", "!!int", "<<:", "---", "...", "? ", "- ", "|-", "~", "2001-99-99", ".inf"),
    *(
        "\ud7ff",
        "\ufeff",
        "\u202e",
        "\u2028",
        "\x1b]52;c;aGk=\x07",
        "\x1b[2J",
        "\x9b",
        "é",
        "🙂",
        "\U0010ffff",
        "ﬁ",
        "١",
    ),
    *('"\\ud800"', "a" * 3000, "[" * 2000, '{"a":' * 500, "(" * 500, "model", "satisfied/a", "../../etc/passwd"),
)
ATOMS = ("a", "b", ".", "\\d", "[a-z]", "[^ab]", "^", "$", "\\b", "é") * 4 + ("\\1", "(?i)", "[", "(", "(?P<n>")
REPEATS = ("", "", "", "*", "+", "?", "{2}", "{,5}", "*?", "{1000}") * 4 + ("{4294967295}", "**", "{3,1}")
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 10**30, 1e308, float("nan"), float("inf"), -0.0, "", " ", "a", "1", "nan"),
    *([], {}, [[]], [None], {"": None}, {"a": {"b": []}}, ["a", 1], "\ud800", "\x1b[31m", "x" * 5000, "[/b]", "\0"),
)


def mutated(data: bytes, chance: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Return `data` with a few changes. `others` are files from which parts may come."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(changed) + 1)
        end = min(len(changed), at + chance.choice((1, 1, 2, 4, 8, 16, 64, 1000)))
        way = chance.randrange(9)
        if way == 0 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif way == 1:
            changed[at:end] = chance.randbytes(end - at)
        elif way == 2:
            del changed[at:end]
        elif way == 3:
            changed[at:at] = changed[at:end] * chance.choice((1, 2, 100))
        elif way == 4:
            changed[at:at] = _token(chance)
        elif way == 5:
            changed[at:end] = _token(chance)
        elif way == 6:
            form = chance.choice(("<I", ">I", "<Q", "<H", "<B"))
            number = chance.choice(NUMBERS) & (256 ** struct.calcsize(form) - 1)
            changed[at : at + struct.calcsize(form)] = struct.pack(form, number)
        elif way == 7 and others:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            changed[at:end] = other[start : start + chance.choice((4, 32, 500))]
        else:
            del changed[at:]
    return bytes(changed)


def odd_document(document: Any, chance: random.Random) -> Any:
    """Return a JSON document in which one place, at any depth, holds an odd value, is missing or has another name."""
    way = chance.randrange(10)
    if isinstance(document, dict) and document and way:
        key = chance.choice(list(document))
        rest = {name: value for name, value in document.items() if name != key}
        changed = {key: odd_document(document[key], chance)} if way > 2 else {chance.choice(TOKENS): document[key]}
        return rest if way == 1 else {**rest, **changed}
    if isinstance(document, list) and document and way:
        at = chance.randrange(len(document))
        middle = [odd_document(document[at], chance)] if way > 2 else document * chance.choice((2, 50))
        return document[:at] + ([] if way == 1 else middle) + document[at + 1 :]
    return chance.choice(VALUES)


def expression(chance: random.Random, depth: int = 0) -> str:
    """Return a regular expression, valid or not."""
    atom = chance.choice(ATOMS)
    if depth < 3 and chance.random() < 0.6:
        atom = f"({chance.choice(('', '?:', '?=', '?<!'))}{expression(chance, depth + 1)})"
    atom += chance.choice(REPEATS)
    return atom + (expression(chance, depth + 1) if depth < 5 and chance.random() < 0.5 else "")


def _token(chance: random.Random) -> bytes:
    return chance.choice(TOKENS).encode("utf-8", "surrogatepass")
