"""The replay command of a trial. It states every setting of the trial, so that no zoo.yaml changes its result."""

from __future__ import annotations

import shlex
from pathlib import Path

from messctl.display.text import plain
from messctl.replay.loading import Recording
from messctl.tune.choice import Choice, Trial
from messctl.tune.search import Search
from messctl.tune.space import AUTO, SINGLE, zoo_values
from messctl.zoo import Settings

DEFAULT_EXPONENT = Settings().exponent


def replay_command(found: Search, choice: Choice, trial: Trial, trace: Recording, zoo: Path | None = None) -> str:
    """Return the command that replays a trial of a choice over the whole trace, under the same seeds.

    `zoo` is the zoo file given, if any. The command names it because no option sets the encoder of the prompts.
    """
    conditions, settings = found.conditions, zoo_values(trial.settings)
    words = ["messctl", "replay", str(trace.facts.path)]
    words += ["--zoo", str(zoo)] if zoo else []
    for name in ("policy", *(name for name in settings if name not in ("policy", "features"))):
        value = settings[name]
        if value is not None:
            words += [f"--{name.replace('_', '-')}", exact(value) if isinstance(value, float) else str(value)]
    words += ["--seeds", str(choice.seeds)]
    words += ["--shuffle"] if conditions.shuffle else []
    words += ["--feedback-rate", exact(conditions.feedback_rate)] if conditions.feedback_rate < 1 else []
    words += ["--feedback-delay", str(conditions.feedback_delay)] if conditions.feedback_delay else []
    return shlex.join(words)


def exact(value: float) -> str:
    """Return the shortest text that reads back as the same number."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def name_of(trial: Trial) -> str:
    """Return the policy of a trial with the settings in which it differs from others."""
    settings = trial.settings
    parts = [settings.policy]
    if settings.policy.startswith(f"{SINGLE}:"):
        return plain(settings.policy)
    if settings.policy == "messplus":
        parts += [f"V = {exact(settings.weight)}", f"c = {exact(settings.c)}"]
        parts += [f"exponent = {exact(settings.exponent)}"] if settings.exponent != DEFAULT_EXPONENT else []
    else:
        parts += [f"V = {AUTO if settings.v is None else exact(settings.v)}"]
    return ", ".join([*parts, *([f"margin = {exact(settings.margin)}"] if settings.margin else [])])
