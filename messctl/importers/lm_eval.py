"""lm-evaluation-harness: the folders that `--log_samples --output_path` writes.

`samples_<task>_<date>.jsonl` has a line per document and filter. The model's name is in the `results_<date>.json`
beside it; without that file, it is the folder's name. Models are joined on the task and `doc_hash`, and repeated
documents by their order. Of several runs of a model in one folder, the latest date counts.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from messctl.errors import SourceError, UnknownNameError
from messctl.importers.base import Format, ImportOptions, Place
from messctl.importers.files import bounded_json, expand, json_document, json_lines
from messctl.importers.runs import Run, latest
from messctl.trace import Outcome, Row

SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")
NOT_METRICS = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"}
NO_FILTER = "none"
Key = tuple[str, int]


@dataclass
class _Task:
    """The documents of one task: id, prompt and outcomes by key, in the order of their first appearance.

    chosen: the metric and the filter by which its first model is read; the others must have them.
    common: the metrics and filters that all models so far have.
    """

    name: str
    ids: dict[Key, str] = field(default_factory=dict)
    prompts: dict[Key, str] = field(default_factory=dict)
    outcomes: dict[Key, dict[str, Outcome]] = field(default_factory=lambda: defaultdict(dict))
    chosen: dict[str, str] = field(default_factory=dict)
    common: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class _Choice:
    """The metric or filter that the user chose, if any, and those that the source has."""

    kind: str
    wanted: str | None
    known: dict[str, None] = field(default_factory=dict)

    def among(self, present: Sequence[str], first: str, task: _Task, at: Place) -> str:
        """Return the wanted one of those `present`, or else the `first`; for a later model, that of the first model.

        Raises SourceError if the models of a task cannot all be read by the same one.
        """
        self.known.update(dict.fromkeys(present))
        common = [name for name in task.common.get(self.kind, present) if name in present]
        chosen = task.chosen.setdefault(self.kind, self.wanted if self.wanted and self.wanted in present else first)
        if chosen not in present or (self.wanted in present and chosen != self.wanted):
            ours = ", ".join(present)
            advice = f"choose one that all have: --{self.kind} {' or '.join(common)}" if common else "import it apart"
            raise at.error(
                f"has no {self.kind} {chosen!r}, as other models of {task.name} have, but {ours}", None, advice
            )
        task.common[self.kind] = common
        return chosen

    def check(self) -> None:
        if self.wanted is not None and self.wanted not in self.known:
            raise UnknownNameError(self.kind, self.wanted, self.known)


def rows(sources: Sequence[Path], options: ImportOptions) -> Iterator[Row]:
    """Yield one row per document of each task. Only one task is in memory at a time.

    A task without the chosen metric or filter is read by its first one. Raises UnknownNameError if no task has it.
    """
    metric, filter_ = _Choice("metric", options.metric), _Choice("filter", options.filter)
    runs = [_run(path) for path in expand(sources, ["samples_*.jsonl"], recursive=True)]
    for name, files in sorted(latest(runs, options.name).items()):
        task = _Task(name)
        for model, path in sorted(files.items()):
            _read_samples(path, model, task, metric, filter_)
        for key, observed in task.outcomes.items():
            yield Row(task.ids[key], task.prompts[key], observed, source=name)
    filter_.check()
    metric.check()


def _run(samples: Path) -> Run:
    """Return the run that a file of samples belongs to."""
    found = SAMPLES.fullmatch(samples.name)
    if not found:
        raise Place(samples).error("is not named samples_<task>_<date>.jsonl, as by the harness", advice="rename it")
    task, date = found["task"], found["date"]
    own = samples.with_name(f"results_{date}.json")
    if own.is_file():
        name, settings = _model_of(own)
        if name:
            return Run(samples, name, task, date, own, settings)
    return Run(samples, _name_without_results(samples), task, date, samples)


def _name_without_results(samples: Path) -> str:
    """Return the model's name by the other results files of the folder, or else the folder's name."""
    others = sorted(samples.parent.glob("results_*.json"), reverse=True)
    names = list(dict.fromkeys(name for name, _ in map(_model_of, others) if name))
    if len(names) > 1:
        raise SourceError(
            f"{samples}: has no results_<date>.json of its own beside it, and the others name {' and '.join(names)}; "
            f"name its model with --name {samples}=NAME"
        )
    name = names[0] if names else samples.absolute().parent.name
    if not name:
        raise Place(samples).error(
            "has no results_<date>.json beside it with the model's name", advice="keep the two files together"
        )
    return name


def _model_of(results: Path) -> tuple[str | None, str | None]:
    """Return the model's name in a results file, and the settings that it ran with; None for what is not there."""
    document = Place(results).mapping(json_document(results))
    config = document.get("config")
    arguments = config.get("model_args") if isinstance(config, dict) else None
    names = (document.get("model_name"), _pretrained(arguments))
    name = next((name for name in names if isinstance(name, str) and name), None)
    settings = arguments if isinstance(arguments, str) else json.dumps(arguments, sort_keys=True)
    return name, settings if arguments else None


