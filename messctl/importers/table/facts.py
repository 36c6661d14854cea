"""What the cells of a column are: scores, numbers or texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from messctl.importers.table.cells import FALSE, TRUE, bare_number, is_empty, text_number

MOST_KEPT = 2000
"""The most cells of a column that are kept."""


@dataclass
class Fact:
    """A column: its name and its first cells that are not empty."""

    name: str
    cells: list[Any] = field(default_factory=list)

    @property
    def is_number(self) -> bool:
        """Whether every cell is a number, maybe with the mark of a currency."""
        return bool(self.cells) and all(_is_number(cell) for cell in self.cells)

    @property
    def is_score(self) -> bool:
        """Whether every cell is a number, a share in per cent, or a word for true or false."""
        return bool(self.cells) and all(_is_number(cell, "%") or _is_word(cell) for cell in self.cells)

    @property
    def is_text(self) -> bool:
        """Whether the cells are texts, or chats, and no scores."""
        return bool(self.cells) and all(isinstance(cell, (str, list)) for cell in self.cells) and not self.is_score

    @property
    def is_numbering(self) -> bool:
        """Whether the cells count the rows: 1, 2, 3 …, or from 0."""
        texts = [str(cell).strip() for cell in self.cells]
        return len(texts) > 2 and any(
            texts == [str(number + first) for number in range(len(texts))] for first in (0, 1)
        )

    @property
    def all_differ(self) -> bool:
        """Whether no two cells are equal."""
        return len({str(cell) for cell in self.cells}) == len(self.cells)

    def __lt__(self, other: Fact) -> bool:
        return self.name < other.name


def facts_of(records: Iterable[Mapping[str, Any]]) -> dict[str, Fact]:
    """Return the columns of records, in the order in which they appear."""
    found: dict[str, Fact] = {}
    for record in records:
        for name, cell in record.items():
            fact = found.setdefault(name, Fact(name))
            if not is_empty(cell) and len(fact.cells) < MOST_KEPT:
                fact.cells.append(cell)
    return found


def _is_number(cell: object, sign: str = "") -> bool:
    if isinstance(cell, str):
        text = bare_number(cell)
        text = text.removesuffix(sign) if sign else text
        return any(text_number(text, mark) is not None for mark in (None, ".", ","))
    return isinstance(cell, (int, float, Decimal)) and not isinstance(cell, bool)


def _is_word(cell: object) -> bool:
    return isinstance(cell, bool) or (isinstance(cell, str) and cell.strip().lower() in TRUE | FALSE)
