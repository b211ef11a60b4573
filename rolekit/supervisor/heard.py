"""What an instance says on its line, cut into messages as it comes.

A thousand idle instances say hundreds of things a second. A stream reader would wake a task
for each of them, which costs a supervisor more than what it does about it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import msgspec
import structlog

from rolekit import link

if TYPE_CHECKING:
    import socket

Hear = Callable[[link.ToSupervisor], None]

_log = structlog.get_logger("rolekit.supervisor")

LONGEST_BYTES = 1 << 16
"""Of a message; who says more at once is none of rolekit's, and is hung up on."""


class Line(asyncio.Protocol):
    """A supervisor's end of the line to one instance.

    Args:
        name: Of the instance, for the log.

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
        _, opened = await loop.create_connection(lambda: cls(name), sock=line)
        return opened

    def __init__(self, name: str) -> None:
        self.is_over = asyncio.Event()
        self._name = name
        self._hear: Hear | None = None
        self._rest = b""

    def listen(self, hear: Hear) -> None:
        """Have each message taken, from the first on."""
        self._hear = hear
        self._cut(hear)

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
        del exc  # a line on which something was left unsaid ends with a reset
        self.is_over.set()

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
