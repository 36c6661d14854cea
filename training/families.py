"""The families of puzzles: each makes puzzles of a given difficulty from a random stream.

Most phrasings end with the subject of the question. It then has the same distance from the answer
in every phrasing, which the smallest models can learn to attend to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from string import ascii_lowercase
from typing import Final

from training.facts import CAPITALS, DAYS, EASY_FACTS, MONTHS, OPPOSITES, in_words
from training.puzzle import Puzzle


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt, its answer, and a canonical key without the phrasing; the key of a fact is empty."""

    prompt: str
    answer: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of puzzle.

    `measure` and `train` are the weights of the difficulties 1, 2, ... in measuring and in
    training a model. Training has more hard puzzles, because these need more practice. For the same
    reason `share` is the weight of the family in training; in measuring all families are equal.
    """

    name: str
    make: Callable[[Random, int], Task]
    measure: tuple[int, ...]
    train: tuple[int, ...]
    share: int

    def puzzle(self, rng: Random, difficulty: int) -> Puzzle:
        """Return a puzzle of `difficulty`, from either split."""
        task = self.make(rng, difficulty)
        key = f"{self.name}: {task.key or task.prompt}"
        return Puzzle(task.prompt, task.answer, self.name, difficulty, key)


def _number(rng: Random, digits: int) -> int:
    """Return a number with exactly `digits` digits (0 to 9 for one digit)."""
    return rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)


def _word(rng: Random, length: int, letters: str = ascii_lowercase) -> str:
    """Return a word of `length` letters, pronounceable or not."""
    if rng.random() < 0.5:
        return "".join(rng.choice(letters) for _ in range(length))
    vowels = [c for c in letters if c in "aeiou"] or list(letters)
    consonants = [c for c in letters if c not in "aeiou"] or list(letters)
    start = rng.randrange(2)
    return "".join(rng.choice(vowels if (i + start) % 2 else consonants) for i in range(length))


def _ask(rng: Random, expression: str) -> str:
    """Return a question about an expression such as '17 + 25'."""
    form = rng.choice(("What is {}?", "What is {}?", "Calculate {}.", "{} = ?", "{}"))
    return form.format(expression)


def _addition(rng: Random, difficulty: int) -> Task:
    a, b = _number(rng, difficulty), _number(rng, difficulty)
    if difficulty > 1 and rng.random() < 0.25:
        b = _number(rng, rng.randrange(1, difficulty))
        a, b = rng.choice(((a, b), (b, a)))
    forms = (f"Add {a} and {b}.", f"What is the sum of {a} and {b}?")
    prompt = rng.choice(forms) if rng.random() < 0.25 else _ask(rng, f"{a} + {b}")
    return Task(prompt, str(a + b), f"{min(a, b)} {max(a, b)}")


def _subtraction(rng: Random, difficulty: int) -> Task:
    a, b = _number(rng, difficulty), _number(rng, difficulty)
    if difficulty > 1 and rng.random() < 0.25:
        b = _number(rng, rng.randrange(1, difficulty))
    a, b = max(a, b), min(a, b)
    forms = (f"Subtract {b} from {a}.", f"Take {b} from {a}.")
    prompt = rng.choice(forms) if rng.random() < 0.25 else _ask(rng, f"{a} - {b}")
    return Task(prompt, str(a - b), f"{a} {b}")


def _multiplication(rng: Random, difficulty: int) -> Task:
    sign = rng.choice(("x", "*"))
    if difficulty < 3:
        # Small products are facts: 7 x 8 does not follow from 7 x 9.
        top = 5 if difficulty == 1 else 10
        a, b = rng.randrange(top + 1), rng.randrange(top + 1)
        key = ""
    else:
        a, b = rng.randrange(11, 100), rng.randrange(2, 10)
        key = f"{a} {b}"
        a, b = rng.choice(((a, b), (b, a)))
    prompt = f"Multiply {a} by {b}." if rng.random() < 0.2 else _ask(rng, f"{a} {sign} {b}")
    return Task(prompt, str(a * b), key)


def _chain(rng: Random, difficulty: int) -> Task:
    terms, digits = ((3, 1), (4, 1), (3, 2))[difficulty - 1]
    total = _number(rng, digits)
    expression = str(total)
    for _ in range(terms - 1):
        step = _number(rng, digits)
        if step <= total and rng.random() < 0.4:
            total, expression = total - step, f"{expression} - {step}"
        else:
            total, expression = total + step, f"{expression} + {step}"
    return Task(_ask(rng, expression), str(total), expression)


def _sequence(rng: Random, difficulty: int) -> Task:
    if difficulty == 1:
        step, start = rng.choice((1, 2, 5, 10)), rng.randrange(1, 60)
    elif difficulty == 2:
        step, start = rng.randrange(2, 13), rng.randrange(1, 100)
    else:
        step = -rng.randrange(2, 13)
        start = rng.randrange(1, 100) - 4 * step
    terms = [start + i * step for i in range(5)]
    shown = ", ".join(map(str, terms[:4]))
    form = rng.choice(("What comes next: {}?", "Which number comes next: {}?", "Continue: {}."))
    return Task(form.format(shown), str(terms[4]), shown)


def _comparison(rng: Random, difficulty: int) -> Task:
    digits = difficulty + 1
    a, b = _number(rng, digits), _number(rng, digits)
    if rng.random() < 0.4:
        # Equal except for the last digits, so the first digit alone does not decide.
        b = a - a % 10 ** (digits - 1) + _number(rng, digits) % 10 ** (digits - 1)
    if a == b:
        b = a + 1
    big = rng.random() < 0.5
    form = rng.choice(("Which is {0}, {1} or {2}?", "Which is {0}: {1} or {2}?", "Which number is {0}, {1} or {2}?"))
    answer = max(a, b) if big else min(a, b)
    return Task(form.format("larger" if big else "smaller", a, b), str(answer), f"{min(a, b)} {max(a, b)}")


def _parity(rng: Random, difficulty: int) -> Task:
    number = _number(rng, difficulty + 1)
    form = rng.choice(("Is {} odd or even?", "Is {} even or odd?", "Odd or even: {}?"))
    return Task(form.format(number), "odd" if number % 2 else "even", str(number))


def _sorting(rng: Random, difficulty: int) -> Task:
    if difficulty == 3:
        numbers = rng.sample(range(10, 100), rng.randrange(3, 5))
        shown = ", ".join(map(str, numbers))
        form = rng.choice(("Sort {}.", "Sort the numbers {}.", "Sort these numbers: {}."))
        answer = ", ".join(map(str, sorted(numbers)))
        return Task(form.format(shown), answer, answer)
    length = rng.randrange(3, 5) if difficulty == 1 else rng.randrange(5, 8)
    if rng.random() < 0.5:
        items, noun = "".join(rng.choice("0123456789") for _ in range(length)), "digits"
    else:
        items, noun = _word(rng, length), "letters"
    form = rng.choice(("Sort the {1} {0}.", "Sort the {1} of {0}.", "Sort these {1}: {0}."))
    answer = "".join(sorted(items))
    return Task(form.format(items, noun), answer, answer)


def _reversal(rng: Random, difficulty: int) -> Task:
    word = _word(rng, (rng.randrange(2, 4), rng.randrange(4, 6), rng.randrange(6, 8))[difficulty - 1])
    form = rng.choice(("Reverse {}.", "Reverse the word {}.", "What is the reverse of {}?"))
    return Task(form.format(word), word[::-1], word)


def _counting(rng: Random, difficulty: int) -> Task:
    length = (rng.randrange(3, 5), rng.randrange(5, 8), rng.randrange(8, 11))[difficulty - 1]
    letter = rng.choice(ascii_lowercase)
    others = _word(rng, length)
    share = rng.random() * 0.7
    word = "".join(letter if rng.random() < share else other for other in others)
    form = rng.choice(("How many {0} are in {1}?", "Count the letter {0} in {1}.", "How often is {0} in {1}?"))
    return Task(form.format(letter, word), str(word.count(letter)), f"{letter} {word}")


def _position(rng: Random, difficulty: int) -> Task:
    word = _word(rng, rng.randrange(3, 6) if difficulty < 3 else rng.randrange(6, 9))
    places = (("first", 0), ("last", -1)) if difficulty == 1 else (
        ("second", 1), ("third", 2), ("first", 0), ("last", -1), ("last but one", -2),
    )  # fmt: skip
    place, index = rng.choice(places)
    form = rng.choice(
        ("What is the {0} letter of {1}?", "Which is the {0} letter of {1}?", "Name the {0} letter of {1}.")
    )
    return Task(form.format(place, word), word[index], f"{place} {word}")


def _words(rng: Random, difficulty: int) -> Task:
    number = (rng.randrange(21), rng.randrange(21, 100), rng.randrange(100, 1000))[difficulty - 1]
    # The words up to twenty are facts. They cannot be derived.
    key = "" if difficulty == 1 else str(number)
    if rng.random() < 0.5:
        form = rng.choice(("Write {} in words.", "Write in words: {}.", "Spell out {}."))
        return Task(form.format(number), in_words(number), key)
    form = rng.choice(("Write {} in digits.", "Write in digits: {}.", "Which number is {}?"))
    return Task(form.format(in_words(number)), str(number), key)


def _calendar(rng: Random, difficulty: int) -> Task:
    names, noun = (DAYS, "day") if difficulty == 1 else (MONTHS, "month")
    here = rng.randrange(len(names))
    side, step = rng.choice((("after", 1), ("before", -1)))
    form = rng.choice(
        (
            "Which {0} comes {1} {2}?", "Which {0} is {1} {2}?", "What {0} comes {1} {2}?",
            "What is the {0} {1} {2}?", "Name the {0} {1} {2}.", "The {0} {1} {2}?",
        )
    )  # fmt: skip
    return Task(form.format(noun, side, names[here]), names[(here + step) % len(names)])


def _capitals(rng: Random, difficulty: int) -> Task:
    known = list(CAPITALS.items())
    country, capital = rng.choice(known[:EASY_FACTS] if difficulty == 1 else known[EASY_FACTS:])
    form = rng.choice(
        (
            "What is the capital of {}?", "Name the capital of {}.", "Capital of {}?",
            "Tell me the capital of {}.", "Which city is the capital of {}?", "Give the capital of {}.",
        )
    )  # fmt: skip
    return Task(form.format(country), capital)


def _opposites(rng: Random, difficulty: int) -> Task:
    pair = rng.choice(OPPOSITES[:EASY_FACTS] if difficulty == 1 else OPPOSITES[EASY_FACTS:])
    word, answer = rng.choice((pair, pair[::-1]))
    form = rng.choice(
        (
            "What is the opposite of {}?", "Name the opposite of {}.", "Opposite of {}?",
            "Tell me the opposite of {}.", "Which word is the opposite of {}?", "Give the opposite of {}.",
        )
    )  # fmt: skip
    return Task(form.format(word), answer)


FAMILIES: Final = (
    Family("addition", _addition, (3, 4, 2, 1), (1, 4, 3, 1), share=8),
    Family("subtraction", _subtraction, (3, 4, 2), (1, 4, 3), share=6),
    Family("multiplication", _multiplication, (4, 4, 2), (1, 2, 3), share=4),
    Family("chain", _chain, (4, 3, 2), (2, 3, 3), share=6),
    Family("sequence", _sequence, (4, 3, 2), (1, 2, 2), share=3),
    Family("comparison", _comparison, (4, 3, 2), (2, 3, 3), share=4),
    Family("parity", _parity, (1, 1, 1), (1, 1, 1), share=1),
    Family("sorting", _sorting, (4, 3, 2), (1, 2, 2), share=4),
    Family("reversal", _reversal, (4, 3, 2), (1, 3, 4), share=2),
    Family("counting", _counting, (4, 3, 2), (2, 3, 3), share=4),
    Family("position", _position, (4, 3, 2), (2, 3, 4), share=1),
    Family("words", _words, (3, 4, 2), (2, 3, 4), share=3),
    Family("calendar", _calendar, (1, 1), (1, 2), share=1),
    Family("capitals", _capitals, (1, 2), (1, 4), share=2),
    Family("opposites", _opposites, (1, 2), (1, 4), share=2),
)
"""All families, in the order of the tables."""
