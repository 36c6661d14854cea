"""What `messctl zoo calibrate` prints: the table, and how well each cost is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from messctl.cli.output import console, print_line
from messctl.display.text import plain

if TYPE_CHECKING:
    from messctl.costs.calibration import Calibration
    from messctl.costs.intervals import Estimate


def show(found: Sequence[Calibration], where: str) -> None:
    """Print the table, and where the costs come from."""
    from rich.table import Table

    from messctl.display.tables import fitting

    unit = plain(found[0].unit)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("model")
    for title in ("load, s", "prompt, tokens/s", "answer, tokens/s", f"{unit} per request", "per prompt token",
                  "per generated token", "per load"):  # fmt: skip
        table.add_column(title, justify="right")
    for each in found:
        speeds = [(speed(part), part.share) for part in (each.seconds.prompt, each.seconds.generated)]
        table.add_row(
            plain(each.model),
            _cell(f"{each.load_s.value:.3g}", each.load_s.share),
            *("–" if value is None else _cell(f"{value:,.0f}", share) for value, share in speeds),
            *(_cost_cell(part) for part in (each.cost.fixed, each.cost.prompt, each.cost.generated, each.load)),
        )
    screen = console()
    screen.print(fitting(table, screen.width, folding=("model",)))
    print_line("±: half the 95 % interval; of the cost per request, as a share of a measured request")
    qualities = {each.quality for each in found}
    known = qualities.pop() if len(qualities) == 1 else "; ".join(f"{each.model} {each.quality}" for each in found)
    print_line(f"{where}; quality of the costs: {known}")


def speed(seconds: Estimate) -> float | None:
    """Return the tokens per second for the seconds per token; None if these are 0."""
    return 1.0 / seconds.value if seconds.value > 0.0 else None


def warnings(found: Sequence[Calibration]) -> list[str]:
    """Return what is not known well: wide intervals, and models that cannot be told apart."""
    from messctl.costs.calibration import NARROW, indistinct

    said = [
        f"model {each.model!r}: the cost is known to {widths_text(wide)} only; give more --time, or stop other programs"
        for each in found
        if (wide := each.wider_than(NARROW))
    ]
    return said + [
        f"models {small!r} and {large!r}: the smaller one seems to cost more {per}, but the intervals overlap; "
        "give more --time to tell them apart"
        for small, large, per in indistinct(found)
    ]


def notes(found: Sequence[Calibration]) -> dict[str, str]:
    """Return the comment for zoo.yaml of each model whose cost has a wide interval, by name."""
    from messctl.costs.calibration import NARROW
    from messctl.zoo.cost_notes import WIDE

    wides = {each.model: each.wider_than(NARROW) for each in found}
    return {name: f"{WIDE}{widths_text(wide).removeprefix('± ')}" for name, wide in wides.items() if wide}


def widths_text(widths: Mapping[str, float]) -> str:
    """Return widths as text: ± 14 % per prompt token, ± ? per load."""
    return ", ".join(f"± {_percent(share)} {per}" for per, share in widths.items())


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %") if math.isfinite(share) else "?"


def _cost_cell(part: Estimate | None) -> str:
    return "–" if part is None else _cell(f"{part.value:.3g}", part.share)


def _cell(value: str, share: float) -> str:
    return f"{value} ±{_percent(share).replace(' ', '')}"
