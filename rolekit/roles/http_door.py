"""Where connections come in: new ones, and open ones from instances that leave.

Not asyncio's own server: one that is closed drops what it has accepted and not yet begun,
and it accepts whatever waits, though other instances wait on the same socket.
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from rolekit.roles.http_passing import Passing

log = structlog.get_logger("rolekit.web")

AT_ONCE = 8
"""Connections accepted in one turn of the loop; the rest is left to the others."""
_REST_S = 0.5
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Door:
    """Takes connections until it is closed.

    Args:
        listening: Shared with other instances; closed with the door, in this process only.
        passing: Of the role, if it has other instances.
        protocol: Makes what speaks on a connection.
    """

    def __init__(
        self,
        listening: socket.socket,
        passing: Passing | None,
        protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._passing = passing
        self._protocol = protocol
        self._beginning: set[asyncio.Task[object]] = set()
        self._is_open = True
        listening.setblocking(False)  # noqa: FBT003 - the only way to say it
        self._listen()
        if passing is not None:
            self._loop.add_reader(passing.taking, passing.take, self._begin)

    async def close(self) -> None:
        """Take no more; what was taken has begun when this returns."""
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._listening)
        self._listening.close()
        if self._passing is not None:
            self._loop.remove_reader(self._passing.taking)
        if self._beginning:
            await asyncio.wait(self._beginning)

    def _listen(self) -> None:
        if self._is_open:
            self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                log.exception("no connection can be accepted now; trying again")
                self._loop.remove_reader(self._listening)
                self._loop.call_later(_REST_S, self._listen)
                return
            self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        connection.setblocking(False)  # noqa: FBT003 - the only way to say it
        # Owned by close(), which waits for it.
        beginning = self._loop.create_task(self._speak(connection))
        self._beginning.add(beginning)
        beginning.add_done_callback(self._beginning.discard)

    async def _speak(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError as error:  # it is gone already
            log.debug("a connection did not begin", error=str(error))
            connection.close()
