"""Records with open files, over a stream between two processes.

Each record says in its head how long it is and how many descriptors come along (SCM_RIGHTS).
A socket that keeps records apart (SOCK_SEQPACKET) is not to be had on every system.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections import deque

_HEAD = struct.Struct("!IB")  # bytes that follow, descriptors
_FD_BYTES = array.array("i").itemsize
_MAX_FDS = 16
_AT_ONCE_BYTES = 128 * 1024


class Outgoing:
    """A record on its way; its descriptors have to stay open until it is sent."""

    def __init__(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        self._rest = memoryview(_HEAD.pack(len(data), len(fds)) + data)
        self._fds = fds

    def send(self, line: socket.socket) -> None:
        """Send it, or what is left of it.

        Raises:
            BlockingIOError: There is no room for the rest of it now; only on a socket that
                does not block.
            OSError: The other end is gone.
        """
        while self._rest:
            sent = socket.send_fds(line, [self._rest], self._fds)
            self._rest, self._fds = self._rest[sent:], ()


class Incoming:
    """What comes from the other end.

    Args:
        line: A connected stream socket of AF_UNIX.
    """

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._data = b""
        self._fds: deque[int] = deque()

    def next(self, *, waits: bool = True) -> tuple[bytes, list[int]] | None:
        """Wait for the next record; None when the other end is gone.

        Raises:
            BlockingIOError: None is complete yet; only with `waits` off, or on a socket that
                does not block.
        """
        flags = 0 if waits else socket.MSG_DONTWAIT
        while (found := self._cut()) is None:
            try:
                data, fds = _receive(self._line, flags)
            except ConnectionResetError:  # it was killed with something unread
                data, fds = b"", []
            self._fds += fds
            if not data:
                while self._fds:
                    os.close(self._fds.popleft())
                return None
            self._data += data
        return found

    def _cut(self) -> tuple[bytes, list[int]] | None:
        if len(self._data) < _HEAD.size:
            return None
        size, count = _HEAD.unpack_from(self._data)
        end = _HEAD.size + size
        if len(self._data) < end or len(self._fds) < count:
            return None
        record, self._data = self._data[_HEAD.size : end], self._data[end:]
        return record, [self._fds.popleft() for _ in range(count)]


def _receive(line: socket.socket, flags: int) -> tuple[bytes, list[int]]:
    """Take what is there; `socket.recv_fds` forgets its flags."""
    data, ancillary, _, _ = line.recvmsg(
        _AT_ONCE_BYTES, socket.CMSG_LEN(_MAX_FDS * _FD_BYTES), flags
    )
    fds = array.array("i")
    for level, kind, sent in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(sent[: len(sent) - len(sent) % _FD_BYTES])
    for fd in fds:
        os.set_inheritable(fd, False)  # noqa: FBT003 - the only way to say it
    return data, list(fds)
