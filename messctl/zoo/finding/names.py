"""Names for models that people can type: from what a file, a repository or a server calls them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

_QUANTISATION = r"(?:i?q\d(?:_\w+)?|[bf]p?(?:16|32)|tq\d_\d|mxfp4\w*|nvfp4|ud)"
_MEANINGLESS = re.compile(rf"(?:ggml|gguf|model|weights|[-_. ]|{_QUANTISATION})*", re.IGNORECASE)
_CACHED = re.compile(r"^[^_/]+_(.*?-gguf)_(?=.)", re.IGNORECASE)
"""How llama.cpp's cache begins a file's name: the owner and the repository."""
_LAST_TAG = ":latest"
_LONGEST = 60


def readable(title: str, stated: str = "") -> str:
    """Return a short name in small letters from a title such as `owner/model:tag` or `folder/file`.

    If the last part of the title says nothing, as `ggml-model-q4_0`, the name is `stated`, or that of the folder.
    """
    folder, _, last = title.removesuffix(_LAST_TAG).rpartition("/")
    last = _CACHED.sub("", last)
    meant = next((text for text in (last, stated, folder) if not _MEANINGLESS.fullmatch(text)), last)
    name = re.sub(rf"\.(?={_QUANTISATION}$)", "-", meant.lower())
    name = re.sub(r"[^\w.]+", "-", name)
    name = re.sub(r"-gguf(?=-|$)|\.gguf$", "", name).strip("-._")[:_LONGEST].strip("-._")
    return name or "model"


def unique(wishes: Iterable[tuple[str, str, str]]) -> list[str]:
    """Return one name for each (name, quantisation, program), no two the same.

    A name that is wished more than once gets the quantisation, then the program, then a number.
    """
    found = list(wishes)
    names = [name for name, _, _ in found]
    for part in (1, 2):
        several = Counter(names)
        names = [
            _with(name, wish[part]) if several[name] > 1 else name for name, wish in zip(names, found, strict=True)
        ]
    taken: set[str] = set()
    return [_numbered(name, taken, names) for name in names]


def _with(name: str, more: str) -> str:
    more = re.sub(r"[^\w.]+", "-", more.lower()).strip("-._")
    return name if not more or name.endswith(more) else f"{name}-{more}"


def _numbered(name: str, taken: set[str], names: Sequence[str]) -> str:
    number, chosen = 1, name
    while chosen in taken or (number > 1 and chosen in names):
        number += 1
        chosen = f"{name}-{number}"
    taken.add(chosen)
    return chosen
