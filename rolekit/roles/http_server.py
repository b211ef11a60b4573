"""uvicorn around a WebRole, on a socket that others listen on as well."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import uvicorn
from uvicorn.server import ServerState

from rolekit.roles.http_app import WebApp, asgi
from rolekit.roles.http_door import Door
from rolekit.roles.http_limits import GuardedProtocol

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Generator

    from rolekit.observe.tracing import Tracer
    from rolekit.roles.http_app import FrontClient
    from rolekit.roles.http_limits import Limits
    from rolekit.roles.http_passing import Passing
    from rolekit.roles.web import WebRole

__all__ = ["ServerState", "serve"]

KEEP_ALIVE_S = 15
CONNECTIONS = 1000
LINGER_S = 1.0
"""At the end, connections that nobody else takes are given so long to say what they want."""
GOODBYE_S = 0.5
"""Then their ends are told, and given so long to go."""
_TURN_S = 0.02


async def serve(  # noqa: PLR0913 - all that a host has for a front, most of it optional
    role: WebRole,
    client: FrontClient,
    listening: socket.socket,
    *,
    stopping: anyio.Event,
    passing: Passing | None = None,
    limits: Limits | None = None,
    state: ServerState | None = None,
    tracer: Tracer | None = None,
) -> None:
    """Answer HTTP on a socket until `stopping` is set and every request is answered.

    Then it takes no more connections (other instances on the same socket do), lets requests
    finish, and ends event streams, whose readers come back elsewhere. Kept connections go to
    other instances, where there are any; else the next answer on each says that it is the
    last, and one on which nothing comes is closed after a moment. It sets no bound on
    requests; cancel it to stop at once.

    Args:
        role: Started.
        client: Of the instance.
        listening: Bound and listening; closed here at the end, in this process only.
        stopping: Set by the host.
        passing: The way to and from other instances; closed here at the end.
        limits: On each request; the defaults unless given.
        state: Counts what is under way and what was answered.
        tracer: Traces requests; None: nobody does.
    """
    app = asgi(role, client, limits=limits, tracer=tracer)
    server = _Server(app, listening, passing, state or ServerState())
    async with app.running(), anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_when, stopping, server)
        try:
            await server.serve()
        finally:
            await server.abandon()
            if passing is not None:
                passing.close()
            tasks.cancel_scope.cancel()


async def _stop_when(stopping: anyio.Event, server: _Server) -> None:
    await stopping.wait()
    server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn without signal handlers, with a door of our own and a gentler end."""

    def __init__(
        self,
        app: WebApp,
        listening: socket.socket,
        passing: Passing | None,
        state: ServerState,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=GuardedProtocol,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                limit_concurrency=CONNECTIONS + 1,  # uvicorn counts the one that asks
            )
        )
        self.server_state = state
        self._app = app
        self._listening = listening
        self._passing = passing
        self._door: Door | None = None

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the instance."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to take connections."""
        del sockets
        await self.lifespan.startup()
        self.servers = []

        def protocol() -> asyncio.Protocol:
            return GuardedProtocol(
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            )

        self._door = Door(self._listening, self._passing, protocol)
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, see that every connection ends well, then end what is left."""
        if self._door is not None:
            await self._door.close()
        self._app.closing.set()
        passing = self._passing
        if passing is not None and passing.is_wanted:
            while kept := self._kept():
                for connection in kept:
                    _pass_on(connection, passing)
                await anyio.sleep(_TURN_S)
        else:
            await self._take_leave()
        await super().shutdown(sockets)

    async def _take_leave(self) -> None:
        """Answer what comes in a last moment, and close what stays silent without a reset."""
        for connection in self._kept():
            connection.leave()
        await self._settled(LINGER_S, lambda _: True)
        for connection in self._kept():
            if connection.is_between:
                connection.part()
        await self._settled(GOODBYE_S, lambda one: one.is_between)

    async def _settled(
        self, within_s: float, concerns: Callable[[GuardedProtocol], bool]
    ) -> None:
        """Wait until there are no such connections, but not for long."""
        until = time.monotonic() + within_s
        while time.monotonic() < until and any(map(concerns, self._kept())):  # noqa: ASYNC110  no event
            await anyio.sleep(_TURN_S)

    def _kept(self) -> list[GuardedProtocol]:
        there = list(self.server_state.connections)
        return [one for one in there if isinstance(one, GuardedProtocol)]

    async def abandon(self) -> None:
        """Drop whatever is still there; after a graceful end, nothing is."""
        if self._door is not None:
            with anyio.CancelScope(shield=True):
                await self._door.close()
        for task in list(self.server_state.tasks):
            task.cancel()
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def _pass_on(connection: GuardedProtocol, passing: Passing) -> None:
    """Give a connection to another instance, if nothing of it is under way here."""
    if connection.is_between:
        fd = connection.transport.get_extra_info("socket").fileno()
        if passing.give(fd):
            connection.transport.abort()  # closes our descriptor; it is open where it goes
