"""`messctl record`: ask the whole zoo the prompts of a file, and write the answers as a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from messctl.cli.arguments import (
    OUTPUT,
    PROMISE,
    REQUESTS,
    GradeEmptyOption,
    JsonOption,
    TraceOutputOption,
    ZooOption,
    in_range,
    option,
)
from messctl.cli.command import TRACES, Command
from messctl.cli.opening import open_backends, open_zoo
from messctl.cli.output import console, print_json, print_line, warn
from messctl.cli.progress import progress_bar
from messctl.display.text import counted, or_dash, plain
from messctl.errors import BackendError, StoppedError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from messctl.backends import Backend
    from messctl.costs.meter import Meter
    from messctl.record.judge import Judge
    from messctl.record.prompts import Check, PromptFile
    from messctl.record.recorder import Grade, Plan
    from messctl.record.tally import Tally
    from messctl.zoo import ModelSpec, ZooFile

EPILOG = "Example: messctl record prompts.jsonl -o recorded.parquet --grader exact"
NONE, JUDGE, ZOO = "none", "judge", "zoo"
MOST = 2**31 - 1
MOST_JOBS = 64
"""The most requests at once; the client has connections for a few more."""


GraderOption = Annotated[
    str | None,
    option(
        "--grader",
        "exact, contains, regex, numeric or choice compare with the reference; judge asks a model; none does "
        "not grade. Default: the zoo's grader.",
        PROMISE,
        metavar="NAME",
    ),
]
JudgeOption = Annotated[
    str | None,
    option("--judge", "The model of the zoo that grades, for --grader judge.", PROMISE, metavar="NAME"),
]
ModelsOption = Annotated[
    list[str] | None,
    option("--model", "Record only this model. Repeatable. Default: all.", REQUESTS, metavar="NAME"),
]
SkipBadOption = Annotated[bool, option("--skip-bad", "Leave out invalid prompts.", REQUESTS)]
LimitOption = Annotated[
    int | None,
    option(
        "--limit",
        "Record only this number of prompts, from the first.",
        REQUESTS,
        metavar="N",
        callback=in_range(1, MOST),
    ),
]
SeedOption = Annotated[
    int,
    option("--seed", "The seed of the sampling.", REQUESTS, metavar="N", callback=in_range(0, MOST)),
]
JobsOption = Annotated[
    int,
    option(
        "--jobs",
        "Ask a server this number of prompts at once. A model on this machine answers one at a time.",
        REQUESTS,
        metavar="N",
        callback=in_range(1, MOST_JOBS),
    ),
]
ResumeOption = Annotated[bool, option("--resume", "Continue an interrupted recording.", OUTPUT)]
OverwriteOption = Annotated[bool, option("--overwrite", "Begin anew, and replace what is there.", OUTPUT)]


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("record", cls=Command, epilog=EPILOG, rich_help_panel=TRACES)(record)


def record(
    prompts: Annotated[
        Path,
        typer.Argument(
            metavar="PROMPTS", help="The prompts: .jsonl, .json, .csv, .parquet, or text with one prompt per line."
        ),
    ],
    *,
    grader: GraderOption = None,
    judge: JudgeOption = None,
    grade_empty: GradeEmptyOption = False,
    zoo: ZooOption = None,
    model: ModelsOption = None,
    skip_bad: SkipBadOption = False,
    limit: LimitOption = None,
    seed: SeedOption = 0,
    jobs: JobsOption = 1,
    output: TraceOutputOption,
    resume: ResumeOption = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> int:
    """Ask every model of the zoo every prompt, grade the answers, and write a trace."""
    from messctl.costs.meter_choice import meter_for
    from messctl.outputs import check_distinct, check_writable
    from messctl.record.journal import journal_path, remove_journal
    from messctl.record.prompts import read_prompts
    from messctl.record.recorder import Plan

    if resume and overwrite:
        raise UsageError("--resume continues and --overwrite begins anew; choose one")
    check_distinct([output], [prompts])
    check_writable(output)
    zoo_file = open_zoo(zoo)
    models = [zoo_file.model(name) for name in dict.fromkeys(model or zoo_file.names)]
    grading, check = _grading(zoo_file, grader, judge)
    read = read_prompts(prompts, skip_bad=skip_bad, check=check)
    meter, journal = meter_for(zoo_file), journal_path(output)
    finished = _is_finished(output, journal, resume=resume, overwrite=overwrite)
    if overwrite:
        remove_journal(journal)
    backend = open_backends(zoo_file)
    try:
        judge_model = zoo_file.model(judge) if judge else None
        name, grade, judging = _grade(zoo_file, grading, judge_model, backend)
        plan = Plan(read.prompts[:limit], models, name, grade, seed, judge_model, grade_empty)
        source = f"messctl record {prompts.name}"
        tallies, begun = _answer_all(plan, backend, meter, journal, output, source, jobs, finished=finished)
    finally:
        backend.close()
    if judging:
        _warn_of_judge(judging)
    if as_json:
        _print_document(output, read, plan, tallies, begun, meter.unit)
        return 0
    _print_table(output, read, plan, tallies, meter.unit)
    if finished:
        print_line("it was complete, so nothing was left to record")
    return 0


def _answer_all(
    plan: Plan, backend: Backend, meter: Meter, journal: Path, output: Path, source: str, jobs: int, *, finished: bool
) -> tuple[dict[str, Tally], int]:
    """Ask all that the journal lacks and write the trace. Return the models' results, and what was there before."""
    from messctl.record import recorder
    from messctl.record.finished import read_finished
    from messctl.record.journal import Journal

    if finished:
        return read_finished(plan, meter, output), plan.answers

    with Journal(journal, plan.terms(meter)) as answers, _interruptible(answers.count, plan, journal):
        begun = answers.count()
        with progress_bar("recording", total=plan.answers, done=begun) as update:
            recorder.record(plan, backend, meter, answers, lambda done: update(completed=done), warn, jobs)
        tallies = recorder.write_trace(plan, meter, answers, output, source)
        answers.remove()
    return tallies, begun


