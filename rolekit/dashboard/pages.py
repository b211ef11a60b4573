"""The addresses of the dashboard: a page, what it shows, and what it may change."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from rolekit.dashboard.door import Door, refuse
from rolekit.dashboard.feed import Feed
from rolekit.dashboard.shipped import FILES
from rolekit.errors import ConfigError, RolekitError
from rolekit.observe.story import cause_of, first_message, totals, way_of
from rolekit.store.letters import Letters
from rolekit.store.postgres.audit import Act

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from rolekit.dashboard.drawing import Drawing
    from rolekit.flow.holes import Line
    from rolekit.model.span import Span
    from rolekit.store.base import DeadLetterRow
    from rolekit.store.postgres.traces import Kept
    from rolekit.supervisor.status import FleetStatus
    from rolekit.supervisor.usage import FleetUsage

_log = structlog.get_logger("rolekit.dashboard")

_LETTERS, _HOLES, _TRACES, _SPANS = 200, 200, 60, 2000
_BODY_CHARS = 64 * 1024
_STATIC = {
    "dashboard.css": "text/css",
    "dashboard.js": "text/javascript",
    "drawing.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


class Fleet(Protocol):
    """The control API of a running app. All of it blocks."""

    def status(self) -> FleetStatus:
        """Say how it is."""
        ...

    def usage(self) -> FleetUsage:
        """Say how it is, and what it uses."""
        ...

    def scale(self, role: str, count: str) -> int:
        """Change how many instances a role has; raises `ConfigError`."""
        ...

    def restart(self, role: str) -> str:
        """Restart a role by turns; return what came of it."""
        ...


class Console(Protocol):
    """What the database of an app says."""

    async def holes(self, limit: int) -> Sequence[Line]:
        """Return the sequences in flight."""
        ...

    async def letters(self, which: Letters, limit: int) -> Sequence[DeadLetterRow]:
        """Return dead letters, newest first."""
        ...

    async def letter(self, id_: str) -> tuple[DeadLetterRow, str]:
        """Return one, with its body as text."""
        ...

    async def replay(self, ids: Sequence[str]) -> int:
        """Send these again; return how many were."""
        ...

    async def drop(self, ids: Sequence[str]) -> int:
        """Close these; return how many were open."""
        ...

    async def note(self, act: Act) -> None:
        """Keep what an operator did."""
        ...

    async def traces(self, limit: int) -> Sequence[Kept]:
        """Return the newest traces."""
        ...

    async def trace(self, id_: str) -> Sequence[Span]:
        """Return the spans of a trace, or of the newest trace of a message."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a dashboard is to be.

    Attributes:
        may_change: Whether scaling, restarts, replays and drops are possible at all.
        token: Needed to look; empty: none.
        hosts: Names it answers to beside those of this machine.
        trace_page: Of a collector, with {trace_id} in it; empty: none.
        is_encrypted: Whether it speaks TLS itself.
    """

    may_change: bool = False
    token: str = ""
    hosts: tuple[str, ...] = ()
    trace_page: str = ""
    is_encrypted: bool = False


@dataclass(slots=True)
class _Dashboard:
    fleet: Fleet
    open_console: Callable[[], AbstractAsyncContextManager[Console]]
    drawing: Callable[[], Drawing]
    options: Options
    feed: Feed
    csrf: str = ""
    console: Console | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    held: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def database(self) -> Console:
        """Return what the database says; opened when first asked."""
        async with self.lock:
            if self.console is None:
                self.console = await self.held.enter_async_context(self.open_console())
        return self.console

    async def live(self, _: Request) -> Response:
        async def events() -> AsyncGenerator[bytes]:
            async with contextlib.aclosing(self.feed.listen()) as news:
                async for one in news:
                    yield b"data: " + one + b"\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def about(self, _: Request) -> Response:
        return _json({
            "csrf": self.csrf,
            "may_change": self.options.may_change,
            "trace_page": self.options.trace_page,
            "drawing": await asyncio.to_thread(self.drawing),
        })  # fmt: skip

    async def places(self, request: Request) -> Response:
        return _json(self.feed.places(request.path_params["role"]))

    async def holes(self, _: Request) -> Response:
        return _json(await (await self.database()).holes(_HOLES))

    async def letters(self, request: Request) -> Response:
        which = Letters(
            handler=request.query_params.get("handler", ""),
            reason=request.query_params.get("reason", ""),
        )
        rows = await (await self.database()).letters(which, _LETTERS)
        return _json([_letter(row) for row in rows])

    async def letter(self, request: Request) -> Response:
        row, body = await (await self.database()).letter(request.path_params["id"])
        shown = _letter(row) | {
            "traceback": row.traceback,
            "detail": row.detail,
            "body": body[:_BODY_CHARS],
            "is_cut": len(body) > _BODY_CHARS,
        }
        return _json(shown)

    async def traces(self, _: Request) -> Response:
        return _json(await (await self.database()).traces(_TRACES))

    async def trace(self, request: Request) -> Response:
        spans = await (await self.database()).trace(request.path_params["id"])
        if not spans:
            raise RolekitError("No such trace is kept.")
        asked: str = request.path_params["id"]
        is_message = any(one.message == asked for one in spans)
        message = asked if is_message else first_message(spans)
        pieces = way_of(spans, message, time.time_ns())
        return _json({
            "spans": sorted(spans, key=lambda one: one.begun_ns)[:_SPANS],
            "count": len(spans),
            "seconds": totals(pieces),
            "cause": cause_of(pieces),
        })  # fmt: skip

    async def scale(self, request: Request) -> Response:
        order = await _order(request)
        role, count = order.get("role", ""), order.get("count", "")
        async with self.noted(request, "scale", f"{role}={count}") as noted:
            instances = await asyncio.to_thread(self.fleet.scale, role, count)
            return noted(f"{role}: {instances} instances.")

    async def restart(self, request: Request) -> Response:
        role = (await _order(request)).get("role", "")
        async with self.noted(request, "restart", role) as noted:
            return noted(await asyncio.to_thread(self.fleet.restart, role))

    async def replay(self, request: Request) -> Response:
        id_ = (await _order(request)).get("id", "")
        async with self.noted(request, "replay", id_) as noted:
            count = await (await self.database()).replay([id_])
            is_sent = "It was sent again."
            return noted(is_sent if count else "Nothing was sent: it is closed already.")

    async def drop(self, request: Request) -> Response:
        id_ = (await _order(request)).get("id", "")
        async with self.noted(request, "drop", id_) as noted:
            count = await (await self.database()).drop([id_])
            return noted("It was dropped." if count else "It was closed already.")

    @contextlib.asynccontextmanager
    async def noted(
        self, request: Request, act: str, what: str
    ) -> AsyncGenerator[Callable[[str], Response]]:
        """Keep that something was done, who did it, and what came of it; also if it failed."""
        outcome = "it was broken off"

        def said(text: str) -> Response:
            nonlocal outcome
            outcome = text
            return _json({"said": text})

        try:
            yield said
        except RolekitError as error:
            outcome = f"refused: {error.what}"
            raise
        finally:
            done = Act(who=self._who(request), act=act, what=what, outcome=outcome)
            _log.info("an operator did something", **msgspec.structs.asdict(done))
            try:
                await (await self.database()).note(done)
            except RolekitError as error:
                # A fleet can be restarted while its database is away; the log has it.
                _log.error("what an operator did is not kept", why=str(error))

    def _who(self, request: Request) -> str:
        where = "?" if request.client is None else request.client.host
        return f"{where}, with the token" if self.options.token else where


def application(
    fleet: Fleet,
    open_console: Callable[[], AbstractAsyncContextManager[Console]],
    drawing: Callable[[], Drawing],
    options: Options,
) -> ASGIApp:
    """Make the ASGI application.

    Args:
        fleet: The control API.
        open_console: Opens what reads the database; called when a page first wants that.
        drawing: Draws the pipeline. Blocks.
        options: How it is to be.
    """
    board = _Dashboard(fleet, open_console, drawing, options, Feed(fleet))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with board.held:
            yield

    asks: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/api/live": board.live,
        "/api/about": board.about,
        "/api/roles/{role}": board.places,
        "/api/holes": board.holes,
        "/api/dead": board.letters,
        "/api/dead/{id:path}": board.letter,
        "/api/traces": board.traces,
        "/api/traces/{id}": board.trace,
    }
    changes: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/api/scale": board.scale,
        "/api/restart": board.restart,
        "/api/replay": board.replay,
        "/api/drop": board.drop,
    }
    routes = [Route(path, act) for path, act in asks.items()]
    if options.may_change:
        routes += [Route(path, act, methods=["POST"]) for path, act in changes.items()]
    app = Starlette(
        routes=[Route("/", _page), Route("/static/{name}", _static), *routes],
        exception_handlers={RolekitError: _refuse},
        lifespan=lifespan,
    )
    door = Door(
        app, token=options.token, hosts=options.hosts, is_encrypted=options.is_encrypted
    )
    board.csrf = door.csrf
    return door


async def _page(_: Request) -> Response:
    return Response(FILES["index.html"], media_type="text/html")


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _STATIC:
        return refuse(404, f"There is no {name}.")
    return Response(FILES[name], media_type=_STATIC[name])


async def _order(request: Request) -> dict[str, str]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_CHARS:
            raise ConfigError("The request is too large.")
    try:
        return msgspec.json.decode(bytes(body), type=dict[str, str])
    except msgspec.MsgspecError as error:
        raise ConfigError(f"The request cannot be read: {error}.") from error


async def _refuse(_: Request, error: Exception) -> Response:
    if isinstance(error, RolekitError):
        return refuse(400, error.what, error.fix)
    raise error


def _letter(row: DeadLetterRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "handler": row.handler,
        "type": row.type,
        "reason": row.reason,
        "attempts": row.attempts,
        "at": row.at_ms / 1000,
        "is_closed": row.is_closed,
        "is_forced": row.is_forced,
    }


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