def _pretrained(arguments: object) -> object:
    if isinstance(arguments, dict):
        return arguments.get("pretrained") or arguments.get("model")
    found = re.search(r"(?:^|,)(?:pretrained|model)=([^,]+)", arguments) if isinstance(arguments, str) else None
    return found[1] if found else None


def _read_samples(path: Path, model: str, task: _Task, metric: _Choice, filter_: _Choice) -> None:
    """Add the outcomes of `model` to `task`, from the lines with one filter."""
    chosen = _choose_filter(path, task, filter_)
    seen: Counter[str] = Counter()
    for at, sample in json_lines(path):
        if _filter_of(sample) != chosen:
            continue
        document = _document_key(at, sample)
        key = (document, seen[document])
        seen[document] += 1
        satisfied = _satisfaction(at, sample, task, metric)
        task.outcomes[key][model] = Outcome(satisfied=satisfied, answer=_answer(sample))
        if key not in task.ids:
            task.ids[key] = f"{task.name}/{at.key(sample, 'doc_id')}"
            task.prompts[key] = _prompt(at, sample)


def _filter_of(sample: Mapping[str, Any]) -> str:
    return str(sample.get("filter", NO_FILTER))


def _choose_filter(path: Path, task: _Task, choice: _Choice) -> str | None:
    present = list(dict.fromkeys(_filter_of(sample) for _, sample in json_lines(path)))
    return choice.among(present, present[0], task, Place(path)) if present else None


def _document_key(at: Place, sample: Mapping[str, Any]) -> str:
    # Older versions log no hash of the document, only its number.
    return str(sample["doc_hash"] if sample.get("doc_hash") else at.key(sample, "doc_id"))


def _satisfaction(at: Place, sample: Mapping[str, Any], task: _Task, choice: _Choice) -> float | None:
    """Return the satisfaction by the chosen metric: by default the first that is a number."""
    listed = sample.get("metrics")
    names = listed if isinstance(listed, list) else [n for n in sample if not n.endswith("_hash")]
    present = [name for name in names if isinstance(name, str) and name in sample and name not in NOT_METRICS]
    numeric = [name for name in present if isinstance(sample[name], (bool, int, float, type(None)))]
    if not numeric and choice.wanted not in present:
        choice.known.update(dict.fromkeys(present))
        raise at.error("no metric of this line is a number in 0..1", "metrics", f"leave {task.name} out")
    name = choice.among(present, numeric[0] if numeric else present[0], task, at)
    usable = [other for other in numeric if other != name and _in_range(sample[other])]
    advice = f"choose another metric: --metric {' or '.join(usable)}" if usable else f"leave {task.name} out"
    return at.satisfaction(name, sample[name], advice)


def _in_range(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 <= value <= 1


def _prompt(at: Place, sample: Mapping[str, Any]) -> str:
    """Return the prompt: the first argument of the first request, or the document if there is none.

    A chat is logged as JSON inside a list. Its prompt is the text of its messages.
    """
    arguments = sample.get("arguments")
    requests = list(arguments.values()) if isinstance(arguments, dict) else arguments
    first = requests[0] if isinstance(requests, list) and requests else None
    if isinstance(first, dict):
        first = list(first.values())
    while isinstance(first, list) and first:
        first = first[0]
    if isinstance(first, str) and first:
        return _chat(first) or at.text("arguments", first)
    document = at.key(sample, "doc")
    if not isinstance(document, dict):
        return str(document)
    return "\n".join(value for value in document.values() if isinstance(value, str)) or str(document)


def _chat(text: str) -> str | None:
    """Return the text of a chat's messages, or None if the text is no chat."""
    if not text.startswith("[{"):
        return None
    try:
        messages = bounded_json(text)
    except (ValueError, RecursionError):
        return None
    contents = [message.get("content") for message in messages if isinstance(message, dict) and "role" in message]
    texts = [content for content in contents if isinstance(content, str)]
    return "\n\n".join(texts) if len(texts) == len(messages) else None


def _answer(sample: Mapping[str, Any]) -> str | None:
    """Return the generated text; None if there is not exactly one, as for scored choices."""
    responses = sample.get("resps") or sample.get("filtered_resps")
    while isinstance(responses, list) and len(responses) == 1:
        responses = responses[0]
    return responses if isinstance(responses, str) and responses else None


FORMAT = Format(
    name="lm-eval",
    summary="lm-evaluation-harness folders written with --log_samples; no costs",
    rows=rows,
    takes=frozenset({"metric", "filter", "name"}),
)
