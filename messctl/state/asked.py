"""What the log keeps of a request for which several models may be asked: in which order, and what was seen of each."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from messctl.records import Course, Decision, Evidence, Outcome
from messctl.state.database import Row


@dataclass(frozen=True, slots=True)
class Asked:
    """The answers to one request in the order in which they were asked; both are empty if one model was asked alone."""

    answers: Mapping[str, Evidence] = field(default_factory=dict)
    course: Course | None = None

    @classmethod
    def of(cls, stored: str | None) -> Asked:
        """Return what `asked_text` made a text of. Raises ValueError if it is another text."""
        if stored is None:
            return cls()
        read: Any = json.loads(stored)
        try:
            answers = {str(model): Evidence(_group(group), _logprob(known)) for model, group, known in read["answers"]}
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"requests.asked is not what messctl writes ({error})") from None
        alone = read.get("alone") is True
        return cls(answers, Course(0.0, alone=alone, planned=not alone, alone_chance=0.0, planned_chance=0.0))


def asked_text(decision: Decision) -> str | None:
    """Return what to store of a decision, as JSON; None if no other model could have been asked."""
    if decision.course is None:
        return None
    answers = [[model, each.group, each.logprob] for model, each in decision.answers.items()]
    return json.dumps({"alone": decision.course.alone, "answers": answers}, ensure_ascii=False)


def outcome_of(answer: Row, asked: Asked) -> Outcome:
    """Return what a stored answer was, and what was seen of it."""
    seen = asked.answers.get(answer["model"])
    return Outcome(
        satisfied=answer["satisfied"],
        cost=answer["cost"],
        latency_s=answer["latency_s"],
        tokens_in=answer["tokens_in"],
        tokens_out=answer["tokens_out"],
        answer=answer["answer"],
        logprob=None if seen is None else seen.logprob,
        cost_quality=answer["cost_quality"],
        finish=answer["finish"],
        thinking=answer["thinking"],
    )


def _group(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise ValueError("requests.asked has a group that is not a number")
    return value


def _logprob(value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not math.isfinite(value) or value > 0:
        raise ValueError("requests.asked has a log-probability that is none")
    return float(value)
