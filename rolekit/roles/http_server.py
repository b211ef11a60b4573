"""uvicorn around a WebRole, on a socket that others listen on as well."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import uvicorn

from rolekit.roles.http_app import WebApp, asgi
from rolekit.roles.http_limits import GuardedProtocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Generator

    from rolekit.roles.http_app import FrontClient
    from rolekit.roles.http_limits import Limits
    from rolekit.roles.web import WebRole

KEEP_ALIVE_S = 15
CONNECTIONS = 1000
FIRST_REQUEST_S = 1.0
"""At the end, a connection just taken is given so long to say what it wants."""


async def serve(
    role: WebRole,
    client: FrontClient,
    listening: socket.socket,
    *,
    stopping: anyio.Event,
    limits: Limits | None = None,
) -> None:
    """Answer HTTP on a socket until `stopping` is set and every request is answered.

    Then it takes no more connections (other instances on the same socket do), lets requests
    finish, and ends event streams, whose readers come back elsewhere. It sets no bound on
    that; cancel it to stop at once.

    Args:
        role: Started.
        client: Of the instance.
        listening: Bound and listening; closed here at the end, in this process only.
        stopping: Set by the host.
        limits: On each request; the defaults unless given.
    """
    app = asgi(role, client, limits=limits)
    server = _Server(app)
    async with app.running(), anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_when, stopping, server)
        try:
            await server.serve(sockets=[listening])
        finally:
            server.abandon()
            tasks.cancel_scope.cancel()


async def _stop_when(stopping: anyio.Event, server: _Server) -> None:
    await stopping.wait()
    server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn without signal handlers, and with a gentler end."""

    def __init__(self, app: WebApp) -> None:
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
        self._app = app

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the instance."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, hear out the connections just taken, then finish what is under way."""
        for server in self.servers:
            server.close()
        self._app.closing.set()
        with anyio.move_on_after(FIRST_REQUEST_S):
            while any(map(_is_fresh, self.server_state.connections)):  # noqa: ASYNC110  no event
                await anyio.sleep(0.02)
        await super().shutdown(sockets)

    def abandon(self) -> None:
        """Drop whatever is still there; after a graceful end, nothing is."""
        for server in getattr(self, "servers", ()):
            server.close()
        for task in list(self.server_state.tasks):
            task.cancel()
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def _is_fresh(connection: object) -> bool:
    return getattr(connection, "cycle", None) is None
