"""Open what the live commands work on: the state, and the router with its zoo and backends."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from messctl.cli.output import warn
from messctl.errors import StoreError
from messctl.state.place import refuse_foreign_link

if TYPE_CHECKING:
    from messctl.backends.base import Backend
    from messctl.graders import Grader
    from messctl.live.router import Router
    from messctl.state.place import Place
    from messctl.state.store import Store
    from messctl.zoo import Grading, Settings, ZooFile
    from messctl.zoo.state_place import StatePlace
    from messctl.zoo.tenants import Tenant


def state_of(state: Place | None, zoo: Path | None) -> Place | None:
    """Return where the state is: the place given, or that in the zoo file; None if neither names one."""
    from messctl.zoo import load_state_place

    return _named(load_state_place(zoo)) if state is None else state


def _named(place: StatePlace) -> Place | None:
    """Return the place that a zoo names."""
    from messctl.state.place import place_of

    return place.path if place.url is None else place_of(place.url)


def state_path(state: Place | None, zoo: Path | None = None, *, required: bool = False) -> Place:
    """Return where the state is: the place given, the zoo's, or the default. If there is none at a named place, warn.

    Raises StoreError instead of the warning if the state is `required`, or could not be created at that path.
    """
    from messctl.state.databases import is_there
    from messctl.state.store import default_path

    where = "--state or MESSCTL_STATE" if state is not None else "`state` in the zoo file"
    state = state_of(state, zoo)
    if state is None:
        return default_path()
    if not is_there(state):
        missing = f"{state}: there is no state; correct {where}, or create it with `messctl ask`"
        if required or (isinstance(state, Path) and _cannot_be_made(state)):
            raise StoreError(missing)
        warn(missing)
    return state


def _cannot_be_made(path: Path) -> bool:
    return path.is_symlink() or any(each.exists() and not each.is_dir() for each in path.parents)


def warn_of_shared_state(path: Place) -> None:
    """Warn if others may read a state file, or if it belongs to somebody else: it holds prompts and answers."""
    if not isinstance(path, Path):
        return
    import shlex

    from messctl.trust import READABLE, is_foreign, owner

    try:
        found = path.stat()
    except OSError:  # there is none yet
        return
    if is_foreign(found):
        warn(f"{path}: belongs to {owner(found)}, who can read what you ask; name another place with --state")
    elif found.st_mode & READABLE and os.name == "posix":
        closing = f"chmod 600 {shlex.quote(str(path))}"
        warn(f"{path}: its permissions let others read your prompts and the answers; close it: {closing}")


def open_zoo(zoo: Path | None) -> ZooFile:
    """Return the zoo in a file: the one named, ./zoo.yaml, or the one in the box. See `warn_of_foreign_zoo`."""
    from messctl.zoo import load_zoo

    described = load_zoo(zoo)
    warn_of_foreign_zoo(zoo)
    return described


def warn_of_foreign_zoo(zoo: Path | None) -> None:
    """Warn if no zoo was named, and somebody else can change the ./zoo.yaml that is read: it says where prompts go."""
    from messctl.trust import is_foreign, owner
    from messctl.zoo import DEFAULT_FILE

    if zoo is not None or not DEFAULT_FILE.is_file():
        return
    for found in (DEFAULT_FILE.lstat(), DEFAULT_FILE.stat()):
        open_to_all = os.name == "posix" and not stat.S_ISLNK(found.st_mode) and found.st_mode & stat.S_IWOTH
        if is_foreign(found) or open_to_all:
            who = f"belongs to {owner(found)}" if is_foreign(found) else "can be changed by everybody"
            warn(f"./{DEFAULT_FILE} {who}, and says where prompts and keys go; name the zoo that you trust with --zoo")
            return


def open_state(state: Place | None, zoo: Path | None = None, *, required: bool = False) -> Store:
    """Open the state for reading only; see `state_path`."""
    from messctl.state.store import Store

    path = state_path(state, zoo, required=required)
    refuse_foreign_link(path)
    store = Store(path, looking=True)
    warn_of_shared_state(path)
    return store


def open_backends(zoo_file: ZooFile) -> Backend:
    """Return one backend for all models of a zoo; its warnings go to stderr."""
    from messctl.live.opening import backends_of

    return backends_of(zoo_file, warn)


@contextmanager
def open_router(
    zoo: Path | None,
    state: Place | None,
    *,
    log: bool = True,
    accept_empty: bool = False,
    through: Callable[[Backend], Backend] | None = None,
    grader_of: Callable[[Grading | None], Grader | None] | None = None,
    **settings: Any,
) -> Iterator[Router]:
    """Yield the router of a zoo file and a state. Each of `settings` that is not None replaces the zoo file's.

    If `log` is off, the state is copied into memory, and changes to the copy are lost. `through` wraps the backend.
    `grader_of` makes the grader of every answer out of the zoo's; by default it is the zoo's if it needs no reference.
    With `accept_empty`, an empty answer is an answer like others.
    """
    from messctl.live.grading import live_grader
    from messctl.live.opening import router_over

    described = open_zoo(zoo)
    given = {name: value for name, value in settings.items() if value is not None}
    if described.grader is not None and described.grader.doubt:
        warn(described.grader.doubt)
    grader = (grader_of or live_grader)(described.grader)
    with _writable_store(state or _named(described.state), log=log) as store:
        _mention_models_nearby(described)
        if log:
            _mention_relearning(store)
        backend = open_backends(described)
        answering = through(backend) if through else backend
        try:
            yield router_over(
                described, store, answering, replace(described.settings, **given), grader, accept_empty=accept_empty
            )
        finally:
            answering.close()
        if log and described.state.keep is not None:
            _prune_some(store, described.state.keep)


@contextmanager
def open_routers(
    described: ZooFile, state: Place | None, backend: Backend, full: Callable[[], Iterable[str]], *, log: bool
) -> Iterator[dict[str, Router]]:
    """Yield a router for each tenant of a zoo, by name; for a zoo without tenants, the one of the empty name.

    Each tenant has a state of its own, beside the `state`. That one keeps what is learned of models for all of them.
    """
    from messctl.backends import encoder_of
    from messctl.costs.meter_choice import meter_for
    from messctl.live.grading import live_grader
    from messctl.live.opening import loads_of
    from messctl.live.retention import pruned_beside
    from messctl.live.router import Router

    meter, path = meter_for(described), common_path(described, state)
    if described.grader is not None and described.grader.doubt:
        warn(described.grader.doubt)
    grader, encoder, loads = live_grader(described.grader), encoder_of(described.settings), loads_of(described, meter)
    with ExitStack() as stack:
        stack.callback(backend.close)
        common = stack.enter_context(_writable_store(path, log=log))
        _mention_models_nearby(described)
        if log:
            _mention_relearning(common)
        routers, stores = {}, [common]
        for tenant in described.tenants or (None,):
            names = tenant.models if tenant and tenant.models else described.names
            models = {name: described.model(name) for name in names}
            store = stack.enter_context(_writable_store(tenant_path(path, tenant.name), log=log)) if tenant else common
            stores += [store] if tenant else []
            routers[tenant.name if tenant else ""] = Router(
                models,
                _settings_of(described.settings, tenant, models),
                backend,
                meter,
                store,
                grader,
                encoder,
                loads,
                full=full,
                shared=common if tenant else None,
            )
        if log:
            stack.enter_context(pruned_beside(stores, described.state.keep, warn))
        for store in stores:
            stack.enter_context(store.tended())
        yield routers


def _prune_some(store: Store, keep_s: float) -> None:
    """Prune some old requests after the work is done, which may not fail any more."""
    from messctl.live.retention import prune_some

    try:
        prune_some(store, keep_s)
    except StoreError as error:
        warn(str(error))


def common_path(described: ZooFile, state: Place | None) -> Place:
    """Return where the state of a server is; with tenants, what is learned for all of them."""
    from messctl.state.store import default_path

    return state or _named(described.state) or default_path()


def tenant_path(state: Place, tenant: str) -> Place:
    """Return where a tenant's state is: a file, or a schema, beside the one of all tenants."""
    if not isinstance(state, Path):
        return state.of_tenant(tenant)
    return state.with_name(f"{state.stem}-{tenant}{state.suffix}")


