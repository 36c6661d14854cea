"""What each column of the store may hold. SQLite itself takes any value in any column.

Every row that is read is held against this, so a damaged row is an error that names the table, the row and the column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Holds = Callable[[Any], bool]
"""Whether a column may hold a value."""

MOST = 2**53
"""Whole numbers are below this: each is a float64, too."""
LONGEST = 1e20
"""What the recent questions of a model have, in tokens or characters, is less: some dozens of MOST."""
LAST_TIME = 253_402_300_800.0
"""[s since 1970] The year 10000 begins, for which there is no date."""
LONGEST_SHOWN = 40
"""The longest part of a wrong value that an error shows, in characters."""


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _bytes(value: Any) -> bool:
    return isinstance(value, bytes)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and -MOST < value < MOST


def _count(value: Any) -> bool:
    return _whole(value) and value >= 0


def _flag(value: Any) -> bool:
    return _whole(value) and value in (0, 1)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _amount(value: Any) -> bool:
    return _number(value) and value >= 0


def _length(value: Any) -> bool:
    return _number(value) and 1 <= value < LONGEST


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _time(value: Any) -> bool:
    return _number(value) and 0 <= value < LAST_TIME


def _or_none(holds: Holds) -> Holds:
    return lambda value: value is None or holds(value)


_answer: Mapping[str, Holds] = {
    "answer": _or_none(_text),
    "cost": _or_none(_amount),
    "latency_s": _or_none(_number),
    "tokens_in": _or_none(_count),
    "tokens_out": _or_none(_count),
    "satisfied": _or_none(_share),
    "cost_quality": _or_none(_text),
    "finish": _or_none(_text),
    "thinking": _or_none(_text),
}

_SUMS: Mapping[str, Mapping[str, Holds]] = {
    "request_sums": {"policy": _text, "forced": _flag, "requests": _count},
    "feedback_sums": {"policy": _text, "judged": _count, "satisfied": _number, "alpha": _number},
    "served_sums": {
        "model": _text,
        "cost_unit": _text,
        "meter": _text,
        **dict.fromkeys(("requests", "pending", "explored", "forced", "tokens_in", "tokens_out"), _count),
    },
    "answer_sums": {
        "model": _text,
        "cost_unit": _text,
        "meter": _text,
        **dict.fromkeys(("answers", "tokens_in", "tokens_out", "measured"), _count),
        "cost": _number,
    },
    "empty_sums": {"model": _text, "cost_unit": _text, "meter": _text, "answers": _count, "cost": _number},
    "attempt_sums": {"model": _text, "refused": _flag, "attempts": _count, "reason": _text, "failed_at": _time},
}

COLUMNS: Mapping[str, Mapping[str, Holds]] = {
    "router": {"decided": _count, "queue": _amount, "balance": _number, "saves": _count},
    "models": {"name": _text, "mean_cost": _amount, "cost_count": _count, "cost_source": _text},
    "policies": {"name": _text, "version": _count, "encoder": _text, "begun": _text},
    "arrays": {
        "policy": _text,
        "model": _text,
        "name": _text,
        "piece": _count,
        "cost_source": _or_none(_text),
        "type": _text,
        "shape": _text,
        "data": _bytes,
        "saved": _count,
    },
    "requests": {
        "id": _count,
        "request_id": _text,
        "asked_at": _time,
        "prompt": _text,
        "policy": _text,
        "request_number": _count,
        "served": _text,
        "explored": _flag,
        "forced": _flag,
        "gradable": _flag,
        "alpha": _share,
        "p_explore": _share,
        "propensity": _or_none(_share),
        "queue": _amount,
        "cost_unit": _text,
        "meter": _text,
        "characters": _or_none(_count),
        "others": _count,
        "asked": _or_none(_text),
    },
    "answers": {"request": _count, "model": _text, **_answer},
    "feedback": {
        "id": _count,
        "request": _count,
        "satisfied": _share,
        "given_at": _time,
        "corrected_at": _or_none(_time),
    },
    "remarks": {"request": _count, "comment": _or_none(_text), "source": _or_none(_text)},
    "attempts": {
        "request": _count,
        "model": _text,
        "reason": _text,
        "failed_at": _time,
        "refused": _flag,
        "outcome": _or_none(_text),
    },
    "outages": {"model": _text, "place": _text, "failures": _whole, "since": _number, "until": _number},
    "steps": {"last": _count, "packed": _bytes},
    "checkpoints": {"first": _count, "packed": _bytes},
    **_SUMS,
    "pruned": {
        "looked_at": _time,
        "until": _time,
        **dict.fromkeys(("decided", "place", "judged"), _count),
        "given_at": _time,
        **dict.fromkeys(("satisfied", "alpha", "queue"), _amount),
    },
    "copying": {"source": _text},
    "pruned_feedback": {"id": _count, "alpha": _share, "satisfied": _share, "given_at": _time},
    "lengths": {"model": _text, "tokens": _length, "characters": _length},
    **{f"pruned_{table}": columns for table, columns in _SUMS.items()},
}
"""By table and column: what it may hold."""

OUTCOME: Mapping[str, Holds] = {**_answer, "logprob": _or_none(_number)}
"""The same for the outcome of an attempt, which is stored as JSON."""
JUDGED: Mapping[str, Holds] = {"judged": _or_none(_count), "satisfied": _or_none(_share)}
"""The same for the feedback on a request, its place and its value, if it is read with the request."""


def check(what: str, values: Mapping[str, Any], columns: Mapping[str, Holds]) -> None:
    """Raise ValueError if a row, `what`, lacks one of the columns or holds what a column may not hold."""
    for name, holds in columns.items():
        if name not in values:
            raise ValueError(f"{what} has no {name!r}")
        if not holds(values[name]):
            raise ValueError(f"{what} has {name!r} = {shown(values[name])}")


def shown(value: Any) -> str:
    """Return the start of a value, for an error."""
    text = repr(value[:LONGEST_SHOWN] if isinstance(value, str | bytes) else value)
    return text if len(text) <= 2 * LONGEST_SHOWN else text[: 2 * LONGEST_SHOWN] + "…"
