"""Open connections on their way from an instance that leaves to one that stays.

A kept connection that an idle server closes may just carry a request: its sender sees a
reset, and cannot know whether the request was done. So an instance that leaves closes none.
It puts the descriptor into a socket pair that all instances of its role inherited, and
another one takes it from there, as it takes new connections from the listening socket. What
the sender wrote meanwhile waits in the connection. The supervisor holds the pair open, so
that nothing is lost while nobody reads.

Source: unix(7), SCM_RIGHTS: a descriptor under way keeps its connection open.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_ONE = b"c"


class Passing:
    """An instance's ends of the pair of its role.

    Attributes:
        is_wanted: Whether somebody will take what is given.
    """

    def __init__(self, taking: socket.socket, giving: socket.socket) -> None:
        for end in (taking, giving):
            end.setblocking(False)  # noqa: FBT003 - likewise
        self._taking, self._giving = taking, giving
        self.is_wanted = True

    @property
    def taking(self) -> socket.socket:
        """Readable when there may be a connection to take."""
        return self._taking

    def give(self, fd: int) -> bool:
        """Give a connection; the caller then closes its own descriptor. False: not now."""
        try:
            socket.send_fds(self._giving, [_ONE], [fd])
        except OSError:  # full, or too many are under way: the next turn tries again
            return False
        return True

    def take(self, into: Callable[[socket.socket], None]) -> None:
        """Take one connection, unless another instance was faster."""
        with suppress(BlockingIOError, InterruptedError):
            _, fds, _, _ = socket.recv_fds(self._taking, len(_ONE), 1)
            for fd in fds:
                into(socket.socket(fileno=fd))

    def close(self) -> None:
        """Close both ends, in this process only."""
        self._taking.close()
        self._giving.close()
