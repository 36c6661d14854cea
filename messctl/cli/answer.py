"""How an answer is printed: its text as it comes, a line about it for people, or a JSON document."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from messctl.cli.output import ignore_closed_output, progress_console
from messctl.display.text import plain
from messctl.records import FILTER, LIMIT, cut_by, is_blank

if TYPE_CHECKING:
    from messctl.live.router import Answered, Router
    from messctl.records import Decision, Weighed
    from messctl.state.ledger import Standing


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
        "forced": answered.forced,
        "propensity": None if answered.forced else decision.propensity,
        "failures": dict(answered.failures),
        "attempts": list(answered.attempts),
    }


def footer(routing: Router, answered: Answered) -> None:
    """Print one line about the answer on stderr, if that is a terminal: model, reason, tokens, cost, attainment."""
    completion = answered.completion
    parts = [
        answered.decision.served,
        _reason(answered),
        f"{completion.tokens_in}+{completion.tokens_out} tokens",
        f"{answered.cost:.3g} {answered.cost_unit}",
        *remarks(completion.answer, completion.finish),
        attainment(answered.standing, routing.settings.alpha),
    ]
    note(" · ".join(parts))


def remarks(answer: str, finish: str | None) -> list[str]:
    """Return what is wrong with how an answer ended: that it is empty, or that a limit or a filter cut it."""
    cut = {LIMIT: "cut at the limit of tokens", FILTER: "cut by a filter"}.get(cut_by(finish) or "")
    found = [*(["empty"] if is_blank(answer) else []), *([cut] if cut else [])]
    return [f"{', '.join(found)} (finish: {finish})"] if found else []


def note(text: str) -> None:
    """Print one line on stderr, if that is a terminal."""
    if sys.stderr.isatty():
        progress_console().print(plain(text), style="dim", soft_wrap=True)


def _reason(answered: Answered) -> str:
    """Return why this model answered."""
    reason = _reason_of(answered.decision, forced=answered.forced)
    if len(answered.attempts) > 1:
        return f"instead of {', '.join(answered.attempts[:-1])}; {reason}"
    return reason


def _reason_of(decision: Decision, *, forced: bool) -> str:
    if forced:
        return "your choice"
    if decision.explored:
        return f"explored {len(decision.queried)} models (p = {decision.p_explore:.2f})"
    if decision.weighed is None:
        return "no other choice"
    weighed = decision.weighed
    terms = terms_of(decision.served, decision, weighed)
    why = ", ".join(f"{term} {number(value, 2)}" for term, value in terms.items())
    return f"{why} ({weighed.note})" if weighed.note else why


def terms_of(model: str, decision: Decision, weighed: Weighed) -> dict[str, float | None]:
    """Return what the decision weighed of a model, by the names of the terms.

    The cost of a model without an answer yet is None. The decision counts the cost of reading the prompt, which is the
    least possible, so that the model is tried.
    """
    terms: dict[str, float | None] = {term: values[model] for term, values in weighed.terms.items()}
    if model not in decision.mean_cost:
        terms[next(iter(terms))] = None
    return terms


def number(value: float | None, digits: int = 3) -> str:
    """Return a number, rounded to this number of significant digits; None is a dash."""
    return "–" if value is None else f"{value:.{digits}g}"


def attainment(standing: Standing, alpha: float) -> str:
    """Return how the attainment compares with the promise."""
    if standing.attained is None:
        return f"no feedback yet, α = {alpha:g}"
    return f"attained {standing.attained:.3f} of α = {alpha:g} over {standing.judged}"
