"""`messctl record`: have the whole zoo answer a prompt file, and keep the answers as a trace."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from messctl.cli.arguments import JsonOption, ZooOption
from messctl.cli.opening import open_backends
from messctl.cli.output import console, print_json, progress_console, warn
from messctl.display.text import counted, plain
from messctl.errors import BackendError, StoppedError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from messctl.backends import Backend
    from messctl.record.judge import Judge
    from messctl.record.prompts import Check, PromptFile
    from messctl.record.recorder import Grade, Plan, Tally
    from messctl.zoo import ModelSpec, ZooFile

EPILOG = "Example: messctl record prompts.jsonl -o recorded.parquet --grader exact"
NONE, JUDGE, ZOO = "none", "judge", "zoo"
MOST = 2**31 - 1


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("record", epilog=EPILOG)(record)


def record(
    prompts: Annotated[
        Path, typer.Argument(help="The prompts: .jsonl, .json, .csv or .parquet, else text with one per line.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The trace to write, a Parquet file.")],
    grader: Annotated[
        str | None,
        typer.Option(
            help="How answers are judged by their reference: exact, contains, regex, numeric, choice or judge; none. "
            "Default: the zoo's grader."
        ),
    ] = None,
    judge: Annotated[str | None, typer.Option(help="The model of the zoo that judges, for --grader judge.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Record this model; repeatable. Default: the whole zoo.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an earlier recording was cut off.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew, whatever is there.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out prompts with which anything is wrong.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, max=MOST, help="Only the first so many prompts.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="The same seed draws the same answers.")] = 0,
    as_json: JsonOption = False,
    zoo: ZooOption = None,
) -> int:
    """Have every model of the zoo answer every prompt, grade the answers, and write them as a trace."""
    from messctl.costs.meter_choice import meter_for
    from messctl.outputs import check_distinct, check_writable
    from messctl.record import recorder as recording
    from messctl.record.journal import Journal, journal_path, remove_journal
    from messctl.record.prompts import read_prompts
    from messctl.zoo import load_zoo

    if resume and overwrite:
        raise UsageError("--resume goes on and --overwrite begins anew; choose one")
    check_distinct([output], [prompts])
    check_writable(output)
    described = load_zoo(zoo)
    models = [described.model(name) for name in dict.fromkeys(model or described.names)]
    grading, check = _grading(described, grader, judge)
    read = read_prompts(prompts, skip_bad=skip_bad, check=check)
    meter, journal = meter_for(described), journal_path(output)
    _check_state(output, journal, resume=resume, overwrite=overwrite)
    if overwrite:
        remove_journal(journal)
    answering = open_backends(described)
    try:
        judging = described.model(judge) if judge else None
        named, judged, asked = _judging(described, grading, judging, answering)
        plan = recording.Plan(read.prompts[:limit], models, named, judged, seed, judging)
        with Journal(journal, plan.terms(meter)) as kept, _interruptible(kept.count, plan, journal):
            begun = kept.count()
            with _progress(plan, begun) as advance:
                recording.record(plan, answering, meter, kept, advance, warn)
            tallies = recording.write_trace(plan, meter, kept, output, f"messctl record {prompts.name}")
            kept.remove()
    finally:
        answering.close()
    if asked and asked.undecided:
        warn(f"the judge said neither yes nor no to {asked.undecided:,} answers; they count as not satisfying")
    if asked and asked.unread:
        warn(
            f"{asked.unread:,} answers are not judged: the judge's context does not hold them "
            "(raise its n_ctx), or its server refuses them"
        )
    _report(output, read, plan, tallies, begun, meter.unit, as_json=as_json)
    return 0


def _check_state(output: Path, journal: Path, *, resume: bool, overwrite: bool) -> None:
    """Raise UsageError where something is there that nobody said what to do with."""
    if overwrite:
        return
    if journal.exists() and not resume:
        raise UsageError(f"{output}: a recording of it was cut off; add --resume to go on, or --overwrite")
    if output.exists() and not journal.exists():
        what = "is complete, and there is nothing to resume" if resume else "is there already"
        raise UsageError(f"{output}: {what}; give --overwrite to record it anew")


def _grading(described: ZooFile, grader: str | None, judge: str | None) -> tuple[str, Check]:
    """Return the name of what grades, and what says whether it can grade by a reference. Raises UsageError."""
    from messctl.graders import REFERENCE_GRADERS, check_reference, reference_grader

    if grader is None:
        if described.grader is None:
            names = ", ".join((*REFERENCE_GRADERS, JUDGE))
            raise UsageError(f"nothing says which answers are good; give --grader {names}, or none")
        grader = ZOO
    if (grader == JUDGE) != (judge is not None):
        raise UsageError("--grader judge and --judge MODEL go together; give both, or neither")
    if grader not in (NONE, ZOO, JUDGE, *REFERENCE_GRADERS):
        raise UnknownNameError("grader", grader, (*REFERENCE_GRADERS, JUDGE, NONE))
    if grader in (NONE, ZOO):
        return grader, lambda _: None
    rule = None if grader == JUDGE else reference_grader(grader)

    def check(reference: str | None) -> str | None:
        if reference is None:
            return f"is missing, and --grader {grader} needs it"
        try:
            if rule:
                check_reference(rule, reference)
        except UsageError as error:
            return str(error).rpartition("; ")[0] or str(error)  # what to do is said by who reads the file
        return None

    return grader, check


def _judging(
    described: ZooFile, grading: str, judge: ModelSpec | None, backend: Backend
) -> tuple[str, Grade, Judge | None]:
    """Return what the grading is to be called, with all it goes by, what it does, and the judge that it asks."""
    from messctl.graders import expect_regex, reference_grader
    from messctl.record.judge import Judge

    if grading == NONE:
        return grading, lambda _prompt, _answer: None, None
    if grading == ZOO:
        rule = expect_regex(described.grader or "")
        return f"{grading} {described.grader}", lambda _prompt, answer: rule(answer), None
    if judge is None:
        by_reference = reference_grader(grading)
        return grading, lambda prompt, answer: by_reference(answer, prompt.reference or ""), None
    asked = Judge(judge, backend)
    name = f"{grading} {judge.name}"
    return name, lambda prompt, answer: asked.grade(prompt.prompt, prompt.reference or "", answer), asked


@contextmanager
def _interruptible(count: Callable[[], int], plan: Plan, journal: Path) -> Iterator[None]:
    """Let Ctrl-C, or a model that does not answer, end the recording with one line that says what is kept."""
    try:
        yield
    except (KeyboardInterrupt, BackendError) as error:
        kept = f"{count():,} of {plan.answers:,} answers are kept in {journal}; go on with --resume"
        if isinstance(error, KeyboardInterrupt):
            raise StoppedError(f"stopped; {kept}") from None
        raise BackendError(f"{error}; {kept}") from error


@contextmanager
def _progress(plan: Plan, begun: int) -> Iterator[Callable[[int], None]]:
    """Yield what moves the progress bar on stderr."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=progress_console(), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("recording", total=plan.answers, completed=begun)
        yield lambda done: bar.update(task, completed=done)


