"""Runs of models: which files are of one model, and which run of it counts.

Only runs that are known to be of one model replace each other: those in one folder, with the same settings, or those to
which the user gave one name. Everything else with one name is an error, which says how to tell the models apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from messctl.display.text import clipped
from messctl.errors import SourceError, UsageError

Names = Sequence[tuple[str, str]]
"""The user's names of models: each for a folder or a file."""
LONGEST_SETTINGS = 100
"""The longest settings that an error repeats, in characters."""


@dataclass(frozen=True, slots=True)
class Run:
    """One file of results: the `model` as its source names it, the `task`, and a `rank` that is higher if it is newer.

    `about` is the file that tells the name; the user may name the model by it. `settings` tell apart models that their
    source gives one name; None if they are unknown.
    """

    path: Path
    model: str
    task: str
    rank: Any
    about: Path
    settings: str | None = None


def latest(runs: Sequence[Run], names: Names) -> dict[str, dict[str, Path]]:
    """Return, per task and model, the file of the latest run. The user's `names` replace those of the source.

    Raises SourceError if two models have one name, UsageError for a name to which no file belongs.
    """
    for place, name in names:
        if not any(_lies_in(run, place) for run in runs):
            raise UsageError(
                f"--name {place}={name}: no file of the sources lies there; name a folder or a file of them"
            )
    chosen = [(_chosen_name(run, names), run) for run in runs]
    own: dict[str, list[Run]] = defaultdict(list)
    for given, run in chosen:
        if given is None:
            own[run.model].append(run)
    for model, same in sorted(own.items()):
        _check_one_model(model, same)
    found: dict[str, dict[str, Run]] = defaultdict(dict)
    for given, run in chosen:
        earlier = found[run.task].get(given or run.model)
        if earlier is None or run.rank > earlier.rank:
            found[run.task][given or run.model] = run
    return {task: {model: run.path for model, run in models.items()} for task, models in found.items()}


def _check_one_model(model: str, runs: Sequence[Run]) -> None:
    """Raise SourceError if runs of one name may be of two models: their settings differ, or two folders have a task."""
    by_settings = {run.settings: run for run in runs if run.settings is not None}
    if len(by_settings) > 1:
        one, other = sorted(by_settings.values(), key=lambda run: (run.rank, str(run.path)))[:2]
        settings = " and ".join(clipped(str(run.settings), LONGEST_SETTINGS) for run in (one, other))
        raise _one_name(model, one, other, f", but their settings differ: {settings}")
    by_task: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: str(run.path)):
        one = by_task.setdefault(run.task, run)
        if one.path.parent != run.path.parent:
            raise _one_name(model, one, run, f", and both have results of {run.task}")


def _one_name(model: str, one: Run, other: Run, why: str) -> SourceError:
    apart = one.path.parent != other.path.parent
    places = [run.path.parent if apart else run.about for run in (one, other)]
    return SourceError(
        f"{places[0]} and {places[1]} both name their model {model!r}{why}; tell them apart with --name "
        f"{places[1]}=NAME, or give both one name if they are one model"
    )


def _chosen_name(run: Run, names: Names) -> str | None:
    """Return the user's name for a run; the nearest folder's, if several apply."""
    applying = [(_depth(run, place), name) for place, name in names if _lies_in(run, place)]
    return max(applying)[1] if applying else None


def _lies_in(run: Run, place: str) -> bool:
    return _depth(run, place) >= 0


def _depth(run: Run, place: str) -> int:
    """Return how near to a run's file a place is: the place is the file, or a folder above it by its path or name."""
    exists = Path(place).exists()
    for depth, above in enumerate(_above(run)):
        if above.name == place or (exists and above.samefile(place)):
            return len(run.path.absolute().parts) - depth
    return -1


def _above(run: Run) -> Iterable[Path]:
    path = run.path.absolute()
    return (run.about, path, *path.parents)
