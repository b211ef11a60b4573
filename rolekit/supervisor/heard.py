"""What an instance says on its line, cut into messages as it comes.

A thousand idle instances say hundreds of things a second. A stream reader would wake a task
for each of them, which costs a supervisor more than what it does about it; and so does a loop
that wakes for each, so lines of those that are ready are read in rounds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import msgspec
import structlog

from rolekit import link

if TYPE_CHECKING:
    import socket

    from rolekit.supervisor.rounds import Rounds

Hear = Callable[[link.ToSupervisor], None]

_log = structlog.get_logger("rolekit.supervisor")

_READ_BYTES = 1 << 16
LONGEST_BYTES = 1 << 16
"""Of a message; who says more at once is none of rolekit's, and is hung up on."""


class Line(asyncio.Protocol):
    """A supervisor's end of the line to one instance.

    Args:
        name: Of the instance, for the log.
        line: Our end, which does not block.

    Attributes:
        transport: To write to.
        is_over: Set when the other end was closed, and everything was heard.
    """

    transport: asyncio.Transport

    @classmethod
    async def open(cls, name: str, line: socket.socket) -> Line:
        """Take over our end of a line; what comes is kept until somebody listens."""
        line.setblocking(False)  # noqa: FBT003 - the only way to say it
        loop = asyncio.get_running_loop()
        _, opened = await loop.create_connection(lambda: cls(name, line), sock=line)
        return opened

    def __init__(self, name: str, line: socket.socket) -> None:
        self.is_over = asyncio.Event()
        self._socket = line
        self._rounds: Rounds | None = None
        self._name = name
        self._hear: Hear | None = None
        self._rest = b""

    def listen(self, hear: Hear) -> None:
        """Have each message taken, from the first on."""
        self._hear = hear
        self._cut(hear)

    def read_in(self, rounds: Rounds) -> None:
        """Have it read in rounds from now on, instead of at once."""
        if self._rounds is None and not self.transport.is_closing():
            self.transport.pause_reading()
            self._rounds = rounds
            rounds.add(self)

    def read_at_once(self) -> None:
        """Have it read at once again."""
        if self._rounds is not None:
            self._rounds.remove(self)
            self._rounds = None
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def read(self) -> None:
        """Take what is there, while it is read in rounds."""
        data = b"-"
        while data and self._rounds is not None:
            try:
                data = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self.data_received(data)
        self.read_at_once()  # it is over, which the transport finds out

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what is written to."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self._rest += data
        if self._hear is not None:
            self._cut(self._hear)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nothing more comes."""
        self.read_at_once()
        if exc is not None:
            self._read_rest()
        self.is_over.set()

    def _read_rest(self) -> None:
        """Take what was said before the end: writing to who has died ends the transport first.

        A line on which something was left unsaid ends with a reset.
        """
        with contextlib.suppress(OSError):
            while data := self._socket.recv(_READ_BYTES):
                self.data_received(data)

    def _cut(self, hear: Hear) -> None:
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            try:
                message = link.from_instance(line)
            except msgspec.MsgspecError as error:
                _log.error(
                    "a line that is not rolekit's", instance=self._name, error=str(error)
                )
            else:
                hear(message)
        if len(self._rest) > LONGEST_BYTES:
            _log.error("a line that does not end; hanging up", instance=self._name)
            self._rest = b""
            self.transport.abort()
