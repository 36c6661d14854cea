"""How an evaluation is shown: a table for people, JSON for programs."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from messctl.display.tables import fitting
from messctl.display.text import counted, or_dash, plain
from messctl.off_policy.estimators import Estimate
from messctl.off_policy.evaluation import DECIDING, UNCOVERED, Evaluation, PolicyEstimates

ESS = "ESS (feedback)"
"""The heading of the effective sample size of the requests with feedback."""


def document(evaluation: Evaluation) -> dict[str, Any]:
    """Return the JSON document of an evaluation. Its keys are stable."""
    log, alpha = evaluation.log, evaluation.settings.alpha
    return {
        "log": {
            "path": str(log.path),
            "requests": len(log),
            "judged_requests": int(log.has_feedback.sum()),
            "forced_left_out": log.forced,
            "models": list(log.zoo.models),
            "reference": log.zoo.reference,
            "cost_unit": log.cost_unit,
            "propensity_floor": float(log.propensity.min()),
            "attained": _attained(evaluation),
            "mean_cost": float(log.cost.mean()),
        },
        "alpha": alpha,
        "seed": evaluation.settings.seed,
        "imputed": evaluation.imputed,
        "judged": evaluation.decisive.policy,
        "judged_by": DECIDING,
        "results": [
            {
                "policy": result.policy,
                "sla_met": result.sla_met(alpha),
                "coverage": 1.0 - result.overlap.uncovered,
                "mean_weight": result.overlap.mean_weight,
                "matched": result.overlap.matched,
                "estimates": [
                    {
                        "estimator": each.estimator,
                        "attained": each.attained.mean,
                        "attained_interval": each.attained.interval,
                        "mean_cost": each.cost.mean,
                        "mean_cost_interval": each.cost.interval,
                        "attained_effective_sample_size": each.attained_ess,
                        "mean_cost_effective_sample_size": each.cost_ess,
                    }
                    for each in result.estimates
                ],
            }
            for result in evaluation.results
        ],
    }


def table(evaluation: Evaluation, width: int) -> RenderableType:
    """Return the table of an evaluation, at most `width` characters wide, with the verdicts below it."""
    unit = plain(evaluation.log.cost_unit)
    grid = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    grid.add_column("policy")
    grid.add_column("estimator")
    for heading in ("attained", "95 %", f"{unit}/request", "95 %", ESS):
        grid.add_column(heading, justify="right")
    for result in evaluation.results:
        for each in result.estimates:
            grid.add_row(
                plain(result.policy),
                each.estimator,
                *_cells(each.attained, ".4f"),
                *_cells(each.cost, ".4g"),
                f"{each.attained_ess:,.0f}",
                style="bold" if each.estimator == DECIDING else "",
            )
    notes = [note for result in evaluation.results for note in _notes(result, evaluation.imputed)]
    fitted = fitting(grid, width, folding=("95 %",), least_first=(ESS,))
    below = Text("\n".join([*notes, ""]))
    for result in evaluation.results:
        met = result.sla_met(evaluation.settings.alpha)
        style = {True: "bold green", False: "bold red", None: "bold"}[met]
        below.append(("\n" if result is not evaluation.results[0] else "") + verdict(result, evaluation), style)
    return Group(_heading(evaluation), Text(), fitted, Text(), below)


def verdict(result: PolicyEstimates, evaluation: Evaluation) -> str:
    """Return one sentence: would the policy keep the promise?"""
    policy, alpha = plain(result.policy), evaluation.settings.alpha
    attained, met = result.attained, result.sla_met(alpha)
    if attained.mean is None or attained.interval is None:
        return f"{policy} may keep or miss the promise: no answer has feedback"
    low, high = attained.interval
    if met is None:
        return f"{policy} may keep or miss the promise: α = {alpha:g} lies within {low:.4f} to {high:.4f}"
    would = "would keep the promise" if met else "would miss the promise"
    return f"{policy} {would}: attains {attained.mean:.4f} ({low:.4f} to {high:.4f}), α = {alpha:g}"


def _heading(evaluation: Evaluation) -> Text:
    log = evaluation.log
    lines = [
        f"{plain(str(log.path))}: {counted(len(log), 'decision')}, {int(log.has_feedback.sum()):,} with feedback, "
        f"{counted(len(log.zoo.models), 'model')}"
    ]
    if log.forced:
        lines[0] += f" ({counted(log.forced, 'row')} left out: the user chose the model)"
    attained = _attained(evaluation)
    outcome = "no feedback" if attained is None else f"attained {attained:.4f}"
    lines.append(
        f"as logged: {outcome}, {log.cost.mean():.4g} {plain(log.cost_unit)}/request, "
        f"propensities from {log.propensity.min():.2g}"
    )
    lines.append(f"α = {evaluation.settings.alpha:g}; {DECIDING} decides")
    return Text("\n".join(lines))


def _attained(evaluation: Evaluation) -> float | None:
    satisfied = evaluation.log.satisfied[evaluation.log.has_feedback]
    return float(satisfied.mean()) if len(satisfied) else None


def _notes(result: PolicyEstimates, imputed: bool) -> list[str]:
    policy, overlap = plain(result.policy), result.overlap
    covered = "all" if overlap.uncovered < UNCOVERED else f"at most {1.0 - overlap.uncovered:.1%}"
    notes = [
        f"{policy}: agrees with {overlap.matched:.1%} of the log's choices; the log covers {covered} of its choices"
    ]
    if overlap.uncovered >= UNCOVERED:
        notes.append(f"{policy}: nothing is known of the rest; its intervals allow for anything, its cost is a guess")
    if result.learns:
        learned = "learned from imputed feedback when it chose another model than the log"
        if not imputed:
            learned = "learned only when it chose the log's model; --impute lets it learn from the others too"
        notes.append(f"{policy}: {learned}")
    return notes


def _cells(estimate: Estimate, form: str) -> tuple[str, str]:
    mean = or_dash(estimate.mean, form)
    if estimate.interval is None:
        return mean, "–"
    low, high = estimate.interval
    return mean, f"{low:{form}} to {high:{form}}"