def _warn_of_judge(judge: Judge) -> None:
    """Warn of answers that the judge did not grade as asked."""
    if judge.undecided:
        warn(f"the judge replied neither yes nor no to {judge.undecided:,} answers; they count as not satisfying")
    if judge.silent:
        warn(f"{judge.silent:,} answers are not graded: the judge's reply was empty; raise its max_tokens in zoo.yaml")
    if judge.unread:
        warn(
            f"{judge.unread:,} answers are not graded: they are too long for the judge's context, or its server "
            "refused them; raise the judge's n_ctx"
        )


def _is_finished(output: Path, journal: Path, *, resume: bool, overwrite: bool) -> bool:
    """Return whether the recording to resume is complete.

    Raises UsageError if there is a journal or a trace, and no option says what to do with it.
    """
    if overwrite:
        return False
    if journal.exists() and not resume:
        raise UsageError(f"{output}: its recording was interrupted; add --resume to continue it, or --overwrite")
    if output.exists() and not journal.exists() and not resume:
        raise UsageError(f"{output}: exists already; add --overwrite to record it anew")
    return output.exists() and not journal.exists()


def _grading(zoo_file: ZooFile, grader: str | None, judge: str | None) -> tuple[str, Check]:
    """Return the grader's name, and the check of a prompt's reference. Raises UsageError."""
    from messctl.graders import REFERENCE_GRADERS, best_grade, reference_grader

    if grader in (None, ZOO):
        own = zoo_file.grader
        if own is None:
            names = ", ".join((*REFERENCE_GRADERS, JUDGE))
            raise UsageError(f"there is no grader; give --grader {names}, or none")
        if own.doubt:
            warn(own.doubt)
        grader = own.name or ZOO
    assert grader is not None
    if (grader == JUDGE) != (judge is not None):
        raise UsageError("--grader judge and --judge MODEL go together; give both, or neither")
    if grader not in (NONE, ZOO, JUDGE, *REFERENCE_GRADERS):
        raise UnknownNameError("grader", grader, (*REFERENCE_GRADERS, JUDGE, NONE))
    if grader in (NONE, ZOO):
        return grader, lambda _: None
    rule = None if grader == JUDGE else reference_grader(grader)

    def check(references: Sequence[str]) -> str | None:
        if not references:
            return f"is missing, and the grader {grader} needs it"
        try:
            if rule:
                best_grade(rule, "", references)
        except UsageError as error:
            return str(error).rpartition("; ")[0] or str(error)  # the reader of the file says what to do
        return None

    return grader, check


