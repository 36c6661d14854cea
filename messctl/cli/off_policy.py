"""`messctl replay LOG --off-policy`: what another policy would have attained, from a log of decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from messctl.cli.evaluate import estimate, print_evaluation
from messctl.cli.output import ignore_closed_output
from messctl.errors import UsageError

if TYPE_CHECKING:
    from messctl.zoo import Settings

UNEXPLORED = "plays MESS+ without exploring, so that {} changes nothing; leave it out"
REFUSED = {
    "--csv": "has no --csv; use --json",
    "--c": UNEXPLORED.format("--c"),
    "--exponent": UNEXPLORED.format("--exponent"),
}
"""What --off-policy does about an option that it does not go with, where that is not plain."""


def evaluate_log(
    log: Path,
    policies: Sequence[str] | None,
    settings: Settings,
    *,
    skip_forced: bool,
    impute: bool,
    as_json: bool,
    require_sla: bool,
) -> int:
    """Print what the policies, by default the one of the settings, would have attained and cost.

    Returns the exit code: 1 where the promise is required and surely missed.
    """
    evaluation = estimate(log, policies, settings, skip_forced=skip_forced, impute=impute)
    with ignore_closed_output():
        print_evaluation(evaluation, as_json=as_json)
    return 1 if require_sla and evaluation.decisive.sla_met(settings.alpha) is False else 0


def check_options(off_policy: bool, only_with: Mapping[str, bool], never_with: Mapping[str, bool]) -> None:
    """Raise UsageError for the first option given, by its name, that --off-policy needs or does not go with."""
    for option, given in (never_with if off_policy else only_with).items():
        if given and off_policy:
            why = REFUSED.get(option, f"takes the log as it is, and no {option}; leave out one of them")
            raise UsageError(f"--off-policy {why}")
        if given:
            raise UsageError(f"{option} is for logs; add --off-policy")
