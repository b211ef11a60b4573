"""Server-sent events: an iterator of messages as a stream that a browser can take up again.

Each event has the wire name of its class as `event`, the cursor of `follow` as `id` and the
message as `data`. A reader that comes back with Last-Event-ID where nothing is left gets
204, which tells an EventSource to stop. When the server stops, streams end in the middle;
readers come back, and another instance goes on.

Source: HTML Living Standard, 9.2 "Server-sent events".
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any

import anyio
from starlette.concurrency import iterate_in_threadpool
from starlette.responses import Response

from rolekit.flow.request import event_cursor, last_event_id
from rolekit.model.message import wire_name
from rolekit.roles.http_problems import report

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from starlette.types import Message, Receive, Scope, Send

FIRST_S = 1.0
"""So long the head waits for the first item, to answer an early error with its status."""

HEARTBEAT_S = 15.0
"""A comment is sent after so much silence, or proxies would close the connection."""

_CLEANUP_S = 5.0
_HEARTBEAT = b": still here\n\n"
_COME_BACK = b"retry: 1000\n\n"
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class _Mark(enum.Enum):
    END = "the iterator is at its end"
    CLOSING = "the server stops"
    SILENCE = "nothing came in time"


_Outcome = bytes | Exception | _Mark


class Events:
    """An ASGI response that streams an iterator.

    Args:
        items: The messages. Closed when the stream ends, for whatever reason.
        encode: Writes a message as JSON in one line.
        closing: Set when the stream has to end.
        path: Of the request, for the log.
    """

    heartbeat_s: float = HEARTBEAT_S
    first_s: float = FIRST_S

    def __init__(
        self,
        items: AsyncIterable[object] | Iterable[object],
        *,
        encode: Callable[[Any], bytes],
        closing: anyio.Event,
        path: str,
    ) -> None:
        plain = None if isinstance(items, AsyncIterable) else iterate_in_threadpool(items)
        self._items: AsyncIterator[object] = aiter(plain or items)  # type: ignore[arg-type]
        self._encode = encode
        self._closing = closing
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a HEAD request without asking the iterator."""
        if scope["method"] == "HEAD":
            await self._close_items()
            await self._stream(_Mark.END, None, send)
            return
        into, outcomes = anyio.create_memory_object_stream[_Outcome](0)
        async with into, outcomes, anyio.create_task_group() as tasks:
            tasks.start_soon(self._until_gone, receive, tasks.cancel_scope)
            tasks.start_soon(self._until_closing, into)
            tasks.start_soon(self._produce, into)
            first = await _next(outcomes, self.first_s)
            if isinstance(first, Exception):
                response = report(first, path=self._path).response()
                await response(scope, receive, send)
            elif first is _Mark.END and last_event_id.get() is not None:
                await Response(status_code=204)(scope, receive, send)
            else:
                await self._stream(first, outcomes, send)
            tasks.cancel_scope.cancel()

    async def _stream(
        self,
        outcome: _Outcome,
        outcomes: MemoryObjectReceiveStream[_Outcome] | None,
        send: Send,
    ) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        while outcome is not _Mark.END and outcomes is not None:
            await send(_chunk(self._frame(outcome)))
            if outcome is _Mark.CLOSING or isinstance(outcome, Exception):
                break
            outcome = await _next(outcomes, self.heartbeat_s)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _frame(self, outcome: _Outcome) -> bytes:
        if isinstance(outcome, bytes):
            return outcome
        if isinstance(outcome, Exception):
            problem = report(outcome, path=self._path)
            return b"event: problem\ndata: " + problem.encode() + b"\n\n"
        return _COME_BACK if outcome is _Mark.CLOSING else _HEARTBEAT

    async def _produce(self, into: MemoryObjectSendStream[_Outcome]) -> None:
        outcome: _Outcome = _Mark.END
        try:
            event_cursor.set(None)
            async for item in self._items:
                await into.send(self._event(item))
                event_cursor.set(None)
        except Exception as error:  # noqa: BLE001  told to the reader, and logged, by _frame
            outcome = error
        finally:
            await self._close_items()
        await into.send(outcome)

    def _event(self, item: object) -> bytes:
        cursor = event_cursor.get()
        head = f"event: {wire_name(type(item))}\n" + (f"id: {cursor}\n" if cursor else "")
        return head.encode() + b"data: " + self._encode(item) + b"\n\n"

    async def _close_items(self) -> None:
        close = getattr(self._items, "aclose", None)
        if close is not None:
            with anyio.move_on_after(_CLEANUP_S, shield=True):
                await close()

    async def _until_closing(self, into: MemoryObjectSendStream[_Outcome]) -> None:
        await self._closing.wait()
        await into.send(_Mark.CLOSING)

    async def _until_gone(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()


async def _next(outcomes: MemoryObjectReceiveStream[_Outcome], within_s: float) -> _Outcome:
    with anyio.move_on_after(within_s):
        return await outcomes.receive()
    return _Mark.SILENCE


def _chunk(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}
