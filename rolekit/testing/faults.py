"""A network that fails on demand: a TCP proxy between clients and their server.

    async with Proxy("127.0.0.1", broker.port) as proxy:
        connection = await aio_pika.connect(proxy.url(broker.url()))
        proxy.on_frame = drops(Direction.TO_CLIENT, "Basic.Ack")   # confirms get lost
        await proxy.until(lambda: proxy.to_client.dropped["Basic.Ack"] == 3)
        proxy.to_server.stall()                                    # and then nothing goes on

It carries any protocol. Where a client begins as AMQP 0-9-1 does, frames are its units: it
counts them, shows each to `on_frame`, and starts and stops to swallow only between two.
TLS is carried, but not looked into.
"""

from __future__ import annotations

import asyncio
import contextlib
import urllib.parse
from typing import TYPE_CHECKING, Self

from rolekit.testing.flows import Direction, Faults, Flow, OnFrame, Verdict, cuts, drops
from rolekit.testing.frames import Frame
from rolekit.testing.wire import Link, reset

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Direction", "Flow", "Frame", "OnFrame", "Proxy", "Verdict", "cuts", "drops"]


class Proxy(Faults):
    """Listens on a free port of 127.0.0.1 and connects each client to the target.

    Its faults hold for all connections, also for those that come later. What `on_frame`
    raises comes out of the `async with`.

    Args:
        host: The target's.
        port: The target's.
        seed: Makes the jitter the same each time.

    Attributes:
        port: Where it listens.
        is_refusing: Whether each new client is reset at once.
        accepted: How many clients have come so far, refused ones included; each one's number.
    """

    def __init__(self, host: str, port: int, *, seed: int = 0) -> None:
        super().__init__(seed)
        self.port = 0
        self.is_refusing = False
        self.accepted = 0
        self._target = (host, port)
        self._links: dict[int, Link] = {}
        self._is_closed = False
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        tasks = await self._stack.enter_async_context(asyncio.TaskGroup())

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self._is_closed:
                reset(writer)
            else:
                tasks.create_task(self._serve(reader, writer))

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._stack.callback(self._close, server)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    @property
    def connections(self) -> tuple[int, ...]:
        """Numbers of the connections there are, half-open ones included."""
        return tuple(self._links)

    def url(self, url: str) -> str:
        """Return the same URL, through the proxy."""
        parts = urllib.parse.urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return urllib.parse.urlunsplit(
            parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}")
        )

    def heal(self) -> None:
        """Take all faults away, for the connections that are left and for new ones."""
        self.to_server.heal()
        self.to_client.heal()
        self.on_frame = None
        self.is_refusing = False

    def cut(self, *only: int, by_reset: bool = True) -> None:
        """End connections now: what is on its way is lost.

        Args:
            only: Their numbers; none for all.
            by_reset: Whether both ends get an error, or an orderly close.
        """
        for link in self._chosen(only):
            link.end(by_reset=by_reset)

    def half_open(self, gone: Direction, *only: int) -> None:
        """Reset one end of connections, and let the other believe that all is well.

        Args:
            gone: Where the end lies that is reset.
            only: Their numbers; none for all.
        """
        for link in self._chosen(only):
            link.abandon(gone)

    def _chosen(self, only: tuple[int, ...]) -> list[Link]:
        return [link for number, link in self._links.items() if not only or number in only]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        number = self.accepted
        self.look()
        server = None if self.is_refusing else await self._connect()
        if server is None or self._is_closed:
            for end in [writer] + ([server[1]] if server else []):
                reset(end)
            return
        self._links[number] = Link(number, self, (reader, writer), server)
        self.look()
        try:
            await self._links[number].run()
        finally:
            del self._links[number]
            self.look()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        try:
            return await asyncio.open_connection(*self._target)
        except OSError:
            return None

    def _close(self, server: asyncio.Server) -> None:
        self._is_closed = True
        server.close()
        self.cut()
