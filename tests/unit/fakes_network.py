"""Both ends of a faulty network: a server that echoes, and clients that talk by hand."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from rolekit.testing.faults import Proxy
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from rolekit.testing.frames import Frame

WAIT_S = patient(5.0)
QUIET_S = 0.05
"""How long nothing must be heard to say that nothing comes."""


class Peer:
    """One end of a connection, with a deadline for each wait."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *items: bytes | Frame) -> None:
        for item in items:
            self.writer.write(item if isinstance(item, bytes) else item.encode())

    async def get(self, count: int) -> bytes:
        async with asyncio.timeout(WAIT_S):
            return await self.reader.readexactly(count)

    async def rest(self) -> bytes:
        async with asyncio.timeout(WAIT_S):
            return await self.reader.read()

    async def hears_nothing(self) -> bool:
        try:
            async with asyncio.timeout(QUIET_S):
                await self.reader.readexactly(1)
        except TimeoutError:
            return True
        return False


class Server:
    """Accepts, keeps what comes, and sends it back if it is to."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.got: list[bytearray] = []
        self.ends: list[str] = []
        self.echoes = True
        self._changed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peers.append(Peer(reader, writer))
        got = bytearray()
        self.got.append(got)
        try:
            while data := await reader.read(65536):
                got += data
                if self.echoes:
                    writer.write(data)
                self._changed.set()
            self.ends.append("eof")
        except OSError:
            self.ends.append("reset")
        self._changed.set()
        writer.close()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


class Net:
    """A server, a proxy before it, and clients."""

    def __init__(self, server: Server, proxy: Proxy) -> None:
        self.server = server
        self.proxy = proxy
        self._peers: list[Peer] = []

    async def client(self, *hello: bytes | Frame) -> Peer:
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.proxy.port))
        self._peers.append(peer)
        peer.send(*hello)
        number = len(self._peers)
        await self.until(lambda: number in self.proxy.connections or self.proxy.is_refusing)
        return peer

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            await self.proxy.until(holds)

    async def close(self) -> None:
        for peer in self._peers:
            peer.writer.close()
            with contextlib.suppress(OSError):
                await peer.writer.wait_closed()


@contextlib.asynccontextmanager
async def network() -> AsyncGenerator[Net]:
    """Set all of it up; at the end no connection may be left."""
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with Proxy("127.0.0.1", port) as proxy:
        made = Net(server, proxy)
        yield made
        await made.close()
    listener.close()
    await server.until(lambda: len(server.ends) == len(server.got))
