"""What the policies have learned, in the store's tables: a snapshot is read from them, and written to them.

An array of a policy is found by policy, model and name. `model` is empty if all models share the array. `cost_source`
is NULL if the array was not learned from costs. `shape` holds the lengths, separated by commas. The bytes of a large
array lie in several rows, one per piece of PIECE bytes: a decision changes a few of some ten thousand.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from messctl.errors import StoreError
from messctl.learning.snapshot import Arrays, ModelSnapshot, Snapshot
from messctl.state.database import EXPORT, ROW_ERRORS, Database, Row

SHARED = ""
"""The model's name in the row of an array that all models share."""

PIECE = 8192
"""The bytes of a piece of an array. Migrations have split what is stored at this length."""
LARGEST = 1e200
"""The largest number in an array. Costs are below 1e80."""
AT_ONCE = 100
"""How many rows a statement writes: databases limit its values, and the texts of statements stay in memory."""
# A piece that did not change is not written again: a request changes only a few of some dozens.
SAVE_ARRAYS = """
    INSERT INTO arrays (policy, model, name, piece, cost_source, type, shape, data, saved) VALUES {}
    ON CONFLICT (policy, model, name, piece) DO UPDATE SET
        cost_source = excluded.cost_source, type = excluded.type, shape = excluded.shape, data = excluded.data,
        saved = excluded.saved
    WHERE arrays.data <> excluded.data OR arrays.shape <> excluded.shape OR arrays.type <> excluded.type
        OR (arrays.cost_source IS NULL) <> (excluded.cost_source IS NULL)
        OR arrays.cost_source <> excluded.cost_source
"""
SAVED_SINCE = "WHERE policy = ? AND saved > ?"
DELETE_REST = "DELETE FROM arrays WHERE policy = ? AND model = ? AND name = ? AND piece >= ?"
"""Deletes the pieces that an array does not have any more."""
SAVE_ROUTER = """
    INSERT INTO router (id, decided, queue, balance, saves) VALUES (1, ?, ?, ?, 1)
    ON CONFLICT (id) DO UPDATE SET decided = excluded.decided, queue = excluded.queue, balance = excluded.balance,
        saves = router.saves + 1
"""
SAVE_MODELS = """
    INSERT INTO models (name, mean_cost, cost_count, cost_source) VALUES {}
    ON CONFLICT (name) DO UPDATE SET mean_cost = excluded.mean_cost, cost_count = excluded.cost_count,
        cost_source = excluded.cost_source
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """A snapshot as it was read. `saves` is the number of all saves before, and `begun` names the policy's arrays.

    Both serve to read only what was saved since. `begun` is another name whenever arrays were deleted.
    """

    snapshot: Snapshot
    saves: int = 0
    begun: str = ""

    def then(self, saved: Snapshot) -> Reading:
        """Return what a reading would give once `saved` was saved as the next one: what it lacks stays."""
        return replace(self, snapshot=_over(self.snapshot, saved), saves=self.saves + 1)


class PolicyArrays:
    """The state of the router and of its policies. Write inside a transaction of the store.

    Every method raises StoreError.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def stamp(self) -> tuple[int, int]:
        """A value that changes whenever something was saved here, by whomever. Use it in a transaction."""
        return self._database.stamp

    def later(self, save: Callable[[], None]) -> None:
        """Let something be saved at the end of the transaction, or before anything is read from here.

        What is saved changes with every request of the transaction, but it is written only once.
        """
        self._database.turn()
        self._database.later(save)

    def snapshot(self, policy: str = "") -> Snapshot:
        """Return the router's state, with what `policy` has learned; a fresh one if nothing was saved.

        Raises StoreError, also for a row that is no array, that holds NaN, or that belongs to no model.
        """
        return self.read(policy).snapshot

    def read(self, policy: str, earlier: Reading | None = None) -> Reading:
        """Return what `snapshot` does. Arrays that were not saved since an `earlier` reading are taken from there."""
        self._database.settle()
        found = self._database.kept("router")
        if not found:
            return Reading(Snapshot())
        router, models = found[0], self._database.kept("models")
        basis = next((row for row in self._database.kept("policies") if row["name"] == policy), None)
        since = earlier is not None and basis is not None and _continues(earlier, router, models, basis)
        known, saves = (earlier.snapshot, earlier.saves) if earlier and since else (Snapshot(), -1)
        arrays = self._database.table("arrays", SAVED_SINCE, (policy, saves))
        sources = {row["name"]: row["cost_source"] for row in models}
        of_shared = (row["cost_source"] for row in arrays if not row["model"] and row["cost_source"])
        sources[SHARED] = known.cost_source if since else next(of_shared, "")
        if since and any(row["cost_source"] not in (None, sources.get(row["model"])) for row in arrays):
            return self.read(policy)
        plain = {name: dict(known.models.get(name, ModelSnapshot()).arrays) for name in sources}
        of_costs = {name: dict(known.models.get(name, ModelSnapshot()).cost_arrays) for name in sources}
        plain[SHARED], of_costs[SHARED] = dict(known.shared), dict(known.cost_shared)
        for (_, model, name), pieces in _by_array(arrays).items():
            source = pieces[0]["cost_source"]
            into = plain if source is None else of_costs
            array = self._array(pieces, sources, into.get(model, {}).get(name))
            if source in (None, sources[model]):
                # Any other source was replaced while another policy served: what this one learned from it is void.
                into[model][name] = array
        snapshot = Snapshot(
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
        return Reading(snapshot, router["saves"], basis["begun"] if basis else "")

    def expect(self, policy: str, earlier: Reading) -> None:
        """Say that what others save is read next on top of this reading."""
        self._database.expect("arrays", f"SELECT * FROM arrays {SAVED_SINCE}", (policy, earlier.saves))

    def queue(self) -> float:
        """Return the virtual queue, ≥ 0."""
        self._database.settle()
        found = self._database.kept("router")
        return float(found[0]["queue"]) if found else 0.0

    def version(self, policy: str) -> int:
        """Return the version of what `policy` has learned; 0 if nothing was saved."""
        self._database.settle()
        found = self._database.table("policies", "WHERE name = ?", (policy,))
        return int(found[0]["version"]) if found else 0

    def save(self, snapshot: Snapshot, saved: Snapshot | None = None) -> None:
        """Save the router's state. What is known of models that the snapshot lacks stays, as does every other policy's.

        If the policy's arrays are of another version or encoder than those saved earlier, the earlier ones are deleted.
        `saved` is the snapshot that was saved last, if that is known: what is the same in both is not written again.
        """
        self._database.settle()
        self._database.turn()
        if saved is not None and _basis(saved) != _basis(snapshot):
            saved = None
        self._database.execute(SAVE_ROUTER, _counts(snapshot))
        known = set() if saved is None else set(_costs(saved))
        self._save_rows(SAVE_MODELS, [row for row in _costs(snapshot) if row not in known])
        if saved is None:
            self._begin(snapshot)
        written = {} if saved is None else {row[:3]: row[3:] for row in _rows(saved)}
        changed = [(row, before) for row in _rows(snapshot) if not _same(row[3:], before := written.get(row[:3]))]
        pieces = [piece for row, before in changed for piece in _changed_pieces(row, before)]
        self._save_rows(SAVE_ARRAYS, pieces, "(SELECT saves FROM router)")
        shorter = [row for row, before in changed if before is None or before[1].nbytes > row[4].nbytes]
        self._database.execute_many(DELETE_REST, [(*row[:3], len(_pieces(row[4]))) for row in shorter])

    def _save_rows(self, statement: str, rows: Sequence[tuple[Any, ...]], *more: str) -> None:
        """Save rows by a statement in which {} stands for the values of AT_ONCE rows, and `more` for further ones."""
        for start in range(0, len(rows), AT_ONCE):
            some = rows[start : start + AT_ONCE]
            values = f"({', '.join([*('?' * len(some[0])), *more])})"
            self._database.execute(statement.format(", ".join([values] * len(some))), list(chain.from_iterable(some)))

    def _begin(self, snapshot: Snapshot) -> None:
        """Make place for a policy's arrays."""
        known = self._database.row("SELECT name, version, encoder FROM policies WHERE name = ?", (snapshot.policy,))
        if known is None or tuple(known) != _basis(snapshot):
            self.forget(snapshot.policy)
            begun = secrets.token_hex(8)
            self._database.execute("INSERT INTO policies VALUES (?, ?, ?, ?)", (*_basis(snapshot), begun))

    def forget(self, policy: str) -> None:
        """Delete what a policy has learned, except mean costs."""
        self._database.settle()
        self._database.turn()
        self._database.execute("DELETE FROM arrays WHERE policy = ?", (policy,))
        self._database.execute("DELETE FROM policies WHERE name = ?", (policy,))

    def check(self) -> Iterator[str]:
        """Yield which arrays are damaged, one line each."""
        models = {SHARED, *(row["name"] for row in self._database.table("models"))}
        for pieces in _by_array(self._database.table("arrays")).values():
            try:
                self._array(pieces, models)
            except StoreError as error:
                yield str(error)

    def _array(
        self, pieces: Sequence[Row], models: Container[str], earlier: npt.NDArray[Any] | None = None
    ) -> npt.NDArray[Any]:
        """Return the array that lies in some pieces: all of them, or those that changed since an `earlier` one."""
        row = pieces[0]
        try:
            if row["model"] not in models:
                raise ValueError("nothing else is known of that model")
            if len({(each["cost_source"], each["type"], each["shape"]) for each in pieces}) > 1:
                raise ValueError("its pieces do not belong together")
            kind = np.dtype(row["type"])
            if kind.kind not in "biuf":
                raise ValueError(f"{row['type']!r} is not a type of numbers")
            shape = [int(length) for length in row["shape"].split(",") if length]
            known: list[bytes] = []
            if earlier is not None and _form(earlier) == (row["type"], row["shape"]):
                known = _pieces(earlier)  # of another form, none is left
            data = _joined(pieces, math.prod(shape) * kind.itemsize, known)
            array = np.frombuffer(data, kind).astype(kind.newbyteorder("="), copy=False).reshape(shape)
            if kind.kind == "f" and np.isnan(array).any():
                raise ValueError("it holds what is not a number")
            if kind.kind == "f" and (np.abs(array[np.isfinite(array)]) > LARGEST).any():
                raise ValueError("it holds a number that is too large")
        except ROW_ERRORS as error:
            of = f" of {row['model']!r}" if row["model"] else ""
            what = f"the array {row['name']!r}{of} that policy {row['policy']!r} learned is damaged ({error})"
            raise self._database.failure(what, EXPORT) from error
        return array


ArrayRow = tuple[str, str, str, str | None, npt.NDArray[Any]]
"""Policy, model, name, the source of the costs that it was learned from, and the array."""


def _continues(earlier: Reading, router: Row, models: Sequence[Row], basis: Row) -> bool:
    """Return whether all that has changed since an earlier reading was saved since: nothing was deleted or is void."""
    known = earlier.snapshot.models
    return (
        earlier.begun == basis["begun"]
        and earlier.saves <= router["saves"]
        and (earlier.snapshot.policy, earlier.snapshot.version) == (basis["name"], basis["version"])
        and all(row["name"] not in known or known[row["name"]].cost_source == row["cost_source"] for row in models)
    )


def _over(earlier: Snapshot, saved: Snapshot) -> Snapshot:
    """Return what is stored once a snapshot is saved over an `earlier` one: models and arrays that it lacks stay."""
    if _basis(earlier) != _basis(saved):
        return saved
    models = dict(earlier.models)
    for name, new in saved.models.items():
        old = models.get(name, ModelSnapshot())
        costs = old.cost_arrays if old.cost_source == new.cost_source else {}
        models[name] = replace(new, arrays={**old.arrays, **new.arrays}, cost_arrays={**costs, **new.cost_arrays})
    costs = earlier.cost_shared if earlier.cost_source == saved.cost_source else {}
    shared, cost_shared = {**earlier.shared, **saved.shared}, {**costs, **saved.cost_shared}
    return replace(saved, shared=shared, cost_shared=cost_shared, models=models)


def _basis(snapshot: Snapshot) -> tuple[str, int, str]:
    return snapshot.policy, snapshot.version, snapshot.encoder


def _counts(snapshot: Snapshot) -> tuple[int, float, float]:
    return snapshot.decided, snapshot.queue, snapshot.balance


def _costs(snapshot: Snapshot) -> list[tuple[str, float, int, str]]:
    return [(name, each.mean_cost, each.cost_count, each.cost_source) for name, each in snapshot.models.items()]


def _rows(snapshot: Snapshot) -> Iterator[ArrayRow]:
    def rows(model: str, arrays: Arrays, source: str | None) -> Iterator[ArrayRow]:
        for name, array in arrays.items():
            yield snapshot.policy, model, name, source, array

    yield from rows(SHARED, snapshot.shared, None)
    yield from rows(SHARED, snapshot.cost_shared, snapshot.cost_source)
    for name, model in snapshot.models.items():
        yield from rows(name, model.arrays, None)
        yield from rows(name, model.cost_arrays, model.cost_source)


def _same(one: tuple[str | None, npt.NDArray[Any]], other: tuple[str | None, npt.NDArray[Any]] | None) -> bool:
    if other is None or one[0] != other[0]:
        return False
    new, old = one[1], other[1]
    return (new.dtype, new.shape) == (old.dtype, old.shape) and new.tobytes() == old.tobytes()  # faster than numpy's


def _changed_pieces(row: ArrayRow, before: tuple[str | None, npt.NDArray[Any]] | None) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the table for the changed pieces of an array; all if it has another form."""
    *key, source, array = row
    form = _form(array)
    known = [] if before is None or (before[0], _form(before[1])) != (source, form) else _pieces(before[1])
    for number, piece in enumerate(_pieces(array)):
        if not known or piece != known[number]:
            yield *key, number, source, *form, piece


def _form(array: npt.NDArray[Any]) -> tuple[str, str]:
    """Return the type and the shape of an array as they are stored."""
    return array.dtype.newbyteorder("<").str, ",".join(map(str, array.shape))


def _pieces(array: npt.NDArray[Any]) -> list[bytes]:
    """Return the bytes of an array in pieces; at least one, which may be empty."""
    data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return [data[start : start + PIECE] for start in range(0, max(1, len(data)), PIECE)]


def _joined(pieces: Sequence[Row], size: int, known: Sequence[bytes]) -> bytes:
    """Return the `size` bytes of an array whose other pieces are `known`. Raises ValueError if one is missing."""
    data = dict(enumerate(known)) | {row["piece"]: row["data"] for row in pieces}
    lengths = [len(data.get(number, b"")) for number in range(len(data))]
    if any(length != PIECE for length in lengths[:-1]) or sum(lengths) != size:
        raise ValueError("its pieces do not fill its shape")
    return b"".join(data[number] for number in range(len(data)))


def _by_array(rows: Iterable[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """Return the rows of pieces by array: by policy, model and name."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["policy"], row["model"], row["name"]), []).append(row)
    return found
