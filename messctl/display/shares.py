"""Shares over time, stacked: who did how much of the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from messctl.display.labels import Label
from messctl.display.plotting import Look

LEAST_SHARE = 0.02
"""The least share of all that has a label at the end."""
Floats = npt.NDArray[np.float64]


def stack_shares(
    axes: Any, share: Floats, edges: Floats, whole: Sequence[float], names: Sequence[str], look: Look
) -> list[Label]:
    """Draw shares (windows, names), the first name at the bottom, and return labels for their ends.

    `edges` (windows + 1) are where windows begin, and the last one ends. The labels tell `whole`, the shares of all.
    """
    from matplotlib import colormaps  # noqa: PLC0415  # matplotlib is an extra

    colours = [colormaps[look.scale](value) for value in np.linspace(0.05, 0.95, len(names))]
    axes.stackplot(edges, np.vstack([share, share[-1:]]).T, colors=colours, step="post", lw=0)
    axes.set(xlim=(edges[0], max(edges[0] + 1, edges[-1])), ylim=(0, 1))
    tops = np.cumsum(share[-1])
    return [
        Label(0, float(tops[k] - share[-1, k] / 2), f"{name} {whole[k]:.0%}", look.ink)
        for k, name in enumerate(names)
        if whole[k] >= LEAST_SHARE
    ]
