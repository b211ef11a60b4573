"""Guests that are HTTP servers: a request in, an answer out."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol, cast

from rolekit.errors import GuestFailed
from rolekit.guest.current import current_message
from rolekit.guest.http_wire import NO_ANSWER, HttpAnswer, HttpWire, Stale, request_of
from rolekit.guest.servers import PROBE_S, Server, until_well

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import h11

    from rolekit.guest.hosts import Host
    from rolekit.guest.servers import Door

IDLE_S = 2.0
"""A connection that rested for longer is not used again: servers end them, unannounced."""
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


class HttpGuest(Protocol):
    """An HTTP server that stays."""

    async def request(
        self,
        method: str,
        path: str,
        /,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> HttpAnswer:
        """Make a request, and return its answer, whatever its status.

        The server is told the message in work, in the headers `Rolekit-Message-Id` and
        `traceparent`. Redirects are answers like others.

        Args:
            method: "GET", "POST", …
            path: Path, and query, quoted: "/search?q=a%20b".
            headers: Besides `Host` and `Content-Length`. Those about the connection only
                (hop-by-hop) are left out.
            body: All of it.

        Raises:
            Reject: The request cannot be made: something in its head is not allowed there.
            GuestFailed: There was no answer, or none that is HTTP, or too long a one, or too
                late.
        """
        ...


class Http(Server[HttpGuest]):
    """A program that stays, and is an HTTP server.

    In its command "{port}" stands for a port of 127.0.0.1, "{socket}" for the path of a Unix
    socket: it shall listen there. A port it is told by `PORT` in its environment too. It
    must stay in the foreground.

    Args:
        command: Program and arguments.
        health: What is asked until the guest is well, and again while it is idle.
        status: What it answers to that when it is well; None: anything below 500.
        port: Where the program listens, if it cannot be told.
        in_flight: Requests at once, to one guest.
    """

    def __init__(
        self,
        *command: str,
        health: str = "/",
        status: int | None = None,
        port: int | None = None,
        in_flight: int = 1,
    ) -> None:
        super().__init__(*command, port=port, in_flight=in_flight)
        self.health = health
        self.status = status

    def serve(self, door: Door) -> HttpGuest:
        """Begin to talk."""
        return _HttpSession(door, self.health, self.status)

    def problems_in(self, host: Host, pool: int) -> Iterator[str]:
        """Say what makes no sense, for guests like this in such a host."""
        yield from super().problems_in(host, pool)
        health = cast("object", self.health)  # given by people
        if not isinstance(health, str) or not health.startswith("/") or not _is_plain(health):
            yield f"has Http(health={health!r}); a path that begins with / is expected."
        if self.status is not None and not _is_status(self.status):
            yield f"has Http(status={self.status!r}); a status from 200 to 599 is expected."


def _is_plain(path: str) -> bool:
    return path.isascii() and path.isprintable() and " " not in path


def _is_status(value: object) -> bool:
    return type(value) is int and 200 <= value < 600  # noqa: PLR2004 - as RFC 9110 has them


class _HttpSession:
    def __init__(self, door: Door, health: str, status: int | None) -> None:
        self._door = door
        self._status = status
        self._health = request_of("GET", health, {}, b"", {"Connection": "close"})
        self._what = f"GET {health} at {door.address}"
        self._idle: list[HttpWire] = []
        self._wires: set[HttpWire] = set()
        self._is_noisy = False
        self.tried = ""

    @property
    def is_noisy(self) -> bool:
        """Whether it has written what nobody asked for."""
        return self._is_noisy or any(wire.is_noisy for wire in self._idle)

    async def ready(self) -> None:
        """Wait until it answers as it does when it is well."""
        self.tried = f"nobody listens at {self._door.address}"
        await until_well(self)

    async def check(self) -> None:
        """See that it answers as it does when it is well."""
        try:
            async with asyncio.timeout(PROBE_S):
                answer = await self._on(await self._opened(), self._health, b"")
        except TimeoutError:
            raise GuestFailed(f"{self._what} was not answered in {PROBE_S:g} s.") from None
        except GuestFailed as error:
            raise GuestFailed(f"{self._what}: {error.what}") from error
        if self._status not in (None, answer.status) or (
            self._status is None and answer.status >= 500  # noqa: PLR2004 - its own fault
        ):
            wanted = self._status or "less than 500"
            raise GuestFailed(f"{self._what} was answered {answer.status}, not {wanted}.")

    async def request(
        self,
        method: str,
        path: str,
        /,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> HttpAnswer:
        """Make a request; see `HttpGuest`."""
        told = current_message.get().headers()
        request = request_of(method, path, headers or {}, body, told)
        try:
            return await self._on(self._rested() or await self._opened(), request, body)
        except Stale:
            # Nobody can know whether it came to be worked on, so only what may be repeated.
            if method not in _REPEATABLE:
                raise GuestFailed(NO_ANSWER) from None
            return await self._on(await self._opened(), request, body)

    async def _on(self, wire: HttpWire, request: h11.Request, body: bytes) -> HttpAnswer:
        try:
            answer = await wire.exchange(request, body)
        finally:
            if not wire.is_open:
                self._wires.discard(wire)
        self._is_noisy |= wire.is_noisy
        if wire.is_open:
            self._idle.append(wire)
        return answer

    def _rested(self) -> HttpWire | None:
        while self._idle:
            wire = self._idle.pop()
            if wire.is_open and time.monotonic() - wire.idle_since_s < IDLE_S:
                return wire
            self._is_noisy |= wire.is_noisy
            self._wires.discard(wire)
            wire.close()
        return None

    async def _opened(self) -> HttpWire:
        try:
            made = await self._door.connect()
        except OSError as error:
            why = error.strerror or str(error)
            raise GuestFailed(f"it takes no connection: {why}.") from error
        wire = await HttpWire.on(made, self._door.cap_bytes)
        self._wires.add(wire)
        return wire

    def close(self) -> None:
        """Let go of every connection."""
        for wire in self._wires:
            wire.close()
        self._wires.clear()
        self._idle.clear()
