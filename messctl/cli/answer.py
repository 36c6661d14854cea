"""How an answer is printed: its text as it comes, a line about it for people, or a JSON document."""

from __future__ import annotations

import math
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

from messctl.cli.output import ignore_closed_output, progress_console, width_of
from messctl.display.text import plain, wrapped
from messctl.records import FILTER, GUARDED, HELD_BACK, LIMIT, TRIED, cut_by, is_blank

if TYPE_CHECKING:
    from messctl.live.router import Answered, Router
    from messctl.records import Decision, Weighed
    from messctl.state.ledger import Standing

REASONS = {
    TRIED: "a trial, to learn about it",
    GUARDED: "likeliest to satisfy, as the promise is at risk",
    HELD_BACK: "another model waits for feedback",
}
"""Why a model answers, in plain words; without one of these, it is the cheapest that is likely to satisfy."""
QUALITIES = {"shared": "measured with others on the device"}
"""How a cost is known, in plain words, if that differs from its name."""


def write(text: str) -> None:
    """Write a piece of the answer to stdout. On a terminal, control characters are made visible."""
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def write_if_read(text: str) -> None:
    """Write a piece of an answer; if the reader of stdout is gone, drop it, so that the answer is still graded."""
    with ignore_closed_output():
        write(text)


def visible(text: str) -> str:
    """Return text of several lines with its control characters as visible escapes."""
    return "".join(character if character in "\n\t" else plain(character) for character in text)


def end_line(answer: str) -> None:
    """End the last line of an answer, or of the part that was written."""
    if not answer.endswith("\n"):
        sys.stdout.write("\n")
    sys.stdout.flush()


def document(routing: Router, answered: Answered) -> dict[str, Any]:
    """Return the answer, its decision and costs, and the standing of the promise, as a JSON document."""
    decision, completion, standing = answered.decision, answered.completion, answered.standing
    return {
        "request_id": decision.request.request_id,
        "answer": completion.answer,
        "model": decision.served,
        "explored": decision.explored,
        "cost": answered.cost,
        "cost_unit": answered.cost_unit,
        "meter": answered.meter,
        "cost_quality": answered.cost_quality,
        "tokens_in": completion.tokens_in,
        "tokens_out": completion.tokens_out,
        "latency_s": completion.latency_s,
        "load_s": completion.load_s,
        "finish": completion.finish,
        "thinking": completion.thinking or None,
        "satisfied": answered.satisfied,
        "attained": standing.attained,
        "judged": standing.judged,
        "queue": standing.queue,
        "certificate": standing.certificate,
        "alpha": routing.settings.alpha,
        "queried": list(decision.queried),
        "believed": decision.course and decision.course.believed,
        "forced": answered.forced,
        "propensity": None if answered.forced else decision.propensity,
        "failures": dict(answered.failures),
        "attempts": list(answered.attempts),
    }


def footer(routing: Router, answered: Answered) -> None:
    """Print a line about the answer on stderr, if that is a terminal: model, cost, attainment, and why this model."""
    parts = [
        answered.decision.served,
        f"{amount(answered.cost)} {answered.cost_unit}, {QUALITIES.get(answered.cost_quality, answered.cost_quality)}",
        *remarks(answered.completion.answer, answered.completion.finish),
        attainment(answered.standing, routing.settings.alpha),
        _reason(answered),
    ]
    note(" · ".join(parts))


def tell_of_look(decision: Decision) -> None:
    """Say on stderr, if that is a terminal, that another model is asked, since no answer is believed enough."""
    if decision.answers and decision.served not in decision.answers:
        asked, believed = list(decision.answers)[-1], decision.course and decision.course.believed
        note(f"{asked} is not sure{'' if believed is None else f' ({believed:.2f})'}, asking {decision.served}")


def telling_of_compiling(routing: Router) -> AbstractContextManager[None]:
    """Say on stderr, if that is a terminal, that a second look is compiled within the block, which takes a while."""
    if routing.settings.asks < 2:
        return nullcontext()  # one ask in plain Python takes less time than to load numba
    from messctl.learning.compiled import compiling_told

    return compiling_told(cache(note))  # the same line comes for each function


def remarks(answer: str, finish: str | None) -> list[str]:
    """Return what is wrong with how an answer ended: that it is empty, or that a limit or a filter cut it."""
    cut = {LIMIT: "cut at the limit of tokens", FILTER: "cut by a filter"}.get(cut_by(finish) or "")
    found = [*(["empty"] if is_blank(answer) else []), *([cut] if cut else [])]
    return [f"{', '.join(found)} (finish: {finish})"] if found else []


def note(text: str) -> None:
    """Print a line on stderr, if that is a terminal; a long line breaks at spaces."""
    if sys.stderr.isatty():
        text = wrapped(plain(text), width_of(sys.stderr))
        progress_console().print(text, style="dim", soft_wrap=True)


def _reason(answered: Answered) -> str:
    """Return why this model answered."""
    reason = _reason_of(answered.decision, forced=answered.forced)
    if len(answered.attempts) > 1:
        return f"instead of {', '.join(answered.attempts[:-1])}: {reason}"
    return reason


def _reason_of(decision: Decision, *, forced: bool) -> str:
    if forced:
        return "your choice"
    if decision.explored:
        return f"{len(decision.queried)} models answered, to learn"
    if len(decision.answers) > 1:
        return f"the likeliest answer of {len(decision.answers)}"
    if decision.weighed is None:
        return "no other choice"
    return REASONS.get(decision.weighed.note, "cheapest likely to satisfy")


def acknowledge(model: str, satisfied: float, routing: Router) -> None:
    """Say on stderr, if that is a terminal, that a judgement was taken, and how well the promise is kept now."""
    standing = attainment(routing.standing(), routing.settings.alpha)
    note(f"noted: {model} {'good' if satisfied else 'bad'} · {standing}")


def amount(cost: float) -> str:
    """Return a cost with two significant digits, and all digits before the point: 0.0080, 12, 1,234."""
    return f"{cost:,.0f}" if cost >= 9.95 else f"{cost:#.2g}"


def terms_of(model: str, decision: Decision, weighed: Weighed) -> dict[str, float | None]:
    """Return what the decision weighed of a model, by the names of the terms.

    The cost of a model without an answer yet is None. The decision counts the cost of reading the prompt, which is the
    least possible, so that the model is tried.
    """
    terms: dict[str, float | None] = {term: values[model] for term, values in weighed.terms.items()}
    if model not in decision.mean_cost:
        terms[next(iter(terms))] = None
    return terms


def attainment(standing: Standing, alpha: float) -> str:
    """Return how the attainment compares with the promise: two decimals, or as many as α has.

    It is rounded down, so that a promise that is missed never looks kept.
    """
    digits = max(2, len(f"{alpha:.12g}".partition(".")[2]))
    if standing.attained is None:
        return f"no feedback yet, {alpha:.{digits}f} promised"
    attained = math.floor(standing.attained * 10**digits + 1e-6) / 10**digits
    return f"attained {attained:.{digits}f} of {alpha:.{digits}f} over {standing.judged:,}"
