"""A WebRole as an ASGI app: the way of a request from its head to its answer."""

from __future__ import annotations

import inspect
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Router
from starlette.routing import Route as Path

from rolekit.flow.client import Client
from rolekit.flow.request import Requests, last_event_id
from rolekit.model.ids import body_hash
from rolekit.roles.http_binding import read_message, read_scalars
from rolekit.roles.http_lifespan import lifespan_of
from rolekit.roles.http_limits import BODY, BodyGuard, Limits, refuse
from rolekit.roles.http_problems import HANDLED, BadInput, FieldError, answer_error, report
from rolekit.roles.http_replies import give_again, is_whole, keep, render
from rolekit.roles.http_routes import Route, routes_of
from rolekit.roles.http_tracing import traced
from rolekit.web import CLIENT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from rolekit.observe.tracing import Tracer
    from rolekit.roles.http_sse import Events
    from rolekit.roles.web import WebRole

KEY = "Idempotency-Key"
_KEY_LENGTH = 255


class FrontClient(Client, Requests, Protocol):
    """The client of a front: it sends, and opens request scopes."""


def asgi(
    role: WebRole,
    client: FrontClient,
    *,
    limits: Limits | None = None,
    tracer: Tracer | None = None,
) -> WebApp:
    """Make the ASGI app of a role, and give the role its client.

    Args:
        role: Started, or about to.
        client: Must live as long as the app.
        limits: On each request; the defaults unless given.
        tracer: Traces requests; None: nobody does.

    Raises:
        AppError: A route or a mount cannot be served.
    """
    role.client = client
    return WebApp(role, client, limits or Limits(), tracer)


