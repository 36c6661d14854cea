"""Changes to a zoo.yaml that keep its comments, its order and its line ends."""

from __future__ import annotations

import difflib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from messctl.errors import ConfigError
from messctl.inputs import read_bytes
from messctl.outputs import atomic_write
from messctl.zoo.cost_notes import with_notes
from messctl.zoo.file import SLA_KEYS, load_settings
from messctl.zoo.models import BOX, BOX_PREFIX, CostPerToken

WIDEST = 4096  # characters: no line is folded
BOM = "\ufeff"
Value = float | str | None | Path
"""A setting's value in the file: a Path is a GGUF file, as for `features`; None is written as nothing."""


def edit_settings(path: Path | None, values: Mapping[str, Value], output: Path | None = None) -> tuple[str, str]:
    """Return the text of the zoo file `path`, and its text with these keys of `sla` and `router` set to `values`.

    The new text is for `output`, by default `path` itself: relative paths in it lead to the same files from there.
    Without a path, or if the file does not exist, the old text is empty. Raises ConfigError, with the line, for an
    invalid file, and for a reference that is not one of its models.
    """
    before, output = "", output or path or Path()
    if path is not None and path.exists():
        load_settings(path)
        before = _read(path)

    def change(document: Any) -> None:
        _check_reference(path, document, values.get("reference"))
        sections: dict[str, dict[str, Any]] = {}
        for key, value in values.items():
            written = {"gguf": _path_text(value, output)} if isinstance(value, Path) else value
            sections.setdefault("sla" if key in SLA_KEYS else "router", {})[key] = written
        for name, keys in sections.items():
            if name not in document:
                _append(document, name, keys)
            elif document[name] is None:
                _put(document, name, keys)
            else:
                for key, value in keys.items():
                    _put(document[name], key, value)

    return before, _edited_text(path, before, change, output)


def edit_costs(
    path: Path,
    costs: Mapping[str, CostPerToken],
    output: Path | None = None,
    notes: Mapping[str, str] = MappingProxyType({}),
) -> tuple[str, str]:
    """Return the text of the zoo file `path`, and its text with these costs of its models, by name.

    The new text is for `output`, as in `edit_settings`. `notes` are comments beside the costs, by name. Raises
    ConfigError, with the line, for an invalid file.
    """
    load_settings(path)
    before = _read(path)

    def change(document: Any) -> None:
        for model in _models(document):
            cost = costs.get(model.get("name"))
            if cost is not None:
                stated = {
                    name: value for name, value in asdict(cost).items() if value is not None and value is not False
                }
                old = model.get("cost")
                if old and not old.anchor.value:
                    _remove(old, "estimated")
                    if old.get("unit") != cost.unit:
                        _remove(old, "load")  # it is in the old unit
                _put(model, "cost", stated)

    after = _edited_text(path, before, change, output or path)
    return before, with_notes(after, {name: notes.get(name, "") for name in costs})


def difference(source: Path, before: str, output: Path, after: str) -> str:
    """Return the difference of two texts as `diff -u` prints it; "" if they are the same."""
    old, new = (text.splitlines(keepends=True) for text in (before, after))
    lines = difflib.unified_diff(old, new, str(source), str(output))
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def write(output: Path, text: str) -> None:
    """Write a zoo file, completely or not at all. Raises OutputError if it cannot be written."""
    with atomic_write(output) as aside:
        aside.write_text(text, encoding="utf-8", newline="")


def _read(path: Path) -> str:
    """Return the text with its own line ends."""
    return read_bytes(path).decode("utf-8")


def _check_reference(path: Path | None, document: Any, reference: Value) -> None:
    names = [str(model.get("name")) for model in _models(document)]
    if reference is not None and names and reference not in names:
        raise ConfigError(
            f"{path}: the reference {reference!r} is not one of its models ({', '.join(names)}); "
            "give another --reference, or write to another file"
        )


def _models(document: Any) -> list[Any]:
    """Return the sections of the models, without what is none: settings can be edited, whatever else the file holds."""
    models = document.get("models")
    return [model for model in models if isinstance(model, Mapping)] if isinstance(models, list) else []


def _append(document: Any, name: str, section: Mapping[str, Any]) -> None:
    """Add a section at the end, below a blank line, so that the comments above do not seem to belong to it."""
    first = not document
    document[name] = _node(section)
    if not first and not document.fa.flow_style():
        document.yaml_set_comment_before_after_key(name, before="\n")


def _put(section: Any, key: str, value: object) -> None:
    """Set a key. A new key comes after the last one, and before the comments below, which may be about what follows."""
    node, old = _node(value), section.get(key)
    merges = isinstance(node, Mapping) and isinstance(old, Mapping)
    if merges and not old.anchor.value:  # other sections may share an anchor's section
        for name, below in node.items():
            _put(old, name, below)
    elif section.fa.flow_style():
        section[key] = node
    elif key not in section or old != node:
        comments = _take_comments(section, key if key in section else next(reversed(section)))
        section[key] = node
        _add_comments(section, key, comments)


def _remove(section: Any, key: str) -> None:
    """Remove a key, if it is there. The comments below it stay, at the key before it."""
    if key not in section:
        return
    keys = list(section)
    below = "" if section.fa.flow_style() else _take_comments(section, key)
    del section[key]
    if below and keys.index(key):
        _add_comments(section, keys[keys.index(key) - 1], below)


