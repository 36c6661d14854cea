"""The router as a program uses it: it decides for the program's own models, or asks the models of a zoo."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from messctl.backends import encoder_of
from messctl.costs.meter_choice import meter_for
from messctl.errors import StoreError, UsageError
from messctl.library.notebook import as_html
from messctl.library.settings import settings_with, stated
from messctl.live.decisions import Decisions
from messctl.live.grading import live_grader
from messctl.live.opening import backends_of, router_over
from messctl.live.retention import prune_some
from messctl.live.router import Answered
from messctl.live.router import Router as LiveRouter
from messctl.records import Decision, Question
from messctl.state.ledger import Standing
from messctl.state.place import Place, place_of, refuse_foreign_link
from messctl.state.store import Store, default_path
from messctl.zoo import Settings, Zoo, ZooFile, costliest, load_zoo
from messctl.zoo.file import load_state_place, own_models
from messctl.zoo.state_place import StatePlace

Models = Mapping[str, float | None] | Sequence[str]
"""Models that the caller runs: by name, maybe with their cost per request."""
METER = "stated by the program"


class Router:
    """An open router, and a context manager that closes it. `open_router` makes one.

    `decide` and `learn` are for models that the program runs itself, `ask` for those of a zoo file. Threads may not use
    one router at once, but several routers, in several processes, may use one state.
    """

    def __init__(
        self,
        models: Mapping[str, float | None],
        settings: Settings,
        store: Store,
        unit: str,
        described: ZooFile | None = None,
        keep_s: float | None = None,
    ) -> None:
        self._stack = ExitStack()
        self._stack.callback(store.close)
        self._costs = models
        self._settings = settings
        self._store = store
        self._unit = unit
        self._described = described
        self._keep_s = keep_s

    @cached_property
    def zoo(self) -> Zoo:
        """The models' names, sorted, and the reference: the most capable one."""
        return self._live.zoo if self._described else Zoo.of(self._costs, _reference(self._costs, self._settings))

    @property
    def alpha(self) -> float:
        """The promised share of satisfied answers, 0..1."""
        return self._settings.alpha

    def decide(self, prompt: str, *, request_id: str | None = None, without: Iterable[str] = ()) -> Decision:
        """Return which model is to answer a prompt: `decision.served`. Then call `learn`.

        `request_id` must be new; by default it is a random one, `decision.request.request_id`. The models `without`
        cannot answer now, and are left out. Raises UsageError, StoreError.
        """
        return self._decisions.decide(prompt, request_id, without)

    def learn(
        self,
        decision: Decision | str,
        *,
        satisfied: float | bool | None = None,
        cost: float | None = None,
        answer: str | None = None,
    ) -> Standing:
        """Learn what came of a decision, or of the request with this id. Return how well the promise is kept.

        `cost` ≥ 0 is what the answer cost; it may be left out if the model has a stated cost, or if it was given
        before. `satisfied` (0..1, or whether) may come later, even from another process; a second corrects the first.
        `answer` is stored with the request. Raises UsageError, StoreError.
        """
        request_id = decision if isinstance(decision, str) else decision.request.request_id
        with self._store.unchanging():
            logged = self._store.requests.find(request_id)
        if cost is None and not logged.answers:
            cost = self._costs.get(logged.decision.served)
        level = None if satisfied is None else float(satisfied)
        self._decisions.learn(logged.decision.request.request_id, level, cost, answer)
        if self._keep_s is not None:
            with suppress(StoreError):  # it is learned
                prune_some(self._store, self._keep_s)
        return self.standing()

    def ask(
        self,
        prompt: str,
        *,
        system: str | None = None,
        max_tokens: int | None = None,
        expect: str | None = None,
        model: str | None = None,
    ) -> Answered:
        """Route a prompt to a model of the zoo file, and return its answer: `completion.answer`.

        `expect` grades the answer as `messctl ask --expect` does. `model` answers instead of the router's choice.
        Raises UsageError if the program runs the models, BackendError if no model answers, StoreError.
        """
        if self._described is None:
            raise UsageError("the program runs these models itself; call decide, run the model, then call learn")
        grader = None if expect is None else live_grader(self._described.grader, expect)
        return self._live.ask(Question(prompt, system=system, max_tokens=max_tokens), model=model, grader=grader)

    def standing(self) -> Standing:
        """Return how well the promise is kept so far. Raises StoreError."""
        return Standing.of(self._store)

    def close(self) -> None:
        """Unload the models and close the state."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Router of {', '.join(self.zoo.models)}: {_said(self.standing(), self.alpha)}>"

    def _repr_html_(self) -> str:
        return as_html(repr(self)[1:-1])

    @cached_property
    def _live(self) -> LiveRouter:
        if self._described is None:
            raise UsageError("the program runs these models itself")
        backend = backends_of(self._described, warnings.warn)
        self._stack.callback(backend.close)
        grader = live_grader(self._described.grader)
        return router_over(self._described, self._store, backend, self._settings, grader)

    @cached_property
    def _decisions(self) -> Decisions:
        meter = METER
        if self._described is not None:
            found = meter_for(self._described)
            self._unit, meter = found.unit, found.source
        return Decisions(self.zoo, self._settings, self._store, self._unit, meter, encoder_of(self._settings))


def open_router(
    zoo: str | os.PathLike[str] | Models | None = None,
    state: str | os.PathLike[str] | None = None,
    *,
    unit: str = "unit",
    **settings: Any,
) -> Router:
    """Open the router of a zoo and a state.

    `zoo` is a zoo file, by default ./zoo.yaml or the zoo in the box; or the models that the program runs: a list of
    names, the most capable last, or a mapping of names to costs per request, None if they vary. A zoo file is such a
    list, too, if none of its models has a path or a url. `unit` is the unit of their costs. `state` is a file, the
    address of a PostgreSQL database, or ":memory:"; by default that of the zoo file, or else of `messctl ask`.
    `settings` are those of `messctl.zoo.Settings`, such as `alpha`. Raises UsageError, ConfigError, StoreError.
    """
    if not (zoo is None or isinstance(zoo, str | os.PathLike)):
        models = dict(zoo) if isinstance(zoo, Mapping) else dict.fromkeys(zoo)
        if len(models) != len(zoo):
            raise UsageError("two models have one name; give each its own")
        if not models:
            raise UsageError("there is no model; name at least one")
        return _own(models, settings_with(None, settings), state, unit, StatePlace())
    path = None if zoo is None else Path(zoo)
    own = None if path is None else own_models(path)
    if own is not None:
        return _own(own, settings_with(path, settings), state, unit, load_state_place(path))
    described = load_zoo(path)
    known = stated(described.settings, settings)
    store = _store(state, described.state)
    return Router(dict.fromkeys(described.names), known, store, unit, described, described.state.keep)


def _own(
    models: Mapping[str, float | None],
    settings: Settings,
    state: str | os.PathLike[str] | None,
    unit: str,
    place: StatePlace,
) -> Router:
    """Return the router of models that the program runs."""
    Zoo.of(models, _reference(models, settings))  # the state is not made for a zoo that cannot be
    return Router(models, settings, _store(state, place), unit, keep_s=place.keep)


def _store(state: str | os.PathLike[str] | None, place: StatePlace) -> Store:
    """Open the state: the one that is named, the zoo's, or the user's."""
    if state is not None:
        path: Place = place_of(os.fspath(state))
    else:
        path = (place.path if place.url is None else place_of(place.url)) or default_path()
    refuse_foreign_link(path)
    return Store(path)


def _reference(costs: Mapping[str, float | None], settings: Settings) -> str:
    """Return the reference: the one that is stated, the costliest, or the last if no cost is known."""
    known = {name: cost for name, cost in costs.items() if cost is not None}
    return settings.reference or (costliest(known) if known else list(costs)[-1])


def _said(standing: Standing, alpha: float) -> str:
    attained = "no feedback yet" if standing.attained is None else f"attained {standing.attained:.4f}"
    return f"{attained} of {alpha:g} over {standing.judged:,}"
