"""What was learned, in the store's tables: a snapshot is read from them, and written to them.

A policy's arrays are BLOBs, a row each, by policy, model and name. `model` is empty where all models share the array,
`cost_source` NULL where it was not learned from costs, `shape` the lengths with commas between them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from messctl.learning.snapshot import Arrays, ModelSnapshot, Snapshot

SHARED = ""
"""Stands for the model of an array that all models share."""

# What is as it was is not written again: of some dozens of arrays, a request changes a few.
SAVE_ARRAY = """
    INSERT INTO arrays VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (policy, model, name) DO UPDATE SET
        cost_source = excluded.cost_source, type = excluded.type, shape = excluded.shape, data = excluded.data
    WHERE data IS NOT excluded.data OR cost_source IS NOT excluded.cost_source OR shape IS NOT excluded.shape
        OR type IS NOT excluded.type
"""


def read(database: sqlite3.Connection, policy: str) -> Snapshot:
    """Return the router's state, with what `policy` has learned; a fresh one where nothing was saved.

    Raises sqlite3.DataError for a row that is no array, or that belongs to no model.
    """
    router = database.execute("SELECT * FROM router").fetchone()
    if router is None:
        return Snapshot()
    models = database.execute("SELECT * FROM models").fetchall()
    basis = database.execute("SELECT * FROM policies WHERE name = ?", (policy,)).fetchone()
    arrays = database.execute("SELECT * FROM arrays WHERE policy = ?", (policy,)).fetchall()
    sources = {row["name"]: row["cost_source"] for row in models}
    sources[SHARED] = next((row["cost_source"] for row in arrays if not row["model"] and row["cost_source"]), "")
    plain: dict[str, dict[str, npt.NDArray[Any]]] = {name: {} for name in sources}
    of_costs: dict[str, dict[str, npt.NDArray[Any]]] = {name: {} for name in sources}
    for row in arrays:
        array = _array(row, sources)
        if row["cost_source"] is None:
            plain[row["model"]][row["name"]] = array
        elif row["cost_source"] == sources[row["model"]]:
            # Otherwise costs came from elsewhere while another policy served, and what this one knows of them is void.
            of_costs[row["model"]][row["name"]] = array
    return Snapshot(
        decided=router["decided"],
        queue=router["queue"],
        balance=router["balance"],
        policy=basis["name"] if basis else "",
        version=basis["version"] if basis else 0,
        encoder=basis["encoder"] if basis else "",
        cost_source=sources[SHARED],
        shared=plain[SHARED],
        cost_shared=of_costs[SHARED],
        models={
            row["name"]: ModelSnapshot(
                mean_cost=row["mean_cost"],
                cost_count=row["cost_count"],
                cost_source=row["cost_source"],
                arrays=plain[row["name"]],
                cost_arrays=of_costs[row["name"]],
            )
            for row in models
        },
    )


def write(database: sqlite3.Connection, snapshot: Snapshot) -> None:
    """Save the router's state over what there was; see `Store.save` for what stays."""
    database.execute(
        "INSERT OR REPLACE INTO router VALUES (1, ?, ?, ?)", (snapshot.decided, snapshot.queue, snapshot.balance)
    )
    database.executemany(
        "INSERT OR REPLACE INTO models VALUES (?, ?, ?, ?)",
        [(name, model.mean_cost, model.cost_count, model.cost_source) for name, model in snapshot.models.items()],
    )
    basis = (snapshot.policy, snapshot.version, snapshot.encoder)
    known = database.execute("SELECT * FROM policies WHERE name = ?", (snapshot.policy,)).fetchone()
    if known is None or tuple(known) != basis:
        forget(database, snapshot.policy)
        database.execute("INSERT INTO policies VALUES (?, ?, ?)", basis)
    database.executemany(SAVE_ARRAY, _rows(snapshot))


def forget(database: sqlite3.Connection, policy: str) -> None:
    """Forget what a policy has learned, mean costs aside."""
    database.execute("DELETE FROM arrays WHERE policy = ?", (policy,))
    database.execute("DELETE FROM policies WHERE name = ?", (policy,))


def policies(database: sqlite3.Connection) -> list[str]:
    """Return the names of the policies of which arrays are kept."""
    return [row[0] for row in database.execute("SELECT DISTINCT policy FROM arrays")]


def _array(row: sqlite3.Row, models: Container[str]) -> npt.NDArray[Any]:
    try:
        if row["model"] not in models:
            raise ValueError("nothing else is known of that model")
        kind = np.dtype(row["type"])
        if kind.kind not in "biuf":
            raise ValueError(f"{row['type']!r} is no type of numbers")
        shape = [int(length) for length in row["shape"].split(",") if length]
        return np.frombuffer(row["data"], kind).astype(kind.newbyteorder("="), copy=False).reshape(shape)
    except (ValueError, TypeError, SyntaxError, AttributeError, OverflowError) as error:
        of = f" of {row['model']!r}" if row["model"] else ""
        what = f"the array {row['name']!r}{of} that policy {row['policy']!r} learned is damaged ({error})"
        raise sqlite3.DataError(what) from error


def _rows(snapshot: Snapshot) -> Iterator[tuple[Any, ...]]:
    def rows(model: str, arrays: Arrays, source: str | None) -> Iterator[tuple[Any, ...]]:
        for name, array in arrays.items():
            stored = array.astype(array.dtype.newbyteorder("<"), copy=False)
            shape = ",".join(map(str, array.shape))
            yield snapshot.policy, model, name, source, stored.dtype.str, shape, stored.tobytes()

    yield from rows(SHARED, snapshot.shared, None)
    yield from rows(SHARED, snapshot.cost_shared, snapshot.cost_source)
    for name, model in snapshot.models.items():
        yield from rows(name, model.arrays, None)
        yield from rows(name, model.cost_arrays, model.cost_source)
