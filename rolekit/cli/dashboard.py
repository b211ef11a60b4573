"""`dashboard`: a running app in a browser."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Annotated

import typer

from rolekit.cli.board_option import DEFAULT_BIND
from rolekit.cli.client import find
from rolekit.cli.console import out, say
from rolekit.cli.dashboard_lock import Lock, locked
from rolekit.cli.ground import database_of
from rolekit.cli.options import AppOption, ConfigOption, SetOption, settings
from rolekit.cli.supervisors import Supervisors, reached, restarted
from rolekit.errors import Unavailable
from rolekit.observe import logs
from rolekit.supervisor.control import Nothing, Scaled, ScaleOrder
from rolekit.supervisor.linux import die_with_parent
from rolekit.supervisor.sockets import listen
from rolekit.supervisor.usage import FleetUsage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager

    from rolekit.cli.client import Control
    from rolekit.config import Config
    from rolekit.dashboard.drawing import Drawing
    from rolekit.dashboard.pages import Console, Fleet
    from rolekit.supervisor.status import FleetStatus

_WAIT_S = 10
_LOOK_S = 0.2


def dashboard(  # noqa: PLR0913 - each is an option of the command
    *,
    bind: Annotated[
        str, typer.Option("--bind", metavar="HOST:PORT", help="Where it listens.")
    ] = DEFAULT_BIND,
    changes: Annotated[
        bool,
        typer.Option("--allow-changes", help="Let it scale, restart, replay and drop."),
    ] = False,
    wait_s: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="For the app to be there.")
    ] = 0,
    places: Annotated[
        list[str] | None,
        typer.Option(
            "--supervisor",
            metavar="HOST:PORT",
            help="Of a control API; several, and names of several machines, are shown as one.",
        ),
    ] = None,
    parent: Annotated[int, typer.Option("--parent", hidden=True)] = 0,
    app: AppOption = "",
    sets: SetOption = None,
    config_file: ConfigOption = "",
) -> None:
    """Show a running app in a browser."""
    if parent:
        die_with_parent(parent)
    config = settings(app, sets, config_file)
    lock = locked(bind, config)
    fleet: Fleet
    if places:
        fleet = Supervisors(places, config.control_token)
        status = reached(fleet, wait_s)
    else:
        control, status = _found(config, wait_s)
        fleet = _Fleet(control)
    if not config.app:
        config = settings(status.target, sets, config_file)
    logs.set_up(config.log, config.log_format, app=status.app)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(config, fleet, bind, lock, may_change=changes))


def _found(config: Config, wait_s: float) -> tuple[Control, FleetStatus]:
    give_up = time.monotonic() + wait_s
    while True:
        try:
            return find(config)
        except Unavailable:
            if time.monotonic() > give_up:
                raise
            time.sleep(_LOOK_S)


class _Fleet:
    """The control API, as a dashboard asks it."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def status(self) -> FleetStatus:
        return self._control.status_again()

    def usage(self) -> FleetUsage:
        return self._control.ask("/top", Nothing(), FleetUsage)

    def scale(self, role: str, count: str) -> int:
        return self._control.order("/scale", ScaleOrder(role, count), Scaled).instances

    def restart(self, role: str) -> str:
        return restarted(self._control, role)


async def _serve(
    config: Config, fleet: Fleet, bind: str, lock: Lock, *, may_change: bool
) -> None:
    import uvicorn  # noqa: PLC0415 - `rolekit dashboard --help` should not wait for these

    from rolekit.dashboard.pages import Options, application  # noqa: PLC0415

    def draw() -> Drawing:
        from rolekit.dashboard import drawing  # noqa: PLC0415
        from rolekit.wiring.parts import load_app  # noqa: PLC0415

        found = load_app(config.app)
        return drawing.draw(found.plan(), [role.__name__ for role in found.roles])

    @contextlib.asynccontextmanager
    async def opened() -> AsyncGenerator[Console]:
        from rolekit import wiring  # noqa: PLC0415

        async with database_of(config, _WAIT_S) as there, wiring.open_console(there) as one:
            yield one

    def open_console() -> AbstractAsyncContextManager[Console]:
        return opened()

    options = Options(
        may_change=may_change,
        token=lock.token,
        trace_page=config.trace_page,
        is_encrypted=bool(lock.certificate),
    )
    made = application(fleet, open_console, draw, options)
    with listen("The dashboard", bind, "--bind") as listening:
        host, port = listening.getsockname()[:2]
        scheme = "https" if lock.certificate else "http"
        out(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/")
        if not may_change:
            say("It only shows; --allow-changes lets it scale, restart, replay and drop.")
        server = uvicorn.Server(
            uvicorn.Config(
                made,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=1,
                ssl_certfile=lock.certificate or None,
                ssl_keyfile=lock.key or None,
            )
        )
        await server.serve(sockets=[listening])