def _settings_of(settings: Settings, tenant: Tenant | None, models: Container[str]) -> Settings:
    """Return the settings for a tenant, who may have a promise of its own, and fewer models."""
    if tenant is None:
        return settings
    alpha = settings.alpha if tenant.alpha is None else tenant.alpha
    margin = settings.margin if tenant.margin is None else tenant.margin
    reference = settings.reference if settings.reference in models else None
    return replace(settings, alpha=alpha, margin=margin, reference=reference)


def _mention_models_nearby(zoo_file: ZooFile) -> None:
    """Warn that the models in the box answer, if this folder holds models and no zoo.yaml names them."""
    from messctl.zoo import PACKAGED_FILE

    if zoo_file.path == PACKAGED_FILE and any(Path().glob("*.gguf")):
        warn("there is no zoo.yaml here, so the tiny models in the box answer; `messctl zoo init` writes one")


def _mention_relearning(store: Store) -> None:
    """Warn if an earlier version of the bandit kept this state: its next request forgets what that knew of prompts."""
    from messctl.policies.bandit import STATE_VERSION

    if 0 < store.policy.version("bandit") < STATE_VERSION:
        warn("how prompts differ is learned anew by this version of the bandit; requests, feedback and debt stay")


@contextmanager
def _writable_store(state: Place | None, *, log: bool) -> Iterator[Store]:
    """Open the state; without `log`, a copy of it in memory, which is empty if there is no state."""
    from messctl.state.store import Store, default_path

    path = state or default_path()
    refuse_foreign_link(path)
    with Store(path, looking=not log) as stored:
        warn_of_shared_state(path)
        if log:
            yield stored
        else:
            with stored.in_memory() as copy:
                yield copy


def history_path(state: Place) -> Path:
    """Return the file, beside the state, that holds what was typed in chats; in the user's folder for a database."""
    from messctl.state.store import default_path

    path = state if isinstance(state, Path) else default_path()
    return path.with_name(f"{path.name}-chat")


def state_files(state: Place) -> list[Path]:
    """Return the files of a state, and what lies beside it."""
    from messctl.state.sqlite_file import files

    return [*(files(state) if isinstance(state, Path) else []), history_path(state)]
