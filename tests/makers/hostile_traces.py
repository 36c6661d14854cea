"""Traces that are small as files, and large or wrong inside."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

MEGABYTE = 10**6


def columns(count: int) -> dict[str, Any]:
    """Return the columns of a sound trace of two models."""
    return {
        "request_id": [f"r{row}" for row in range(count)],
        "prompt": ["p"] * count,
        "satisfied/a": [1.0] * count,
        "satisfied/b": [float(row % 2) for row in range(count)],
        "cost/a": [2.0] * count,
        "cost/b": [1.0] * count,
    }


def write(path: Path, changed: Mapping[str, Any], rows: int, metadata: Any = None, **options: Any) -> Path:
    """Write a trace in which some columns are changed."""
    table = pa.table(columns(rows) | changed).replace_schema_metadata(metadata)
    pq.write_table(table, path, compression="zstd", **options)
    return path


def repeated(texts: list[str], count: int) -> pa.Array:
    """Return a column that repeats a few texts, which a dictionary stores once."""
    return pa.DictionaryArray.from_arrays(pa.array(np.arange(count, dtype=np.int32) % len(texts)), pa.array(texts))


def utf8(*values: bytes) -> pa.Array:
    """Return a column of text that nobody has checked."""
    return pa.array(values, pa.large_binary()).view(pa.large_string())


LARGE = [letter * MEGABYTE for letter in "abcd"]
LARGE_TRACES: dict[str, Callable[[Path], Path]] = {
    "a dictionary of prompts": lambda path: write(
        path, {"prompt": repeated(LARGE, 16384)}, 16384, dictionary_pagesize_limit=10**8
    ),
    "a dictionary without Arrow's schema": lambda path: write(
        path, {"prompt": repeated(LARGE, 16384)}, 16384, dictionary_pagesize_limit=10**8, store_schema=False
    ),
    "prompts that share their beginning": lambda path: write(
        path,
        {"prompt": [LARGE[0] + str(row) for row in range(2000)]},
        2000,
        use_dictionary=False,
        column_encoding={"prompt": "DELTA_BYTE_ARRAY"},
    ),
    "four prompts of 100 MB": lambda path: write(path, {"prompt": [(letter * 10**8) for letter in "abcd"]}, 4),
    "a dictionary of ids": lambda path: write(
        path, {"request_id": repeated(LARGE, 16384)}, 16384, dictionary_pagesize_limit=10**8
    ),
    "a dictionary of served models": lambda path: write(
        path, {"served": repeated(LARGE, 16384)}, 16384, dictionary_pagesize_limit=10**8
    ),
    "two million rows of nothing": lambda path: write(
        path, {name: pa.nulls(2 * 10**6, pa.float64()) for name in columns(0)}, 2 * 10**6
    ),
}
"""Traces of less than a megabyte that would take gigabytes."""

ODD_METADATA = {
    "an infinite version": '{"version": 1e999}',
    "a version that is no number": '{"version": {}}',
    "deep brackets": "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "a list": "[]",
    "a number": "1",
    "models that are a number": '{"models": 1}',
    "a model's name in half": '{"models": ["\\ud800"]}',
    "a unit in half": '{"cost_unit": "\\ud800"}',
    "what is not UTF-8": b'{"meter": "\xff"}',
    "a number of many digits": '{"version": ' + "9" * 5000 + "}",
    "a newer version": json.dumps({"version": 10**30}),
}
"""Metadata that no trace has."""