def _grade(
    zoo_file: ZooFile, grading: str, judge: ModelSpec | None, backend: Backend
) -> tuple[str, Grade, Judge | None]:
    """Return the grader's name with its settings, the grader itself, and the judge that it asks, if it asks one."""
    from messctl.graders import best_grade, expect_regex, reference_grader
    from messctl.record.judge import Judge

    if grading == NONE:
        return grading, lambda _prompt, _answer: None, None
    if grading == ZOO and zoo_file.grader is not None and zoo_file.grader.pattern is not None:
        rule = expect_regex(zoo_file.grader.pattern)
        return f"{grading} {zoo_file.grader.pattern}", lambda _prompt, answer: rule(answer), None
    if judge is None:
        by_reference = reference_grader(grading)
        return grading, lambda prompt, answer: best_grade(by_reference, answer, prompt.references), None
    asking = Judge(judge, backend)
    name = f"{grading} {judge.name}"
    return name, lambda prompt, answer: asking.grade(prompt.prompt, prompt.references, answer), asking


@contextmanager
def _interruptible(count: Callable[[], int], plan: Plan, journal: Path) -> Iterator[None]:
    """End the recording with one line on what is stored, after Ctrl-C or if a model does not answer."""
    try:
        yield
    except (KeyboardInterrupt, BackendError) as error:
        stored = f"{count():,} of {plan.answers:,} answers are stored in {journal}; continue with --resume"
        if isinstance(error, KeyboardInterrupt):
            raise StoppedError(f"interrupted; {stored}") from None
        raise BackendError(f"{error}; {stored}") from error


def _print_document(
    output: Path, read: PromptFile, plan: Plan, tallies: dict[str, Tally], begun: int, unit: str
) -> None:
    print_json(
        {
            "output": str(output),
            "requests": len(plan.prompts),
            "skipped": list(read.skipped),
            "resumed_from": begun,
            "grader": plan.grading,
            "seed": plan.seed,
            "cost_unit": unit,
            "models": {name: asdict(tally) for name, tally in tallies.items()},
        }
    )


def _print_table(output: Path, read: PromptFile, plan: Plan, tallies: dict[str, Tally], unit: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from messctl.display.tables import fitting

    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for heading in ("model", "answers", "empty", "failed", "satisfied", f"cost, {unit}", "time, ms"):
        table.add_column(plain(heading), justify="left" if heading == "model" else "right")
    for name, tally in tallies.items():
        table.add_row(
            Text(plain(name)),
            f"{tally.answered:,}",
            f"{tally.empty:,}",
            f"{tally.failed:,}",
            or_dash(tally.satisfied, ".4f"),
            or_dash(tally.cost, ".4g"),
            "–" if tally.latency_s is None else f"{1e3 * tally.latency_s:.3g}",
        )
    screen = console()
    screen.print(fitting(table, screen.width, folding=("model",)))
    print_line("cost and time are means per answer, from the request to the last token, without loading the model")
    for name, tally in tallies.items():
        if tally.failure:
            lost = counted(len(plan.prompts) - tally.answered, "prompt")
            warn(f"{name}: {lost} without an answer, most often: {tally.failure}")
        if tally.cut:
            warn(f"{name}: {counted(tally.cut, 'answer')} cut at the limit of tokens or by a filter; raise max_tokens")
    for reason in read.skipped[:3]:
        warn(f"left out: {reason}")
    if read.skipped:
        print_line(f"{counted(len(read.skipped), 'prompt')} left out")
    print_line(f"{output}: {counted(len(plan.prompts), 'request')}, {counted(len(plan.models), 'model')}")
