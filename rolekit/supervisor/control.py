"""The control API: HTTP on a Unix socket that only the user who started it may open.

    GET /ps          a `FleetStatus`
    POST /scale      {"role": "Deliverer", "count": "+2"} -> {"role": …, "instances": 6}
    POST /stop       {"hard": false} -> {"stopping": true}; it stops after it answered

Errors are {"what": …, "fix": …} with status 400.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Protocol

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from rolekit.errors import ConfigError, RolekitError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    from starlette.requests import Request

    from rolekit.supervisor.status import FleetStatus

_MAX_PATH_BYTES = 107  # sun_path holds 108 with its final zero: unix(7)
_CLOSE_S = 2


class ScaleOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many instances a role should have: "5", "+2" or "-2"."""

    role: str
    count: str


class Scaled(msgspec.Struct, frozen=True):
    """How many instances a role should have now."""

    role: str
    instances: int


class StopOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Stop; `hard` does not wait for what is in hand."""

    hard: bool = False


class Stopping(msgspec.Struct, frozen=True):
    """It stops."""

    stopping: bool = True


class Controlled(Protocol):
    """What can be looked at and told."""

    async def status(self) -> FleetStatus:
        """Describe it."""
        ...

    def scale(self, role: str, change: str) -> int:
        """Change a role's number of instances; raises `ConfigError`."""
        ...

    def ask_to_stop(self, *, hard: bool) -> None:
        """Begin to stop."""
        ...


class ControlProblem(msgspec.Struct, frozen=True):
    """Why a request was refused."""

    what: str
    fix: str = ""


@contextlib.asynccontextmanager
async def serve(path: Path, controlled: Controlled) -> AsyncGenerator[None]:
    """Answer at this path while inside.

    Raises:
        ConfigError: The path cannot be bound.
    """
    listening = _listen(path)
    server = _Server(
        uvicorn.Config(
            application(controlled),
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_CLOSE_S,
        )
    )
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[listening]))
            yield
            server.should_exit = True
    finally:
        listening.close()
        _remove(path)


def application(controlled: Controlled) -> Starlette:
    """Make the ASGI application."""

    async def ps(_request: Request) -> Response:
        return _json(await controlled.status())

    async def scale(request: Request) -> Response:
        order = msgspec.json.decode(await request.body(), type=ScaleOrder)
        return _json(Scaled(order.role, controlled.scale(order.role, order.count)))

    async def stop(request: Request) -> Response:
        order = msgspec.json.decode(await request.body() or b"{}", type=StopOrder)
        controlled.ask_to_stop(hard=order.hard)
        return _json(Stopping())

    return Starlette(
        routes=[
            Route("/ps", ps),
            Route("/scale", scale, methods=["POST"]),
            Route("/stop", stop, methods=["POST"]),
        ],
        exception_handlers={RolekitError: _refuse, msgspec.MsgspecError: _refuse},
    )


class _Server(uvicorn.Server):
    """A server whose loop and signals belong to the supervisor."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _refuse(_request: Request, error: Exception) -> Response:
    if isinstance(error, RolekitError):
        return _json(ControlProblem(error.what, error.fix), status=400)
    return _json(ControlProblem(f"The request cannot be read: {error}."), status=400)


def _json(value: msgspec.Struct, *, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise ConfigError(
            f"The path of the control socket is longer than {_MAX_PATH_BYTES} bytes: {path}.",
            fix="Name a shorter one: ROLEKIT_CONTROL=/tmp/name.sock.",
        )
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # never, even for a moment, open to others
    try:
        path.unlink(missing_ok=True)  # left by a supervisor that was killed: we hold the lock
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"The control socket {path} cannot be made: {error.strerror}.",
            fix="Name another path: ROLEKIT_CONTROL=/tmp/name.sock.",
        ) from error
    finally:
        os.umask(mask)
    listening.setblocking(False)  # noqa: FBT003 - the only way to say it
    return listening
