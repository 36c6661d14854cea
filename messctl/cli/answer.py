"""How an answer is shown: its text as it comes, and a line on what happened; or a document for a machine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from messctl.cli.output import ignore_closed_output, progress_console
from messctl.display.text import plain

if TYPE_CHECKING:
    from messctl.live.router import Answered, Router
    from messctl.records import Decision, Weighed
    from messctl.state.ledger import Standing


def write(text: str) -> None:
    """Write a piece of the answer; on a terminal, escapes in it are shown and not obeyed."""
    sys.stdout.write(_shown(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def write_if_read(text: str) -> None:
    """Write a piece of an answer that is graded: it goes on if nobody reads stdout any more, as behind `head`."""
    with ignore_closed_output():
        write(text)


def _shown(text: str) -> str:
    return "".join(character if character in "\n\t" else plain(character) for character in text)


def end_line(answer: str) -> None:
    """End the line on which an answer ended, or broke off."""
    if not answer.endswith("\n"):
        sys.stdout.write("\n")
    sys.stdout.flush()


def document(routing: Router, asked: Answered) -> dict[str, Any]:
    """Return what happened, for a machine."""
    decision, completion, standing = asked.decision, asked.completion, asked.standing
    return {
        "request_id": decision.request.request_id,
        "answer": completion.answer,
        "model": decision.served,
        "explored": decision.explored,
        "cost": asked.cost,
        "cost_unit": asked.cost_unit,
        "meter": asked.meter,
        "cost_quality": asked.cost_quality,
        "tokens_in": completion.tokens_in,
        "tokens_out": completion.tokens_out,
        "latency_s": completion.latency_s,
        "load_s": completion.load_s,
        "finish": completion.finish,
        "satisfied": asked.satisfied,
        "attained": standing.attained,
        "judged": standing.judged,
        "queue": standing.queue,
        "certificate": standing.certificate,
        "alpha": routing.settings.alpha,
        "queried": list(decision.queried),
        "forced": asked.forced,
        "propensity": None if asked.forced else decision.propensity,
        "failures": dict(asked.failures),
        "attempts": list(asked.attempts),
    }


def footer(routing: Router, asked: Answered) -> None:
    """Print one line on what happened, for a person at a terminal."""
    completion = asked.completion
    parts = [
        asked.decision.served,
        _why(asked),
        f"{completion.tokens_in}+{completion.tokens_out} tokens",
        f"{asked.cost:.3g} {asked.cost_unit}",
        attained(asked.standing, routing.settings.alpha),
    ]
    note(" · ".join(parts))


def note(text: str) -> None:
    """Print one line beside the answers; nothing where stderr is no terminal."""
    if sys.stderr.isatty():
        progress_console().print(plain(text), style="dim", soft_wrap=True)


def _why(asked: Answered) -> str:
    if len(asked.attempts) > 1:
        return f"in place of {', '.join(asked.attempts[:-1])}; {_reason(asked)}"
    return _reason(asked)


def _reason(asked: Answered) -> str:
    decision = asked.decision
    if asked.forced:
        return "as you chose"
    if decision.explored:
        return f"explored {len(decision.queried)} models (p = {decision.p_explore:.2f})"
    if decision.weighed is None:
        return "nothing weighed"
    weighed = decision.weighed
    terms = terms_of(decision.served, decision, weighed)
    why = ", ".join(f"{term} {number(value, 2)}" for term, value in terms.items())
    return f"{why} ({weighed.note})" if weighed.note else why


def terms_of(model: str, decision: Decision, weighed: Weighed) -> dict[str, float | None]:
    """Return what was weighed of a model, by term; None for the cost of one that has answered nothing yet.

    Of that no more than reading the prompt is known, and that little is weighed, so that it gets tried.
    """
    terms: dict[str, float | None] = {term: values[model] for term, values in weighed.terms.items()}
    if model not in decision.mean_cost:
        terms[next(iter(terms))] = None
    return terms


def number(value: float | None, digits: int = 3) -> str:
    """Return a number in so many significant digits; a dash where it is not known."""
    return "–" if value is None else f"{value:.{digits}g}"


def attained(standing: Standing, alpha: float) -> str:
    """Return how much of the promise is kept so far."""
    if standing.attained is None:
        return f"no feedback yet, α = {alpha:g}"
    return f"attained {standing.attained:.3f} of α = {alpha:g} over {standing.judged}"
