"""One connection to an HTTP server in a guest: a request, its whole answer, the next one."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import h11

from rolekit.errors import GuestFailed, Reject

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HEAD_BYTES = 64 * 1024
"""A head of an answer that is longer is a fault."""
NO_ANSWER = "it ended the connection instead of answering."
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OURS = _HOP_BY_HOP | {"content-length", "expect"}


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a server answered.

    Attributes:
        status: 200 to 599.
        headers: In the order they came, names in lower case; without those that are about
            the connection only (hop-by-hop).
        body: All of it, without a transfer coding.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str, default: str = "") -> str:
        """Return the value of a header, several joined by commas, or the default."""
        found = [value for key, value in self.headers if key == name.lower()]
        return ", ".join(found) if found else default


class Stale(Exception):
    """A connection that was used before ended without a byte of an answer."""


class HttpWire(asyncio.Protocol):
    """A connection that is open.

    Args:
        cap_bytes: A longer body is a fault.

    Attributes:
        is_open: Whether another request can be made.
        is_noisy: Whether the server wrote what nobody asked for.
        idle_since_s: Monotonic time of the last answer.
    """

    def __init__(self, cap_bytes: int) -> None:
        self._cap_bytes = cap_bytes
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
        self._transport: asyncio.Transport | None = None
        self._tcp: socket.socket | None = None
        self._held: list[bytes] = []
        self._changed: asyncio.Future[None] | None = None
        self._used = 0
        self._is_asked = self._is_at_end = False
        self.is_open = True
        self.is_noisy = False
        self.idle_since_s = time.monotonic()

    @classmethod
    async def on(cls, made: socket.socket, cap_bytes: int) -> HttpWire:
        """Take a connection over."""
        wire = cls(cap_bytes)
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: wire, sock=made)
        except BaseException:
            made.close()
            raise
        wire._tcp = made if made.family == socket.AF_INET else None
        return wire

    # -- for the transport -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hold what came."""
        if not self._is_asked:
            self.is_noisy = True
            self.close()
            return
        self._held.append(data)
        if self._transport is not None:
            self._transport.pause_reading()  # until it is read: much may come, fast
        self._wake()

    def eof_received(self) -> None:
        """Note the end."""
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        del exc
        self._is_at_end = True
        if not self._is_asked:
            self.is_open = False
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    # -- for a call ----------------------------------------------------------------------------

    async def exchange(self, request: h11.Request, body: bytes) -> HttpAnswer:
        """Make a request, and return its answer.

        Raises:
            Stale: The connection was over before the request came.
            GuestFailed: There was no answer, or none that is HTTP, or too long a one.
        """
        self._is_asked = True
        try:
            answer = await self._exchanged(request, body)
        except BaseException as error:
            self.close()
            if isinstance(error, h11.RemoteProtocolError):
                raise GuestFailed(f"its answer is no HTTP: {error}.") from error
            raise
        self._is_asked = False
        self._finish()
        return answer

    async def _exchanged(self, request: h11.Request, body: bytes) -> HttpAnswer:
        self._send(request, body)
        http = self._http
        head: h11.Response | None = None
        parts: list[bytes | bytearray] = []
        size_bytes = 0
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await self._read(is_first=head is None))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                size_bytes += len(event.data)
                if size_bytes > self._cap_bytes:
                    raise GuestFailed(
                        f"it wrote more than the {self._cap_bytes >> 20} MB that output_mb "
                        "allows."
                    )
                parts.append(event.data)
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return HttpAnswer(head.status_code, _end_to_end(head.headers), b"".join(parts))
            elif event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                raise GuestFailed(NO_ANSWER)

    def _send(self, request: h11.Request, body: bytes) -> None:
        parts = (request, h11.Data(data=body), h11.EndOfMessage())
        out = b"".join(self._http.send(part) or b"" for part in parts)
        if self._transport is not None:
            # Not waited for: a server may answer, and end, before it has read everything.
            self._transport.write(out)
        if self._tcp is not None:
            # A server that writes head and body apart waits for us to acknowledge the head.
            with suppress(OSError):  # over already, which is seen by who reads
                self._tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    async def _read(self, *, is_first: bool) -> bytes:
        """Return what came; empty at the end of the connection."""
        while not self._held and not self._is_at_end:
            self._changed = asyncio.get_running_loop().create_future()
            await self._changed
        data = b"".join(self._held)
        self._held.clear()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        if not data and is_first and not self._http.trailing_data[0]:
            if self._used:
                raise Stale
            raise GuestFailed(NO_ANSWER)
        return data

    def _finish(self) -> None:
        """See whether another request can be made."""
        http = self._http
        self._used += 1
        self.idle_since_s = time.monotonic()
        is_done = http.our_state is h11.DONE and http.their_state is h11.DONE
        self.is_noisy = is_done and bool(http.trailing_data[0] or self._held)
        is_sent = self._transport is not None and not self._transport.get_write_buffer_size()
        if is_done and is_sent and not self._is_at_end and not self.is_noisy:
            http.start_next_cycle()
        else:
            self.close()

    def close(self) -> None:
        """End the connection at once."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()


def request_of(
    method: str, path: str, headers: Mapping[str, str], body: bytes, told: Mapping[str, str]
) -> h11.Request:
    """Make the head of a request.

    Args:
        method: As the server will read it.
        path: Path, and query: "/x?y=1".
        headers: Of the caller; what is about the connection is left out.
        body: Its length is told.
        told: Headers that the caller's go before.

    Raises:
        Reject: There is something in it that no request can carry.
    """
    named = {
        name.strip().lower()
        for key, value in headers.items()
        if key.lower() == "connection"
        for name in value.split(",")
    }
    kept = [(key, value) for key, value in headers.items() if key.lower() not in _OURS | named]
    known = {key.lower() for key, _ in kept}
    kept += [(key, value) for key, value in told.items() if key.lower() not in known]
    if "host" not in known:
        kept.append(("Host", "localhost"))
    if body or method not in {"GET", "HEAD", "DELETE", "OPTIONS", "TRACE"}:
        kept.append(("Content-Length", str(len(body))))
    try:
        if not path.startswith("/") and path != "*":
            raise Reject(f"{path!r} is no path for a request: one begins with /.")
        return h11.Request(
            method=method.encode("ascii"),
            target=path.encode("ascii"),
            headers=[(key.encode("ascii"), value.encode("latin-1")) for key, value in kept],
        )
    except UnicodeEncodeError as error:
        raise Reject(
            f"{error.object!r} cannot stand in the head of a request: quote what is not ASCII."
        ) from error
    except h11.LocalProtocolError as error:
        raise Reject(f"{method} {path!r} makes no request: {error}.") from error


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    """Drop what is about the connection only.

    Source: RFC 9110, 7.6.1.
    """
    texts = [(key.decode("ascii"), value.decode("latin-1")) for key, value in headers]
    named = {
        name.strip().lower()
        for key, value in texts
        if key == "connection"
        for name in value.split(",")
    }
    return tuple((key, value) for key, value in texts if key not in _HOP_BY_HOP | named)
