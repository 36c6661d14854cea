"""Notes beside the costs in a zoo.yaml: how well a measured cost is known, or that it is an estimate."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import yaml

WIDE, FROM_SIZE, GUESS = "known to ± ", "estimated from ", "a guess, as "
"""How the notes begin that messctl writes. It replaces them when it writes a cost; other comments stay."""
_OURS = re.compile(rf"(?<!\s)\s*+# (?:{'|'.join(map(re.escape, (WIDE, FROM_SIZE, GUESS)))})[^#]*$")


def with_notes(text: str, notes: Mapping[str, str]) -> str:
    """Return the text of a zoo file with a note at the end of each named model's `cost`; "" removes messctl's note.

    A note that would change what the file says, as within a text of several lines, is left out.
    """
    lines = text.splitlines(keepends=True)
    for name, at in _cost_lines(text):
        if name in notes:
            content = lines[at].rstrip("\r\n")
            end = lines[at][len(content) :]
            kept = _OURS.sub("", content)
            lines[at] = f"{kept}  # {notes[name]}{end}" if notes[name] else f"{kept}{end}"
    noted = "".join(lines)
    try:
        return noted if yaml.safe_load(noted) == yaml.safe_load(text) else text
    except yaml.YAMLError:
        return text


def _cost_lines(text: str) -> Iterator[tuple[str, int]]:
    """Yield each model's name, and the line, from 0, on which its cost ends, or begins if it has lines of its own."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    for model in _below(root, "models").value if root is not None else ():
        name, cost = _below(model, "name"), _below(model, "cost")
        mark = cost.end_mark if getattr(cost, "flow_style", True) else None
        for key, value in model.value:
            if value is cost:
                yield str(name.value), key.start_mark.line if mark is None else mark.line


def _below(node: yaml.Node, key: str) -> yaml.Node:
    """Return the value of a key in a section; an empty list if there is none."""
    values = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in values if name.value == key), yaml.SequenceNode("none", []))
