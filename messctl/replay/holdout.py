"""The hold-out: requests that results are counted on, and by which `tune` chooses nothing."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from messctl.errors import UnknownNameError, UsageError
from messctl.replay.loading import Recording


@dataclass(frozen=True, slots=True)
class Holdout:
    """Which requests are held out: a `share` (0..1, both excluded) of all.

    `by` is "time" for the last to arrive, or "hash" for a choice by a hash of the request's id. Raises UsageError for
    another share, UnknownNameError for another `by`.
    """

    share: float = 0.3
    by: str = "time"

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 1.0:
            raise UsageError(f"holdout is {self.share:g}; it must lie between 0 and 1")
        if self.by not in ("time", "hash"):
            raise UnknownNameError("way to hold out", self.by, ("time", "hash"))

    def varies(self, shuffle: bool) -> bool:
        """Return whether every seed holds out other requests."""
        return shuffle and self.by == "time"

    def arriving(self, mask: npt.NDArray[np.bool_], order: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which requests are held out, (n,), if they arrive in `order`; `mask` is from `held_out`."""
        return mask if self.by == "time" else mask[order]


def held_out(recording: Recording, holdout: Holdout) -> npt.NDArray[np.bool_]:
    """Return which rows are held out, (n,), if the requests arrive in the order of the rows.

    Raises UsageError if that holds out all requests or none.
    """
    n = len(recording.rounds)
    if holdout.by == "time":
        mask = np.arange(n) >= n - round(holdout.share * n)
    else:
        limit = holdout.share * 2.0**64
        mask = np.array([_hashed(request_id) < limit for request_id in recording.rounds.request_ids])
    if mask.all() or not mask.any():
        raise UsageError(
            f"{recording.facts.path}: a hold-out of {holdout.share:g} by {holdout.by} holds out {mask.sum()} of {n} "
            "requests; it must hold out some and leave some"
        )
    return mask


def _hashed(request_id: str) -> int:
    return int.from_bytes(blake2b(request_id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