def _report(
    output: Path, read: PromptFile, plan: Plan, tallies: dict[str, Tally], begun: int, unit: str, *, as_json: bool
) -> None:
    if as_json:
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
        return
    from rich.table import Table
    from rich.text import Text

    from messctl.display.tables import fitting

    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for heading in ("model", "answers", "failed", "satisfied", f"{unit}/request", "ms/request"):
        table.add_column(plain(heading), justify="left" if heading == "model" else "right")
    for name, tally in tallies.items():
        table.add_row(
            Text(plain(name)),
            f"{tally.answered:,}",
            f"{tally.failed:,}",
            "–" if tally.satisfied is None else f"{tally.satisfied:.4f}",
            "–" if tally.cost is None else f"{tally.cost:.4g}",
            "–" if tally.latency_s is None else f"{1e3 * tally.latency_s:.3g}",
        )
    screen = console()
    screen.print(fitting(table, screen.width, folding=("model",)))
    for name, tally in tallies.items():
        if tally.failure:
            warn(f"{name}: {counted(tally.failed, 'answer')} failed, most often: {tally.failure}")
    for reason in read.skipped[:3]:
        warn(f"skipped: {reason}")
    if read.skipped:
        screen.print(f"{len(read.skipped):,} prompts were skipped")
    screen.print(
        plain(f"{output}: {counted(len(plan.prompts), 'request')}, {counted(len(plan.models), 'model')}"),
        soft_wrap=True,
    )
