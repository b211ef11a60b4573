"""The span of an HTTP request: a trace begins with it, or goes on from whoever asked.

Names and attributes are those of OpenTelemetry's HTTP conventions, which are stable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.model.span import BAGGAGE, TRACEPARENT, TRACESTATE, SpanKind, context_of
from rolekit.observe.tracing import Live, Untraced, carried, current, new_trace_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Message, Scope, Send

    from rolekit.observe.tracing import Tracer

UNTRACED = ("/healthz",)
"""No trace begins with these: they come all the time, and say nothing."""
_SERVER_ERROR = 500


async def traced(
    tracer: Tracer, scope: Scope, send: Send, answer: Callable[[Send], Awaitable[None]]
) -> None:
    """Answer a request inside its span, if it is traced.

    Args:
        tracer: Decides, where nobody before did.
        scope: Of the request.
        send: Takes the answer.
        answer: Answers, to what it is given instead of `send`.
    """
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in _WANTED
    }
    cause = context_of(headers.get(TRACEPARENT, ""))
    is_kept = cause is not None and cause.is_sampled
    if cause is None and scope["path"] not in UNTRACED:
        is_kept = tracer.begins()
    more = {BAGGAGE} | ({TRACESTATE} if cause else set[str]())
    carries = {name: headers[name] for name in more & headers.keys()}
    if cause is not None and not is_kept:
        # Whoever asked keeps no spans, but may look for this trace in logs, or elsewhere.
        carries[TRACEPARENT] = cause.header()
    carrying = carried.set(carries)
    if not is_kept:
        untraced = Untraced(scope["method"], tracer.now_ns())
        token = current.set(untraced)
        try:
            await answer(send)
        finally:
            untraced.ended_ns = tracer.now_ns()
            if isinstance(route := scope.get("rolekit.route"), str):
                untraced.name = route
            current.reset(token)
            carried.reset(carrying)
        return
    request = _Request(tracer, scope, send, cause.trace if cause else new_trace_id())
    request.live.span.parent = cause.span if cause else ""
    token = current.set(request.live.begin())
    try:
        await answer(request.send)
    except BaseException as error:
        request.live.failed(error)
        raise
    finally:
        current.reset(token)
        carried.reset(carrying)
        request.end()


_WANTED = {name.encode() for name in (TRACEPARENT, TRACESTATE, BAGGAGE)}


class _Request:
    """Sees what a request is answered."""

    def __init__(self, tracer: Tracer, scope: Scope, send: Send, trace: str) -> None:
        self._scope = scope
        self._send = send
        method = scope["method"]
        self.live = Live(
            tracer,
            method,
            SpanKind.SERVER,
            trace=trace,
            attributes={
                "http.request.method": method,
                "url.path": scope["path"],
                "url.scheme": scope.get("scheme", "http"),
            },
        )
        server = scope.get("server")
        if server:
            self.live.span.attributes["server.address"] = str(server[0])
            if server[1] is not None:
                self.live.span.attributes["server.port"] = int(server[1])

    async def send(self, message: Message) -> None:
        """Pass on what is sent."""
        if message["type"] == "http.response.start":
            status = message["status"]
            self.live.span.attributes["http.response.status_code"] = status
            if status >= _SERVER_ERROR:
                self.live.span.error = str(status)
        await self._send(message)

    def end(self) -> None:
        """End the span, whose route is known by now."""
        route = self._scope.get("rolekit.route")
        if isinstance(route, str):
            self.live.span.name = route
            self.live.span.attributes["http.route"] = route.partition(" ")[2]
        self.live.end()
