"""Answers the control API: on a Unix socket, and on TCP to who has the token."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from rolekit.errors import ConfigError, RolekitError
from rolekit.supervisor.control import ENDPOINTS, ControlProblem, Readiness
from rolekit.supervisor.control_access import Guard
from rolekit.supervisor.control_openapi import METRICS_TYPE, document
from rolekit.supervisor.sockets import listen

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from rolekit.supervisor.control import Controlled, Endpoint, Readable

_MAX_PATH_BYTES = 107  # sun_path holds 108 with its final zero: unix(7)
_MAX_BODY_BYTES = 64 * 1024
_CLOSE_S = 2
_WRONG, _TOO_LARGE, _NOT_READY = 400, 413, 503


@contextlib.asynccontextmanager
async def serve(
    path: Path, controlled: Controlled, *, address: str = "", token: str = ""
) -> AsyncGenerator[None]:
    """Answer while inside.

    Args:
        path: Of the Unix socket.
        controlled: Is asked and told.
        address: "host:port", to answer there too; empty: on the Unix socket only.
        token: That requests to `address` must carry.

    Raises:
        ConfigError: The path or the address cannot be bound.
    """
    app = application(controlled)
    with contextlib.ExitStack() as held:
        bound: list[tuple[socket.socket, ASGIApp]] = [(held.enter_context(_bound(path)), app)]
        if address:
            taken = held.enter_context(listening_at(address))
            bound.append((taken, _guarded(app, token)))
        async with _served(bound):
            yield


@contextlib.asynccontextmanager
async def serve_reading(
    read: Readable, taken: socket.socket | None, token: str
) -> AsyncGenerator[None]:
    """Answer of the numbers and of readiness alone, inside.

    Args:
        read: Is asked.
        taken: Listens; None: nobody answers.
        token: That requests must carry.
    """
    if taken is None:
        yield
        return
    app = _application(read, [one for one in ENDPOINTS if one.is_public])
    async with _served([(taken, _guarded(app, token))]):
        yield


def listening_at(address: str) -> AbstractContextManager[socket.socket]:
    """Listen for the control API at "host:port"; raises `ConfigError`."""
    return listen("The control API", address, "ROLEKIT_CONTROL")


def _guarded(app: ASGIApp, token: str) -> Guard:
    return Guard(app, token, {one.path for one in ENDPOINTS if one.is_public})


@contextlib.asynccontextmanager
async def _served(bound: Sequence[tuple[socket.socket, ASGIApp]]) -> AsyncGenerator[None]:
    servers = [_server(app) for _, app in bound]
    async with asyncio.TaskGroup() as group:
        for server, (one, _) in zip(servers, bound, strict=True):
            group.create_task(server.serve(sockets=[one]))
        yield
        for server in servers:
            server.should_exit = True


def application(
    controlled: Controlled, endpoints: Sequence[Endpoint[Any]] = ENDPOINTS
) -> Starlette:
    """Make the ASGI application of a table."""
    return _application(controlled, endpoints)


def _application(controlled: Readable, endpoints: Sequence[Endpoint[Any]]) -> Starlette:
    """Make it of what only answers; its endpoints ask for nothing else."""
    openapi = msgspec.json.encode(document(endpoints))

    async def describe(_request: Request) -> Response:
        return Response(openapi, media_type="application/json")

    async def measure(_request: Request) -> Response:
        text = await controlled.metrics()
        return Response(text, media_type=METRICS_TYPE)

    return Starlette(
        routes=[
            Route("/openapi.json", describe),
            Route("/metrics", measure),
            *(
                Route(one.path, _answers(one, controlled), methods=[one.method])
                for one in endpoints
            ),
        ],
        exception_handlers={
            RolekitError: _refuse,
            msgspec.MsgspecError: _refuse,
            HTTPException: _refuse,
        },
    )


def _answers(
    one: Endpoint[Any], controlled: Readable
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        order: object
        if one.method == "GET":
            order = msgspec.convert(dict(request.query_params), one.order, strict=False)
        else:
            order = msgspec.json.decode(await _body(request) or b"{}", type=one.order)
        answered = one.act(cast("Controlled", controlled), order)
        if isinstance(answered, AsyncIterator):
            return StreamingResponse(_lines(answered), media_type="application/x-ndjson")
        return _json(await answered)

    return answer


async def _lines(answers: AsyncIterator[msgspec.Struct]) -> AsyncGenerator[bytes]:
    generator = cast("AsyncGenerator[msgspec.Struct]", answers)
    async with contextlib.aclosing(generator):
        async for one in generator:
            yield msgspec.json.encode(one) + b"\n"


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise HTTPException(_TOO_LARGE, f"More than {_MAX_BODY_BYTES} bytes came.")
    return bytes(body)


async def _refuse(request: Request, error: Exception) -> Response:
    if isinstance(error, RolekitError):
        return _json(ControlProblem(error.what, error.fix), status=_WRONG)
    if isinstance(error, HTTPException):
        what = f"{request.method} {request.url.path}: {error.detail}."
        problem = ControlProblem(what.replace("..", "."), "GET /openapi.json lists what is.")
        return _json(problem, status=error.status_code, headers=error.headers)
    return _json(ControlProblem(f"The request cannot be read: {error}."), status=_WRONG)


def _json(
    value: msgspec.Struct, *, status: int = 200, headers: object | None = None
) -> Response:
    if isinstance(value, Readiness) and not value.ready:
        status = _NOT_READY
    return Response(
        msgspec.json.encode(value),
        status,
        cast("dict[str, str] | None", headers),
        "application/json",
    )


class _Server(uvicorn.Server):
    """A server whose loop and signals belong to the supervisor."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _server(app: ASGIApp) -> _Server:
    return _Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=_CLOSE_S,
        )
    )


@contextlib.contextmanager
def _bound(path: Path) -> Generator[socket.socket]:
    """Listen at a path, and take it away in the end."""
    with _listen(path) as listening:
        try:
            yield listening
        finally:
            path.unlink(missing_ok=True)


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise ConfigError(
            f"The path of the control socket is longer than {_MAX_PATH_BYTES} bytes: {path}.",
            fix="Name a shorter one: ROLEKIT_CONTROL=/tmp/name.sock.",
        )
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # never, even for a moment, open to others
    try:
        _make_way(path)
        listening.bind(_findable(path))
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


def _findable(path: Path) -> str:
    """Write a path so that it can be found from elsewhere (/proc/net/unix), where it fits."""
    whole = str(path.absolute())
    return whole if len(os.fsencode(whole)) <= _MAX_PATH_BYTES else str(path)


def _make_way(path: Path) -> None:
    """Remove the socket that a killed supervisor left: we hold its lock. But nothing else."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(None, "a file that is no socket is there")
        path.unlink()
