"""Changing settings in a zoo.yaml, whose comments and order stay as they are."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from messctl.errors import ConfigError
from messctl.zoo.file import SLA_KEYS, load_settings
from messctl.zoo.models import CostPerToken

WIDEST = 4096  # characters: no line is folded


def edited(path: Path | None, values: Mapping[str, float | str]) -> tuple[str, str]:
    """Return the text of the zoo file `path`, and the same with these keys of `sla` and `router` set to `values`.

    Without a path, or where there is no such file, it starts from an empty one. Raises ConfigError, with the line,
    for a file that is not as documented.
    """
    before = ""
    if path is not None and path.exists():
        load_settings(path)
        before = path.read_text(encoding="utf-8")

    def change(document: Any) -> None:
        for key, value in values.items():
            section = "sla" if key in SLA_KEYS else "router"
            if document.get(section) is None:
                document[section] = {}
            document[section][key] = value

    return before, _changed(path, before, change)


def with_costs(path: Path, costs: Mapping[str, CostPerToken]) -> tuple[str, str]:
    """Return the text of the zoo file `path`, and the same with these costs of its models, by name.

    Raises ConfigError, with the line, for a file that is not as documented.
    """
    load_settings(path)
    before = path.read_text(encoding="utf-8")

    def change(document: Any) -> None:
        for model in document["models"]:
            cost = costs.get(model["name"])
            if cost is not None:
                stated = {name: value for name, value in asdict(cost).items() if value is not None}
                if model.get("cost") is None or model["cost"].anchor.value:  # an anchor's section is others', too
                    _put(model, "cost", stated)
                else:
                    if model["cost"].get("unit") != cost.unit:
                        model["cost"].pop("load", None)  # it was in the other unit
                    model["cost"].update(stated)

    return before, _changed(path, before, change)


def _put(section: Any, key: str, value: object) -> None:
    """Set a key; a new one goes before a last one that comments follow, which may be of whatever comes then."""
    keys = list(section)
    if key not in section and section.ca.items.get(keys[-1]):
        section.insert(len(keys) - 1, key, value)
    else:
        section[key] = value


def _changed(path: Path | None, before: str, change: Callable[[Any], None]) -> str:
    from ruamel.yaml import YAML  # noqa: PLC0415  # for this alone
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415
    from ruamel.yaml.util import load_yaml_guess_indent  # noqa: PLC0415

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = WIDEST
    yaml.explicit_start = before.startswith("---") or None
    try:
        document = yaml.load(before)
    except YAMLError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    _, indent, offset = load_yaml_guess_indent(before)
    yaml.indent(mapping=_indent(document), sequence=indent or 4, offset=2 if offset is None else offset)
    empty = document is None
    document = {} if empty else document
    change(document)
    text = io.StringIO()
    yaml.dump(document, text)
    # A file of nothing but comments holds no node that they could hang on.
    return (before if empty else "") + text.getvalue()


def _indent(document: Any) -> int:
    """Return by how many spaces the first block of keys in a section is indented; 2 where there is none."""
    sections: Iterable[Any] = document.values() if isinstance(document, Mapping) else ()
    blocks = (part for part in sections if hasattr(part, "keys") and part and not part.fa.flow_style())
    return next((part.lc.col for part in blocks), 2)
