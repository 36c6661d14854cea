"""lm-evaluation-harness: the folders that `--log_samples --output_path` writes.

`samples_<task>_<date>.jsonl` has a line per document and filter. The model's name is in the `results_<date>.json`
beside it; without that file, it is the folder's name. Models are joined on the task and `doc_hash`, and repeated
documents by their order. The latest date counts.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from messctl.errors import UnknownNameError
from messctl.importers.base import Format, ImportOptions, Place
from messctl.importers.files import expand, json_document, json_lines
from messctl.trace import Outcome, Row

SAMPLES = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.:-]+)\.jsonl")
NOT_METRICS = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"}
NO_FILTER = "none"
Runs = dict[str, dict[str, Path]]
Key = tuple[str, int]


@dataclass
class _Task:
    """The documents of one task: id, prompt and outcomes by key, in the order of their first appearance."""

    name: str
    ids: dict[Key, str] = field(default_factory=dict)
    prompts: dict[Key, str] = field(default_factory=dict)
    outcomes: dict[Key, dict[str, Outcome]] = field(default_factory=lambda: defaultdict(dict))
    default_filter: str | None = None


@dataclass
class _Choice:
    """The metric or filter that the user chose, if any, and those that the source has."""

    kind: str
    wanted: str | None
    known: dict[str, None] = field(default_factory=dict)

    def check(self) -> None:
        if self.wanted is not None and self.wanted not in self.known:
            raise UnknownNameError(self.kind, self.wanted, self.known)


def rows(sources: Sequence[Path], options: ImportOptions) -> Iterator[Row]:
    """Yield one row per document of each task. Only one task is in memory at a time.

    A task without the chosen metric or filter is read by its first one. Raises UnknownNameError if no task has it.
    """
    metric, filter_ = _Choice("metric", options.metric), _Choice("filter", options.filter)
    for name, files in sorted(_latest_runs(expand(sources, ["samples_*.jsonl"], recursive=True)).items()):
        task = _Task(name)
        for model, path in sorted(files.items()):
            _read_samples(path, model, task, metric, filter_)
        for key, observed in task.outcomes.items():
            yield Row(task.ids[key], task.prompts[key], observed, source=name)
    filter_.check()
    metric.check()


def _latest_runs(files: Sequence[Path]) -> Runs:
    latest: dict[tuple[str, str], tuple[str, Path]] = {}
    for path in files:
        found = SAMPLES.fullmatch(path.name)
        if not found:
            raise Place(path).error("is not named samples_<task>_<date>.jsonl, as by the harness", advice="rename it")
        key = (found["task"], _model_name(path, found["date"]))
        if key not in latest or found["date"] > latest[key][0]:
            latest[key] = (found["date"], path)
    runs: Runs = defaultdict(dict)
    for (task, model), (_, path) in latest.items():
        runs[task][model] = path
    return runs


def _model_name(samples: Path, date: str) -> str:
    """Return the model's name from the results file of the same date, or from another one beside it."""
    same_date = samples.with_name(f"results_{date}.json")
    others = sorted(samples.parent.glob("results_*.json"), reverse=True)
    for results in [same_date, *others] if same_date in others else others:
        at = Place(results)
        document = at.mapping(json_document(results))
        config = document.get("config")
        arguments = config.get("model_args") if isinstance(config, dict) else None
        for name in (document.get("model_name"), _pretrained(arguments)):
            if isinstance(name, str) and name:
                return name
    name = samples.absolute().parent.name
    if not name:
        raise Place(samples).error(
            "has no results_<date>.json beside it with the model's name", advice="keep the two files together"
        )
    return name


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
        name = _choose_metric(at, sample, metric)
        task.outcomes[key][model] = Outcome(satisfied=at.satisfaction(name, sample[name]), answer=_answer(sample))
        if key not in task.ids:
            task.ids[key] = f"{task.name}/{at.key(sample, 'doc_id')}"
            task.prompts[key] = _prompt(at, sample)


def _filter_of(sample: Mapping[str, Any]) -> str:
    return str(sample.get("filter", NO_FILTER))


def _choose_filter(path: Path, task: _Task, choice: _Choice) -> str | None:
    known = dict.fromkeys(_filter_of(sample) for _, sample in json_lines(path))
    choice.known.update(known)
    if choice.wanted in known:
        return choice.wanted
    task.default_filter = task.default_filter or next(iter(known), None)
    if known and task.default_filter not in known:
        raise Place(path).error(
            f"has no filter {task.default_filter!r}, as other models of {task.name} have, but {', '.join(known)}",
            advice="choose one that all have with --filter",
        )
    return task.default_filter


def _document_key(at: Place, sample: Mapping[str, Any]) -> str:
    # Older versions log no hash of the document, only its number.
    return str(sample["doc_hash"] if sample.get("doc_hash") else at.key(sample, "doc_id"))


def _choose_metric(at: Place, sample: Mapping[str, Any], choice: _Choice) -> str:
    listed = sample.get("metrics")
    names = listed if isinstance(listed, list) else [n for n in sample if not n.endswith("_hash")]
    present = [name for name in names if isinstance(name, str) and name in sample and name not in NOT_METRICS]
    numeric = [name for name in present if isinstance(sample[name], (bool, int, float, type(None)))]
    choice.known.update(dict.fromkeys(present))
    if choice.wanted in present:
        return str(choice.wanted)
    if not numeric:
        raise at.error("no metric of this line is a number in 0..1", "metrics", "choose one with --metric")
    return numeric[0]


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
        messages = json.loads(text)
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
    takes=frozenset({"metric", "filter"}),
)
