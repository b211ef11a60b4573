"""The streams of a container: one connection, in place of three pipes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from rolekit.guest.pipes import Pipes

if TYPE_CHECKING:
    import socket

HEAD_BYTES = 8
STDERR = 2


class Attached(Pipes):
    """What a guest in a container is spoken to by; as `Pipes`, once it is connected."""

    _connection: asyncio.Transport | None = None

    async def open(self) -> None:
        """Do nothing: the connection comes with the guest."""

    async def connect(self, stream: socket.socket) -> None:
        """Take over the connection to a guest."""
        loop = asyncio.get_running_loop()
        made = await loop.create_unix_connection(lambda: _Streams(self), sock=stream)
        self._connection = made[0]

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.abort()


class _Streams(asyncio.Protocol):
    """Parts what comes into the streams that it is of."""

    def __init__(self, pipes: Attached) -> None:
        self._stdin = pipes.stdin
        self._stdout = pipes.said or pipes.stdout
        self._stderr = pipes.stderr
        self._held = bytearray()
        self._left_bytes = 0
        self._is_stderr = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        ours = cast("asyncio.Transport", transport)
        self._stdin.connection_made(_HalfClosing(ours))
        self._stdout.connection_made(transport)
        self._stderr.connection_made(transport)

    def pause_writing(self) -> None:
        self._stdin.pause_writing()

    def resume_writing(self) -> None:
        self._stdin.resume_writing()

    def data_received(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if not self._left_bytes:
                wanted = HEAD_BYTES - len(self._held)
                self._held += view[:wanted]
                view = view[wanted:]
                if len(self._held) < HEAD_BYTES:
                    return
                self._is_stderr = self._held[0] == STDERR
                self._left_bytes = int.from_bytes(self._held[4:], "big")
                self._held.clear()
                continue
            part, view = view[: self._left_bytes], view[self._left_bytes :]
            self._left_bytes -= len(part)
            (self._stderr if self._is_stderr else self._stdout).data_received(bytes(part))

    def connection_lost(self, exc: Exception | None) -> None:
        self._stdin.connection_lost(exc)
        self._stderr.connection_lost(exc)
        self._stdout.connection_lost(exc)


class _HalfClosing(asyncio.WriteTransport):
    """A transport whose end for writing can be closed alone."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._is_closed or self._transport.is_closing()

    def close(self) -> None:
        """Let the guest read an end, behind what was written."""
        if not self.is_closing():
            self._is_closed = True
            self._transport.write_eof()

    def abort(self) -> None:
        self._transport.abort()
