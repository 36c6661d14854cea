"""Running a replay: check what is wanted, read the trace, play it, and write the steps and the plot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from messctl.backends import encoder_of
from messctl.display.plotting import check_format, look_of
from messctl.errors import UsageError
from messctl.graders.equality import FORMS
from messctl.outputs import check_distinct, check_trace_writable, check_writable
from messctl.policies import default_names, kind_of, kinds
from messctl.replay.calibration_plot import check_predicts, write_calibration
from messctl.replay.facts import TraceFacts
from messctl.replay.holdout import Holdout
from messctl.replay.loading import load
from messctl.replay.play import replay
from messctl.replay.plot import write_plot
from messctl.replay.result import Conditions, Replay
from messctl.replay.steps import check_played, write_steps
from messctl.replay.streaming import default_streamed, needs_whole_trace, replay_streamed, survey
from messctl.trace import TraceFile
from messctl.zoo import DEFAULT_FILE, Settings

STREAMED_ABOVE = 1_000_000
"""A trace with more requests is streamed by default. In memory they would need some 2 GB."""
STEPPED = "messplus"
"""The policy whose decisions are written as steps."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to replay, under which conditions, and what to write.

    `policies` is None for all. `zoo` is the file that the settings came from, None for the default one. `stream` reads
    the trace batch by batch; None does so for a large trace if everything wanted allows it. With `cache`, the features
    of a large trace are stored beside it. `steps`, `plot` and `calibration` are files to write; plots may be
    `dark`. See `replay` and `load` for the rest.
    """

    trace: Path
    policies: tuple[str, ...] | None
    settings: Settings
    conditions: Conditions
    holdout: Holdout | None = None
    prompt_costs: bool = False
    zoo: Path | None = None
    stream: bool | None = None
    cache: bool = True
    steps: Path | None = None
    plot: Path | None = None
    calibration: Path | None = None
    dark: bool = False

    @property
    def logged(self) -> bool:
        """Whether the trace is a live log of which only the logged decisions are shown."""
        return self.policies == ("logged",)

    def option_for_whole_trace(self) -> str | None:
        """Return the first option that needs the whole trace at once, None if there is none.

        Raises UsageError for two options that exclude each other.
        """
        wanted = {
            "--plot": self.plot,
            "--plot-calibration": self.calibration,
            "--steps": self.steps,
            "--holdout": self.holdout,
        }
        given = [option for option, value in wanted.items() if value]
        if self.holdout and given[0] != "--holdout":
            raise UsageError(f"{given[0]} covers all requests; leave out --holdout")
        if self.conditions.replicas > 1 and given and given[0] != "--holdout":
            raise UsageError(f"{given[0]} covers one router; leave out --replicas")
        others = {"--prompt-costs": self.prompt_costs, "--asks": self.settings.asks > 1}
        return next(iter([*given, *(option for option, value in others.items() if value)]), None)


def run(plan: Plan, warn: Callable[[str], None], progress: Callable[[str], None] = lambda _: None) -> Replay:
    """Replay as planned, and write the steps and the plot.

    `warn` gets one line for each thing that the user should know; `progress` gets what is being done. Raises UsageError
    for options that contradict each other, TraceError, OutputError, and as `load`, `replay` and `replay_streamed` do.
    """
    _check_policies(plan)
    _check_outputs(plan)
    whole = plan.option_for_whole_trace()
    if plan.stream and whole:
        raise UsageError(f"{whole} needs the whole trace at once; leave out --stream")
    streamed = plan.stream
    if streamed is None:
        streamed = not whole and _is_large(plan)
    played = (_run_streamed if streamed else _run_in_memory)(plan, warn, progress)
    if plan.steps:
        write_steps(played, STEPPED, plan.steps)
    if plan.plot:
        write_plot(played, plan.plot, warn, look_of(dark=plan.dark))
    if plan.calibration:
        write_calibration(played, plan.calibration, warn, look_of(dark=plan.dark))
    if plan.prompt_costs:
        _warn_of_unused_prompt_costs(played, warn)
    return played


def _check_policies(plan: Plan) -> None:
    """Raise UsageError for a condition that does not go with `logged`, or for steps or predictions of none."""
    conditions = plan.conditions
    given = {
        "--replicas": conditions.replicas != 1,
        "--seeds": conditions.seeds != 1,
        "--shuffle": conditions.shuffle,
        "--feedback-rate": conditions.feedback_rate != 1.0,
        "--feedback-delay": conditions.feedback_delay != 0,
    }
    for option, is_given in given.items():
        if plan.logged and is_given:
            raise UsageError(f"--policy logged shows what happened; {option} cannot change that, so leave out {option}")
    if plan.steps and plan.policies:
        check_played(STEPPED, plan.policies)
    if plan.calibration and plan.policies:
        check_predicts(plan.policies)


def _check_outputs(plan: Plan) -> None:
    """Raise UsageError or OutputError, before anything is played, for an output that cannot be written."""
    inputs = (plan.trace, plan.zoo or DEFAULT_FILE, plan.settings.features)
    plots = [plot for plot in (plan.plot, plan.calibration) if plot]
    outputs = [*plots, *([plan.steps] if plan.steps else [])]
    check_distinct(outputs, [path for path in inputs if path and path.exists()])
    if plan.steps:
        check_trace_writable(plan.steps)
    for plot in plots:
        check_writable(plot)
        check_format(plot)


def _is_large(plan: Plan) -> bool:
    """Return whether the trace is so large that it is better streamed, and can be."""
    return (
        TraceFile(plan.trace).rows > STREAMED_ABOVE and needs_whole_trace(plan.policies or (), plan.conditions) is None
    )


def _run_streamed(plan: Plan, warn: Callable[[str], None], progress: Callable[[str], None]) -> Replay:
    facts = survey(plan.trace, plan.settings.reference)
    _warn_of_scarce_model(facts, warn)
    return replay_streamed(
        facts,
        plan.policies or default_streamed(facts.zoo.models),
        plan.settings,
        plan.conditions,
        lambda done: progress(f"played {done:,} of {facts.requests:,} requests"),
        encoder_of(plan.settings),
    )


def _run_in_memory(plan: Plan, warn: Callable[[str], None], progress: Callable[[str], None]) -> Replay:
    recording = load(
        plan.trace,
        plan.settings.reference,
        partial=plan.logged,
        cache=plan.cache,
        encoder=encoder_of(plan.settings),
        prompt_costs=plan.prompt_costs,
        equal=FORMS[plan.settings.equal] if plan.settings.asks > 1 else None,
    )
    _warn_of_scarce_model(recording.facts, warn)
    names = list(plan.policies or default_names(recording.facts.zoo.models))
    if not plan.policies and recording.rounds.answers is not None:
        names.insert(names.index("clairvoyant"), "hindsight-cascade")
    return replay(
        recording,
        names,
        plan.settings,
        plan.conditions,
        lambda name: progress(f"playing {name}"),
        plan.holdout,
    )


def _warn_of_scarce_model(facts: TraceFacts, warn: Callable[[str], None]) -> None:
    """Warn if more than half of the rows are left out because they lack one model."""
    model = facts.scarcest
    if model is not None:
        lacking = facts.lacking[facts.zoo.index(model)]
        warn(
            f"{facts.path}: {lacking:,} rows lack an outcome or a cost of {model!r}, and these rows are left out; "
            "to play them, make the trace without that model"
        )


def _warn_of_unused_prompt_costs(played: Replay, warn: Callable[[str], None]) -> None:
    """Warn if no policy played uses the cost of reading a prompt."""
    if any(kind_of(result.policy).uses_prompt_costs for result in played.results):
        return
    able = " or ".join(f"--policy {name}" for name, kind in kinds().items() if kind.uses_prompt_costs)
    warn(f"--prompt-costs changes nothing here, because no policy played uses it; leave it out, or add {able}")
