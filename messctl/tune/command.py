"""The command that plays a trial again: all that it was played under stands in it, so that no zoo.yaml changes it."""

from __future__ import annotations

import shlex
from pathlib import Path

from messctl.replay.loading import Recording
from messctl.tune.choice import Choice, Trial
from messctl.tune.search import Search
from messctl.tune.space import played


def replay_command(found: Search, choice: Choice, trial: Trial, trace: Recording, zoo: Path | None = None) -> str:
    """Return the command that plays a trial of a choice again over the whole trace, under the seeds that are counted.

    `zoo` is the file that was named, if one was: there is no option for the encoder of the prompts.
    """
    conditions, settings = found.conditions, played(trial.settings)
    words = ["messctl", "replay", str(trace.path)]
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
    """Return a number as shortly as it can be written and still be the same."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
