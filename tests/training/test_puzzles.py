"""The puzzles for training and measuring the packaged models."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import islice
from random import Random

import pytest

from training.facts import CAPITALS, DAYS, MONTHS, OPPOSITES, in_words
from training.families import FAMILIES, Family
from training.puzzle import Puzzle, is_right, split_of
from training.puzzles import draw, held_out, training_stream

NAMES = [family.name for family in FAMILIES]

_FINGERPRINT = """
from itertools import islice
from training.puzzles import held_out, training_stream
print(held_out(45, seed=3), list(islice(training_stream(3), 45)))
"""


def _numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]


def _word_after(marks: str, prompt: str) -> str:
    found = re.search(rf"(?:{marks}) ([a-z]+)[ ?.]", prompt)
    assert found, prompt
    return found[1]


def _addition(prompt: str) -> str:
    return str(sum(_numbers(prompt)))


def _subtraction(prompt: str) -> str:
    a, b = _numbers(prompt)
    return str(b - a if prompt.startswith(("Subtract", "Take")) else a - b)


def _multiplication(prompt: str) -> str:
    a, b = _numbers(prompt)
    return str(sum([a] * b))


def _chain(prompt: str) -> str:
    expression = re.search(r"\d[\d+\- ]*", prompt)
    assert expression, prompt
    return str(sum(int(term.replace(" ", "")) for term in re.findall(r"[+-]? ?\d+", expression[0])))


def _sequence(prompt: str) -> str:
    a, b, c, d = _numbers(prompt)
    assert b - a == c - b == d - c
    return str(2 * d - c)


def _comparison(prompt: str) -> str:
    ordered = sorted(_numbers(prompt))
    return str(ordered[-1] if "large" in prompt else ordered[0])


def _parity(prompt: str) -> str:
    return "even" if re.findall(r"\d", prompt)[-1] in "02468" else "odd"


def _sorting(prompt: str) -> str:
    if "," in prompt:
        return ", ".join(str(n) for n in sorted(_numbers(prompt)))
    found = re.search(r"(?:digits|letters)(?: of|:)? (\w+)", prompt)
    assert found, prompt
    counts = Counter(found[1])
    return "".join(c * counts[c] for c in "0123456789abcdefghijklmnopqrstuvwxyz")


def _reversal(prompt: str) -> str:
    word = re.sub(r"Reverse the word |Reverse |What is the reverse of |[?.]", "", prompt)
    return "".join(word[i] for i in range(len(word) - 1, -1, -1))


def _counting(prompt: str) -> str:
    found = re.search(r"(?:many|letter|is) ([a-z]) (?:are )?in ([a-z]+)[?.]", prompt)
    assert found, prompt
    return str(len(found[2].split(found[1])) - 1)


def _position(prompt: str) -> str:
    word = _word_after("letter of", prompt)
    places = {"first": 1, "second": 2, "third": 3, "last but one": len(word) - 1, "last": len(word)}
    place = next(place for place in sorted(places, key=len, reverse=True) if place in prompt)
    return word[places[place] - 1 : places[place]]


def _words(prompt: str) -> str:
    if not (digits := _numbers(prompt)):
        return str(_value(prompt))
    words = in_words(digits[0])
    assert _value(words) == digits[0]
    return words


def _value(words: str) -> int:
    ones = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    ones += " fifteen sixteen seventeen eighteen nineteen"
    values = {word: value for value, word in enumerate(ones.split())}
    tens = "twenty thirty forty fifty sixty seventy eighty ninety"
    values |= {word: 10 * value for value, word in enumerate(tens.split(), 2)}
    total = 0
    for word in re.findall(r"[a-z]+", words):
        total = 100 * total if word == "hundred" else total + values.get(word, 0)
    return total


def _calendar(prompt: str) -> str:
    names = DAYS if " day " in prompt else MONTHS
    here = next(i for i, name in enumerate(names) if f" {name}" in prompt)
    return (names * 2)[here + 1] if " after " in prompt else names[here - 1]


def _capitals(prompt: str) -> str:
    (country,) = (name for name in CAPITALS if re.search(rf"\b{name}\b", prompt))
    return CAPITALS[country]


def _opposites(prompt: str) -> str:
    word = prompt.rsplit(" ", maxsplit=1)[-1][:-1]
    ((answer,),) = (set(pair) - {word} for pair in OPPOSITES if word in pair)
    return answer


SOLVERS: dict[str, Callable[[str], str]] = {
    "addition": _addition,
    "subtraction": _subtraction,
    "multiplication": _multiplication,
    "chain": _chain,
    "sequence": _sequence,
    "comparison": _comparison,
    "parity": _parity,
    "sorting": _sorting,
    "reversal": _reversal,
    "counting": _counting,
    "position": _position,
    "words": _words,
    "calendar": _calendar,
    "capitals": _capitals,
    "opposites": _opposites,
}


@pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
def test_every_answer_is_correct(family: Family) -> None:
    rng = Random(5)
    for difficulty in range(1, len(family.measure) + 1):
        for _ in range(200):
            puzzle = family.puzzle(rng, difficulty)
            assert SOLVERS[family.name](puzzle.prompt) == puzzle.answer, puzzle


@pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
def test_puzzles_state_their_family_difficulty_and_split(family: Family) -> None:
    for split in ("train", "held-out"):
        puzzle = draw(Random(1), family, split)
        assert puzzle.family == family.name
        assert 1 <= puzzle.difficulty <= len(family.measure) == len(family.train)
        assert split_of(puzzle.key) == split


@pytest.mark.slow
def test_the_splits_share_no_prompt() -> None:
    trained = {prompt for prompt, _ in islice(training_stream(0), 30_000)}
    assert trained.isdisjoint(puzzle.prompt for puzzle in held_out(3000))


def test_swapped_operands_and_other_phrasings_stay_in_the_same_split() -> None:
    rng, splits = Random(2), dict[tuple[int, ...], set[str]]()
    addition = FAMILIES[0]
    for _ in range(5000):
        puzzle = addition.puzzle(rng, 2)
        splits.setdefault(tuple(sorted(_numbers(puzzle.prompt))), set()).add(split_of(puzzle.key))
    assert all(len(found) == 1 for found in splits.values())


def test_held_out_facts_appear_in_training_in_other_words() -> None:
    trained = {(family, answer) for family, answer in _facts("train")}
    assert set(_facts("held-out")) <= trained


def _facts(split: str) -> list[tuple[str, str]]:
    rng = Random(4)
    families = [f for f in FAMILIES if f.name in ("capitals", "opposites", "calendar")]
    drawn = (f.puzzle(rng, d) for f in families for d in (1, 2) for _ in range(6000))
    return [(p.family, p.answer) for p in drawn if split_of(p.key) == split]


def test_all_families_have_equal_parts() -> None:
    counts = Counter(puzzle.family for puzzle in held_out(150))
    assert counts == dict.fromkeys(NAMES, 10)
    assert len(NAMES) == len(set(NAMES)) >= 8


def test_another_process_draws_the_same_puzzles() -> None:
    first, second = (
        subprocess.run(
            [sys.executable, "-c", _FINGERPRINT],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    )
    assert first == second != b""


def test_another_seed_draws_other_puzzles() -> None:
    assert held_out(30, seed=0) != held_out(30, seed=1)


def test_answers_are_short_and_plain() -> None:
    for puzzle in held_out(600):
        assert puzzle.answer == puzzle.answer.strip() != ""
        assert len(puzzle.answer.encode()) < 40
        assert puzzle.prompt.isascii()


def test_the_grader_ignores_white_space_only() -> None:
    puzzle = Puzzle("What is 17 + 25?", "42", "addition", 2)
    assert is_right(" 42\n", puzzle)
    assert not is_right("42.", puzzle)
    assert not is_right("", puzzle)


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "zero"), (13, "thirteen"), (47, "forty-seven"), (70, "seventy"), (421, "four hundred twenty-one")],
)
def test_numbers_are_written_in_words(number: int, words: str) -> None:
    assert in_words(number) == words


@pytest.mark.parametrize("number", [-1, 1000])
def test_numbers_outside_0_to_999_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match=str(number)):
        in_words(number)
