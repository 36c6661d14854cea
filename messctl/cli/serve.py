"""`messctl serve`: any program that speaks OpenAI's protocol asks the router, under the promise."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from messctl.cli.arguments import REQUESTS, AlphaOption, LogOption, StateOption, ZooOption, in_range, option
from messctl.cli.command import ASK, Command
from messctl.cli.opening import common_path, open_backends, open_routers, open_zoo
from messctl.cli.output import print_line, write_lines
from messctl.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from messctl.live.router import Router
    from messctl.state.place import Place
    from messctl.zoo.tenants import Tenant

EPILOG = "Example: messctl serve --port 8080"
MOST_BODY, MOST_GRACE_S = 2**31, 86_400

ActionArgument = Annotated[str | None, typer.Argument(help="key: make a key for a tenant, print it, and exit.")]
NameArgument = Annotated[str | None, typer.Argument(help="The name of the tenant.")]
HostOption = Annotated[str, option("--host", "The address to listen at.", REQUESTS, metavar="NAME")]
PortOption = Annotated[
    int,
    option("--port", "The port; 0 takes a free one.", REQUESTS, metavar="N", callback=in_range(0, 65535)),
]
QueueOption = Annotated[
    int,
    option(
        "--queue",
        "How many requests may wait for a model in this process.",
        REQUESTS,
        metavar="N",
        callback=in_range(0, 10_000),
    ),
]
GraceOption = Annotated[
    float,
    option(
        "--grace",
        "How long answers may go on after SIGTERM.",
        REQUESTS,
        metavar="SECONDS",
        callback=in_range(0, MOST_GRACE_S),
    ),
]
MaxBodyOption = Annotated[
    int | None,
    option(
        "--max-body",
        "The longest request, in bytes. Default: 32 million.",
        REQUESTS,
        metavar="N",
        callback=in_range(1, MOST_BODY),
    ),
]
CheckOption = Annotated[
    bool,
    option("--check", "Start, ask one question, print the answer's model, and exit.", REQUESTS),
]
ShowPromptsOption = Annotated[bool, option("--show-prompts", "Show prompts and answers on the page.", REQUESTS)]


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("serve", cls=Command, epilog=EPILOG, rich_help_panel=ASK)(serve)


def serve(
    action: ActionArgument = None,
    name: NameArgument = None,
    zoo: ZooOption = None,
    state: StateOption = None,
    alpha: AlphaOption = None,
    log: LogOption = True,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8080,
    queue: QueueOption = 64,
    grace: GraceOption = 30.0,
    max_body: MaxBodyOption = None,
    check: CheckOption = False,
    show_prompts: ShowPromptsOption = False,
) -> None:
    """Serve OpenAI's protocol: the router answers chat requests of any client, and learns from feedback.

    `messctl serve key NAME` makes a key for a tenant of the zoo, and serves nothing.
    """
    _check_installed()
    if action is not None:
        _print_key(action, name)
        return
    from messctl.server.accounts import Accounts
    from messctl.server.app import application
    from messctl.server.keys import Keys
    from messctl.server.queues import Queues
    from messctl.server.run import address_of, bound, run
    from messctl.server.service import DEFAULT_MAX_BODY, Limits, Service
    from messctl.zoo.server_keys import is_local

    described = open_zoo(zoo)
    if alpha is not None:
        described = replace(described, settings=replace(described.settings, alpha=alpha))
    if not described.tenants and not is_local(host):
        message = f"--host {host} can be reached by other machines, and no keys are configured"
        raise UsageError(f"{message}; add `tenants` to zoo.yaml, or use 127.0.0.1")
    keys = Keys(described.tenants)
    if check:  # it asks in nobody's name, and stores nothing
        described, keys = replace(described, tenants=()), Keys(())
    queues, limits = Queues(open_backends(described), queue), Limits(max_body or DEFAULT_MAX_BODY, grace)
    with (
        bound(host, port) as listening,
        open_routers(described, state, queues, queues.full, log=log and not check) as routers,
    ):
        if not check:
            _prepare(routers.values())
        service = Service(
            Accounts.of(routers, described.tenants, keys, degraded=described.state.degraded), queues, limits
        )
        address = address_of(listening)
        checking = _Check(address) if check else None
        path = common_path(described, state) if described.tenants else routers[""].state_path
        started = checking.start if checking else lambda _: _tell(address, path, described.tenants)
        run(application(service, show_prompts=show_prompts), service, listening, started)
    if checking:
        checking.report()


def _check_installed() -> None:
    """Raise MissingExtraError if what serves is not installed."""
    import importlib.util

    for library in ("starlette", "uvicorn", "prometheus_client"):
        if importlib.util.find_spec(library) is None:
            raise MissingExtraError(library, "serve", "messctl serve")


def _prepare(routers: Iterable[Router]) -> None:
    """Load or compile all that routers need, so that no request waits for it; say so if numba compiles."""
    from messctl.learning.compiled import compiling_told

    @cache  # the same line comes for each function
    def tell(what: str) -> None:
        print_line(f"{what}, for about half a minute; connections are refused until then", to=sys.stderr)

    with compiling_told(tell):
        for router in routers:
            router.prepare()


def _print_key(action: str, name: str | None) -> None:
    """Print a new key for a tenant, and what zoo.yaml needs of it."""
    from messctl.server.keys import hash_of, new_key
    from messctl.zoo.tenants import TenantName

    if action != "key" or name is None:
        raise UsageError("`messctl serve` takes no argument, or `key` and the name of a tenant")
    wanted = TenantName().problem(name)
    if wanted:
        raise UsageError(f"the tenant's name must be {wanted}")
    key = new_key()
    print_line(f"key: {key}")
    print_line("give it to the tenant; it is shown only now. Add this to `tenants` in zoo.yaml:", to=sys.stderr)
    write_lines(f"- name: {name}\n  key_hash: {hash_of(key)!r}\n")  # as it is, so that it can be pasted


def _tell(address: str, state: Place, tenants: Iterable[Tenant]) -> None:
    names = ", ".join(tenant.name for tenant in tenants)
    asking = f"no keys are configured, so only this machine can ask; state: {state}"
    if names:
        asking = f"keys are needed; tenants: {names}; state: {state}, and one beside it for each tenant"
    print_line(f"messctl serves {address}/v1", to=sys.stderr)
    print_line(asking, to=sys.stderr)


class _Check:
    """Asks a server at an address one question, then stops it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._reply: dict[str, Any] = {}
        self._error = "the server gave no answer"

    def start(self, stop: Callable[[], None]) -> None:
        """Ask in a thread of its own, since the server is in this one."""
        threading.Thread(target=self._ask, args=(stop,), daemon=True).start()

    def report(self) -> None:
        """Print which model answered. Raises UsageError if none did."""
        if not self._reply:
            raise UsageError(f"the check failed: {self._error}")
        model, choice = self._reply["model"], self._reply["choices"][0]
        print_line(f"{self._address} works: {model} answered ({choice['finish_reason']})")

    def _ask(self, stop: Callable[[], None]) -> None:
        import urllib3

        body = {"model": "auto", "messages": [{"role": "user", "content": "What is 1 + 1?"}]}
        try:
            url = f"{self._address}/v1/chat/completions"
            response = urllib3.request("POST", url, json=body, timeout=600.0, retries=False)
            document = response.json()
            self._error = str(document.get("error", {}).get("message", self._error))
            self._reply = document if response.status == 200 else {}
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            self._error = str(error)
        finally:
            stop()
