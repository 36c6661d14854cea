"""How the numbers of a table are written: their decimal mark, the scale of its scores, and the unit of its costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from messctl.importers.base import Place
from messctl.importers.names import words
from messctl.importers.table.cells import bare_number, currencies, text_number
from messctl.importers.table.facts import Fact

UNITS = {"usd": "USD", "dollar": "USD", "dollars": "USD", "eur": "EUR", "euro": "EUR", "euros": "EUR", "gbp": "GBP",
         "j": "J", "joule": "J", "joules": "J", "kwh": "kWh", "wh": "Wh", "credits": "credits"}  # fmt: skip


def decimal_of(at: Place, facts: Iterable[Fact]) -> str | None:
    """Return the decimal mark that the numbers of columns prove; None if a point is the only mark.

    Raises SourceError if the marks are mixed, or may be read in two ways.
    """
    proofs: dict[str, str] = {}
    doubtful = ""
    for fact in facts:
        for cell in fact.cells:
            text = bare_number(cell).removesuffix("%").strip() if isinstance(cell, str) else ""
            if text_number(text, None) is not None and text_number(text, ",") is not None:
                continue  # a whole number, or a point that may separate thousands
            readings = [mark for mark in ".," if text_number(text, mark) is not None]
            if len(readings) == 1:
                proofs.setdefault(readings[0], f"{cell!r} in {fact.name!r}")
            elif readings:
                doubtful = doubtful or f"{cell!r} in {fact.name!r}"
    commas = doubtful or "," in proofs
    if len(proofs) > 1:
        raise at.error(f"decimal marks are mixed: {' and '.join(proofs.values())}", advice="write all numbers alike")
    if doubtful and not proofs:
        advice = "state the decimal mark, with --decimal . or --decimal ,"
        raise at.error(f"{doubtful} has two readings", advice=advice)
    return next(iter(proofs), None) if commas or _grouped(facts) else None


def _grouped(facts: Iterable[Fact]) -> bool:
    texts = (bare_number(cell).removesuffix("%") for fact in facts for cell in fact.cells if isinstance(cell, str))
    return any(text_number(text, None) is None and text_number(text, ".") is not None for text in texts)


def scale_for(facts: Sequence[Fact], decimal: str | None) -> str | None:
    """Return the scale that scores seem to have; None if they are in 0..1, or in no usual range."""
    found = [_value(cell, decimal) for fact in facts for cell in fact.cells]
    numbers = [value for value in found if value is not None]
    if not numbers or max(numbers) <= 1 or min(numbers) < 0:
        return None
    least, most = min(numbers), max(numbers)
    for high in (5, 10, 100):
        if most <= high:
            return f"{1 if least >= 1 and high < 100 else 0}:{high}"
    return None


def _value(cell: object, decimal: str | None) -> float | None:
    """Return the number of a score; None for a word, and for a share in per cent, which has its scale with it."""
    if isinstance(cell, str):
        return text_number(cell, decimal)
    return float(cell) if isinstance(cell, (int, float, Decimal)) and not isinstance(cell, bool) else None


def unit_of(facts: Iterable[Fact]) -> str | None:
    """Return the unit that the cells or the names of columns of costs name; None if none does, or several do."""
    facts = list(facts)
    marks = {unit for fact in facts for cell in fact.cells if isinstance(cell, str) for unit in currencies(cell)}
    named = {UNITS[word] for fact in facts for word in words(fact.name) if word in UNITS}
    for found in (marks, named):
        if len(found) == 1:
            return found.pop()
    return None
