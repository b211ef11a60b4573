"""Bounds on what a sender may do: size and pace of bodies, size and pace of heads.

Source: RELIABILITY T6; the figures are those of common hardened servers.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

BODY: Final = "rolekit.body"
"""Where the guard of the body stands in an ASGI scope."""

_CLOSE = {"Connection": "close"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may cost.

    Attributes:
        typed_bytes: Of a body that is decoded into a message.
        grace_s: A body may be silent so long, all in all, before its pace counts.
        rate: Bytes per second that a body must keep up beyond the grace.
        body_s: Seconds spent waiting for one body, at most.
        linger_s: After a refusal, what is still coming is read and dropped for so long,
            so that the refusal is not lost in a reset connection.
    """

    typed_bytes: int = 1 << 20
    grace_s: float = 10
    rate: float = 1000
    body_s: float = 3600
    linger_s: float = 1


class TooLarge(HTTPException):
    """A body is larger than its route takes."""

    def __init__(self, limit: int) -> None:
        super().__init__(413, f"The body is larger than the {limit} bytes taken here.", _CLOSE)


class TooSlow(HTTPException):
    """A body did not keep its pace."""

    def __init__(self, received: int, waited_s: float) -> None:
        super().__init__(
            408, f"Only {received} bytes of the body came in {waited_s:.0f} s.", _CLOSE
        )


class Garbled(HTTPException):
    """The head contradicts itself."""

    def __init__(self, detail: str) -> None:
        super().__init__(400, detail, _CLOSE)


class BodyGuard:
    """Stands between a server and an app, and counts what is received.

    Only time spent waiting for the sender counts, so a slow handler does not make its
    sender late.

    Args:
        scope: Of the request.
        receive: The server's.
        limits: Pace; the size is `max_bytes` until a route says less.
        max_bytes: Size of any body.

    Raises:
        Garbled: Content-Length and Transfer-Encoding came together, or the length is no
            number: the start of a smuggled request.
    """

    def __init__(
        self, scope: Scope, receive: Receive, *, limits: Limits, max_bytes: int
    ) -> None:
        self._receive = receive
        self._limits = limits
        self._max_bytes = max_bytes
        self._received = 0
        self._waited_s = 0.0
        self._is_complete = False
        self._declared = _declared_length(scope)

    def expect(self, max_bytes: int) -> None:
        """Take no more than this.

        Raises:
            TooLarge: The head announces more; nothing was read.
        """
        self._max_bytes = min(max_bytes, self._max_bytes)
        if self._declared is not None and self._declared > self._max_bytes:
            raise TooLarge(self._max_bytes)

    async def __call__(self) -> Message:
        """Receive the next event, as an ASGI server gives it.

        Raises:
            TooLarge: The body outgrew its limit, or announces to.
            TooSlow: The body does not keep its pace.
        """
        if self._is_complete:
            return await self._receive()
        self.expect(self._max_bytes)
        message = await self._in_time()
        self._is_complete = message["type"] != "http.request" or not message.get("more_body")
        self._received += len(message.get("body", b""))
        if self._received > self._max_bytes:
            raise TooLarge(self._max_bytes)
        return message

    async def linger(self) -> None:
        """Read and drop what is still coming, for a short while."""
        with anyio.move_on_after(self._limits.linger_s):
            while not self._is_complete:
                message = await self._receive()
                self._is_complete = not message.get("more_body")

    async def _in_time(self) -> Message:
        limits = self._limits
        allowed_s = min(limits.grace_s + self._received / limits.rate, limits.body_s)
        begun = time.monotonic()
        with anyio.move_on_after(max(allowed_s - self._waited_s, 0)):
            message = await self._receive()
            self._waited_s += time.monotonic() - begun
            return message
        raise TooSlow(self._received, allowed_s)


async def refuse(guard: BodyGuard, send: Send, answer: Message) -> None:
    """Send a refusal while its body may still be coming, and do not lose it.

    The whole answer goes out first; the end of the response, at which a server closes the
    connection, waits until the sender has stopped or a moment is over.

    Args:
        guard: Of the body.
        send: The server's.
        answer: With "status", "headers" (raw, with a length) and "body".
    """
    start = {key: answer[key] for key in ("status", "headers")}
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": answer["body"], "more_body": True})
    await guard.linger()
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _declared_length(scope: Scope) -> int | None:
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    if not lengths:
        return None
    if any(name == b"transfer-encoding" for name, _ in scope["headers"]):
        raise Garbled("Content-Length and Transfer-Encoding came together; send one of them.")
    if len(lengths) > 1 or not lengths[0].isdigit():
        raise Garbled("Content-Length must be one number.")
    return int(lengths[0])


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with bounds on the head, which httptools alone does not have."""

    head_bytes = 16 * 1024
    head_fields = 100
    head_s: float = 10

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  uvicorn's own
        super().__init__(*args, **kwargs)
        self._head_size = 0
        self._head_count = 0
        self._pending = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_leaving = self._has_parted = False
        self._is_whole = False
        self._cycles = 0

    @property
    def is_between(self) -> bool:
        """Whether nothing was read that is not answered: another process may go on with it."""
        if self.transport.is_closing() or self.pipeline:
            return False
        if not self._cycles:
            is_between = self._pending == 0
        else:
            is_between = self._is_whole and self.cycle.response_complete
        return is_between and self.transport.get_write_buffer_size() == 0

    def leave(self) -> None:
        """Answer what is under way and what still comes, and say with it that this ends."""
        self._is_leaving = True
        if self._cycles and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def part(self) -> None:
        """Answer nothing more, and close when the other end has: so it sees no reset."""
        self._has_parted = True
        self.transport.write_eof()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, and expect a head soon."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that is still open after 16 KiB of them is refused."""
        if self._has_parted:
            return
        super().data_received(data)
        if self._head_timer is None or self.transport.is_closing():
            return
        self._pending += len(data)
        if self._pending > self.head_bytes:
            self.send_400_response("Request head too large.")

    def on_message_begin(self) -> None:
        """See the first byte of a head."""
        super().on_message_begin()
        self._is_whole = False
        self._head_size = self._head_count = self._pending = 0
        self._expect_head()

    def on_url(self, url: bytes) -> None:
        """See some of the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """See a field, or one of a trailer."""
        self._head_count += 1
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """See the end of the head."""
        self._stop_timer()
        super().on_headers_complete()
        self._cycles += 1
        if self._is_leaving:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """See the end of a request, whether or not its body was wanted."""
        super().on_message_complete()
        self._is_whole = True

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > self.head_bytes or self._head_count > self.head_fields:
            raise ValueError("head too large")  # the parser turns it into a 400

    def _expect_head(self) -> None:
        self._stop_timer()
        self._head_timer = asyncio.get_running_loop().call_later(self.head_s, self._too_late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_late(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
