"""LLMRouterBench: one JSON file per dataset, split, model and time, joined on dataset, split and index.

`results/bench/<dataset>/<split>/<model>/<dataset>-<split>-<model>-<stamp>.json` has `model_name`, `dataset_name`,
`split`, `demo` and `records` of {`index`, `prompt`, `origin_query`, `score` (or null), `cost` (USD), `prompt_tokens`,
`completion_tokens`, `prediction`}. Of several runs of a model in one folder, the
latest full one counts; a demo run counts only without a full one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from messctl.importers.base import Format, ImportOptions, Place
from messctl.importers.files import expand, json_document, json_records
from messctl.importers.runs import Run, latest
from messctl.trace import Outcome, Row


def rows(sources: Sequence[Path], options: ImportOptions) -> Iterator[Row]:
    """Yield one row per record. Only one split of a dataset is in memory at a time."""
    runs = [_run(path) for path in expand(sources, ["*.json"], recursive=True)]
    for name, files in sorted(latest(runs, options.name).items()):
        prompts: dict[str, str] = {}
        outcomes: dict[str, dict[str, Outcome]] = defaultdict(dict)
        for model, path in sorted(files.items()):
            for at, record in _records(path):
                index = str(at.key(record, "index"))
                if model in outcomes[index]:
                    raise at.error(f"index {index} appears twice in this file", "index", "make it unique")
                if not prompts.get(index):
                    prompts[index] = _prompt(at, record)
                outcomes[index][model] = _outcome(at, record)
        for index, observed in outcomes.items():
            yield Row(f"{name}/{index}", prompts[index], observed, source=name)


def _run(path: Path) -> Run:
    """Return the run that a file holds. The files of a model differ in the time stamp, which sorts as text."""
    at = Place(path)
    document = at.mapping(json_document(path))
    dataset, split, model = (_name(at, document, key) for key in ("dataset_name", "split", "model_name"))
    at.key(document, "records")
    return Run(path, model, f"{dataset}/{split}", (not document.get("demo"), path.stem), path)


def _name(at: Place, document: Mapping[str, Any], key: str) -> str:
    name = at.key(document, key)
    if not (isinstance(name, str) and name):
        raise at.error("must be a name", column=key)
    return name


def _records(path: Path) -> Iterator[tuple[Place, dict[str, Any]]]:
    at = Place(path)
    return json_records(at, at.key(at.mapping(json_document(path)), "records"))


def _prompt(at: Place, record: Mapping[str, Any]) -> str:
    column = "prompt" if record.get("prompt") else "origin_query"
    return at.text(column, at.key(record, column))


def _outcome(at: Place, record: Mapping[str, Any]) -> Outcome:
    prediction = record.get("prediction")
    return Outcome(
        satisfied=at.satisfaction("score", at.key(record, "score")),
        cost=at.cost("cost", at.optional(record, "cost")),
        tokens_in=at.count("prompt_tokens", at.optional(record, "prompt_tokens")),
        tokens_out=at.count("completion_tokens", at.optional(record, "completion_tokens")),
        answer=prediction if isinstance(prediction, str) and prediction else None,
    )


FORMAT = Format(
    name="llmrouterbench",
    summary="LLMRouterBench's folders of JSON files, with costs and token counts",
    rows=rows,
    cost_unit="USD",
    meter="reported by LLMRouterBench",
    takes=frozenset({"name"}),
)
