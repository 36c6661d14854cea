"""The feature cache: the features of a trace's prompts, stored so that prompts are hashed once.

The file is beside the trace, as `<trace>.features.npz`, or in a cache folder if the trace's folder is read-only. It may
be deleted at any time. A cache is used only if it was made from the same bytes by the same encoder. It is written aside
and renamed, so that two processes may write at once. Small traces have none (`Encoder.kept_from`).
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from messctl.errors import OutputError
from messctl.inputs import open_plain
from messctl.learning.cache_folders import cache_folders
from messctl.learning.features import Encoder, Features, width
from messctl.outputs import atomic_write
from messctl.trust import make_private


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """The cache of one trace: its `file`, and the `key` of the trace's content and the encoder."""

    file: Path
    key: str

    @classmethod
    def of(cls, trace: Path, encoder: Encoder) -> FeatureCache:
        """Return the cache of `trace`. This reads the whole trace once for the key, a gigabyte in about a second."""
        with open_plain(trace) as content:
            digest = hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        key = f"{encoder.version}, {width()} features, {digest}"
        beside = trace.with_name(f"{trace.name}.features.npz")
        if os.access(trace.parent, os.W_OK | os.X_OK):
            return cls(beside, key)
        folder = _first_writable(cache_folders()) or trace.parent
        return cls(folder / f"{digest}.features.npz", key)

    def read(self, rows: int) -> Features | None:
        """Return the features of all `rows` of the trace; None if the file is missing, broken, or of another trace."""
        try:
            with open_plain(self.file) as file, np.load(file, allow_pickle=False) as stored:
                packed = any(member.compress_type != zipfile.ZIP_STORED for member in stored.zip.infolist())
                if packed or str(stored["key"]) != self.key:  # a packed one may be far larger than the file
                    return None
                features = Features(stored["starts"], stored["indices"], stored["values"], width())
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error):
            return None
        return features if _whole(features, rows) else None

    def write(self, features: Features) -> None:
        """Store the features of all rows of the trace. A disk that refuses is no error: the cache is left out."""
        with suppress(OutputError, OSError):
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with atomic_write(self.file, private=True) as aside, aside.open("wb") as file:
                np.savez(
                    file,
                    key=np.array(self.key),
                    starts=features.starts,
                    indices=features.indices,
                    values=features.values,
                )


def _first_writable(folders: Iterable[Path]) -> Path | None:
    """Return the first folder that is this user's own, made if it did not exist; None if there is none."""
    for folder in folders:
        with suppress(OSError):
            if make_private(folder):
                return folder
    return None


def _whole(features: Features, rows: int) -> bool:
    """Tell whether the features have this number of rows, and only indices and values that are valid."""
    starts, indices, values = features.starts, features.indices, features.values
    return (
        [part.dtype.name for part in (starts, indices, values)] == ["int64", "int32", "float32"]
        and starts.ndim == indices.ndim == values.ndim == 1
        and len(starts) == rows + 1
        and starts[0] == 0
        and starts[-1] == len(indices) == len(values)
        and bool((np.diff(starts) >= 0).all())
        and bool(((indices >= 0) & (indices < features.width)).all())
        and bool(np.isfinite(values).all())
    )