def _node(value: Any) -> Any:
    """Return a value as ruamel.yaml writes it: a file in braces, as in `{gguf: model.gguf}`."""
    from ruamel.yaml.comments import CommentedMap  # noqa: PLC0415  # with the rest of ruamel.yaml

    if not isinstance(value, Mapping):
        return value
    node = CommentedMap({key: _node(below) for key, below in value.items()})
    if "gguf" in node:
        node.fa.set_flow_style()
    return node


def _leaf(section: Any, key: Any) -> tuple[list[Any], int]:
    """Return where ruamel.yaml stores the comments beside and below a key's value: a list and an index.

    It stores them at the last value inside the key's value. A section with an anchor may be an alias, whose last value
    is somewhere else.
    """
    child = section[key]
    while hasattr(child, "fa") and child and not child.fa.flow_style() and not child.anchor.value:
        section, key = child, next(reversed(child)) if isinstance(child, Mapping) else len(child) - 1
        child = section[key]
    return section.ca.items.setdefault(key, [None] * 4), 2 if isinstance(section, Mapping) else 0


def _take_comments(section: Any, key: str) -> str:
    """Remove and return the comments and blank lines below a key's value; a comment beside it stays."""
    items, place = _leaf(section, key)
    if items[place] is None:
        return ""
    beside, _, below = items[place].value.partition("\n")
    items[place].value = f"{beside}\n"
    return str(below)


def _add_comments(section: Any, key: str, below: str) -> None:
    """Add comments and blank lines below a key's value."""
    from ruamel.yaml.error import CommentMark  # noqa: PLC0415  # with the rest of ruamel.yaml
    from ruamel.yaml.tokens import CommentToken  # noqa: PLC0415  # with the rest of ruamel.yaml

    items, place = _leaf(section, key)
    if items[place] is not None:
        items[place].value += below
    elif below:
        items[place] = CommentToken(f"\n{below}", CommentMark(0), None)


def _relocate(document: Any, source: Path, output: Path) -> None:
    """Change every path relative to the folder of `source` into one to the same file from the folder of `output`."""
    done = set()
    for section, key in _file_keys(document):
        text = section.get(key)
        if id(section) not in done and isinstance(text, str) and not text.startswith(BOX_PREFIX):
            done.add(id(section))
            path = Path(text).expanduser()
            if not path.is_absolute():
                section[key] = type(text)(_path_text(source.parent / path, output))


def _file_keys(document: Any) -> Iterator[tuple[Any, str]]:
    """Yield each key whose value is a file's path, with its section."""
    models = _models(document)
    sections = [document.get("defaults"), *models]
    templates = [section.get("chat_template") for section in sections if isinstance(section, Mapping)]
    features = (document.get("router") or {}).get("features")
    places = [(model, "path") for model in models]
    places += [(template, "file") for template in templates] + [(features, "gguf")]
    return ((section, key) for section, key in places if isinstance(section, Mapping))


def _path_text(path: Path, output: Path) -> str:
    """Return a file's path as the zoo file `output` writes it: relative to its own folder, with links resolved."""
    if path.parent == BOX:
        return f"{BOX_PREFIX}{path.name}"
    return (Path(os.path.relpath(path.parent.resolve(), output.parent.resolve())) / path.name).as_posix()


def _edited_text(path: Path | None, before: str, change: Callable[[Any], None], output: Path) -> str:
    from ruamel.yaml import YAML  # noqa: PLC0415  # only needed here
    from ruamel.yaml.comments import CommentedMap  # noqa: PLC0415  # with the rest of ruamel.yaml
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415  # with the rest of ruamel.yaml
    from ruamel.yaml.util import load_yaml_guess_indent  # noqa: PLC0415  # with the rest of ruamel.yaml

    bom = BOM if before.startswith(BOM) else ""
    ends = "\r\n" if before.count("\r\n") * 2 > before.count("\n") else "\n"
    before = before.removeprefix(bom).replace("\r\n", "\n")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = WIDEST
    try:
        document = yaml.load(before)
    except YAMLError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    try:
        _, indent, offset = load_yaml_guess_indent(before)
    except IndexError:  # it does not know a dash that stands alone on its line
        indent = offset = None
    yaml.indent(mapping=_indent(document), sequence=indent or 4, offset=2 if offset is None else offset)
    # A file with comments only has no node at which ruamel.yaml could store them.
    head = f"{before.rstrip()}\n\n" if document is None and before.strip() else ""
    yaml.explicit_start = (before.startswith("---") and not head) or None
    document = CommentedMap() if document is None else document
    if path is not None and path.absolute().parent != output.absolute().parent:
        _relocate(document, path, output)
    change(document)
    text = io.StringIO()
    yaml.dump(document, text)
    return bom + (head + text.getvalue()).replace("\n", ends)


def _indent(document: Any) -> int:
    """Return by how many spaces the first section indents its keys; 2 if there is none."""
    sections: Iterable[Any] = document.values() if isinstance(document, Mapping) else ()
    blocks = (part for part in sections if hasattr(part, "keys") and part and not part.fa.flow_style())
    return next((part.lc.col for part in blocks), 2)