class WebApp:
    """Everything a WebRole answers: its routes, /healthz, its mounts.

    Attributes:
        closing: Set when event streams have to end; everything else is left to finish.
    """

    def __init__(
        self, role: WebRole, client: FrontClient, limits: Limits, tracer: Tracer | None = None
    ) -> None:
        self._tracer = tracer
        self.closing = anyio.Event()
        self._client = client
        self._limits = limits
        self._max_body_bytes = role.max_body_bytes
        self._mounts = {
            prefix: _Mounted(app)
            for prefix, app in sorted(role.mounts.items(), key=lambda pair: -len(pair[0]))
        }
        routes = routes_of(type(role))
        paths: list[BaseRoute] = [
            Path(route.path, _Endpoint(self, role, route), methods=[route.method])
            for route in routes
        ]
        if not any(route.template == "GET /healthz" for route in routes):
            paths.append(Path("/healthz", _health))
        paths += [Mount(prefix, app) for prefix, app in self._mounts.items()]
        self._router = Router(paths, lifespan=lambda _: self.running())

    @property
    def client(self) -> FrontClient:
        """The client that requests use."""
        return self._client

    @property
    def limits(self) -> Limits:
        """What one request may cost."""
        return self._limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        scope["app"] = self
        if scope["type"] == "lifespan":
            await self._router(scope, receive, send)
            return
        scope["state"] = {**scope.get("state", {}), CLIENT: self._client}
        if scope["type"] == "http":
            answer = partial(self._answer, scope, receive)
            if self._tracer is None:
                await answer(send)
            else:
                await traced(self._tracer, scope, send, answer)
        else:
            await self._router(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        watch = _Watch(send)
        guard: BodyGuard | None = None
        token = last_event_id.set(Request(scope).headers.get("Last-Event-ID"))
        try:
            guard = BodyGuard(
                scope, receive, limits=self._limits, max_bytes=self._max_body_bytes
            )
            scope[BODY] = guard
            await self._router(scope, guard, watch.send)
        except ClientDisconnect:
            return  # nobody is there to be answered
        except Exception as error:
            response = report(error, path=scope["path"]).response()
            if watch.is_complete:
                return  # a mounted app answered with its own 500 before it raised
            if watch.has_begun:
                raise
            await _give(response, scope, guard, watch.send)
        finally:
            last_event_id.reset(token)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Run the lifespans of all mounted apps around a block.

        Raises:
            RolekitError: A mounted app cannot start.
        """
        async with AsyncExitStack() as stack:
            for mounted in self._mounts.values():
                mounted.state = await stack.enter_async_context(lifespan_of(mounted.app))
            yield


async def _give(response: Response, scope: Scope, guard: BodyGuard | None, send: Send) -> None:
    if guard is None or response.headers.get("connection") != "close":
        await response(scope, _no_more, send)
        return
    answer = {"status": response.status_code, "headers": response.raw_headers}
    await refuse(guard, send, answer | {"body": response.body})


async def _no_more() -> Message:
    return {"type": "http.disconnect"}


async def _health(_: Request) -> Response:
    return PlainTextResponse("ok")


class _Watch:
    """Sees how far a response has come."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False
        self.is_complete = False

    async def send(self, message: Message) -> None:
        self.has_begun = True
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.is_complete = True
        await self._send(message)


class _Mounted:
    """A mounted app, with the state of its lifespan and rolekit's error handlers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.state: dict[str, Any] = {}
        if isinstance(app, Starlette):
            for kind in HANDLED:
                app.exception_handlers.setdefault(kind, answer_error)
            app.middleware_stack = None  # built again with them at the next request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {**scope["state"], **self.state}
        await self.app(scope, receive, send)


class _Endpoint:
    """One route at work."""

    def __init__(self, app: WebApp, role: WebRole, route: Route) -> None:
        self._app = app
        self._route = route
        self._method = getattr(role, route.name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["rolekit.route"] = self._route.template
        request = Request(scope, receive, send)
        response = await self._respond(request)
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response | Events:
        """Bind, call, commit, then answer: in that order and no other.

        An error on the way leaves the scope without a commit: nothing was sent.
        """
        route = self._route
        key = _key_of(request, route)
        arguments = await self._bind(request)
        fingerprint = "" if key is None else await _fingerprint(request)
        async with self._app.client.scope(
            key=key, route=route.template, caller=_caller(request), body_hash=fingerprint
        ) as scope:
            if scope.prior is not None:
                return give_again(scope.prior)
            result = await self._call(arguments)
            response = render(result, request, status=route.status, closing=self._app.closing)
            if key is None or not isinstance(response, Response):
                await scope.commit(None)
                return response
            if not is_whole(response):
                raise HTTPException(400, f"{route.template} streams; it takes no {KEY}.")
            kept = keep(response)
            given = await scope.commit(kept)
            return response if given is None or given == kept else give_again(given)

    async def _bind(self, request: Request) -> dict[str, object]:
        guard: BodyGuard = request.scope[BODY]
        values = read_scalars(self._route.parameters, request)
        for item in self._route.parameters:
            if item.source == "request":
                values[item.name] = request
            elif item.source == "bytes":
                values[item.name] = await request.body()
            elif item.source == "message":
                guard.expect(self._app.limits.typed_bytes)
                media = request.headers.get("Content-Type", "")
                _refuse_compressed(request)
                values[item.name] = read_message(item.kind, await request.body(), media)
        return values

    async def _call(self, arguments: dict[str, object]) -> object:
        if self._route.in_thread:
            return await anyio.to_thread.run_sync(lambda: self._method(**arguments))
        result = self._method(**arguments)
        return await result if inspect.isawaitable(result) else result


def _key_of(request: Request, route: Route) -> str | None:
    key = request.headers.get(KEY)
    if key is None or route.method == "GET":
        return None
    if not (0 < len(key) <= _KEY_LENGTH and key.isascii() and key.isprintable()):
        text = f"must be 1 to {_KEY_LENGTH} printable ASCII characters"
        raise BadInput([FieldError(f"header.{KEY}", text)])
    if route.is_stream:
        text = f"{route.template} answers with a stream, which cannot be kept for a key"
        raise BadInput([FieldError(f"header.{KEY}", text)])
    return key


async def _fingerprint(request: Request) -> str:
    """Hash all that tells this request from another one under the same key."""
    target = request.scope["path"].encode() + b"?" + request.scope["query_string"]
    return body_hash(target + b"\n" + await request.body())


def _caller(request: Request) -> str:
    authorization = request.headers.get("Authorization", "")
    return body_hash(authorization.encode()) if authorization else ""


def _refuse_compressed(request: Request) -> None:
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.lower() != "identity":
        raise HTTPException(415, f"The body is {coding}; send it uncompressed.")
