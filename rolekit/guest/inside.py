"""What a keeper does where a guest lives: in a process of its own, which does that and ends.

A guest in a sandbox has a network and a file system of its own. A process that joins them
connects to its servers as it would itself, and a path leads where it would lead the guest,
so that no link of its making leads anywhere else. A socket made there stays there, wherever
its descriptor goes: the instance gets that, and speaks with the guest without anybody
between them.

Like `keeper`, of which it is a part, it imports nothing of rolekit.

Source: setns(2), ioctl_ns(2), user_namespaces(7).
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import socket
from contextlib import suppress
from typing import TypedDict


class Connect(TypedDict):
    """Where to connect to.

    Attributes:
        port: Of 127.0.0.1; 0: none.
        path: Of a Unix socket.
    """

    port: int
    path: str


_NEW_USER, _NEW_NET, _NEW_MOUNT = 0x10000000, 0x40000000, 0x00020000
_GET_USER_NAMESPACE = 0xB701
_SET_PDEATHSIG = 1
CONNECT_S = 5.0
_libc = ctypes.CDLL(None, use_errno=True)


class Namespaces:
    """The namespaces that a guest in a sandbox lives in, held open.

    Args:
        pid: Of its first process. Its namespaces may be looked at by who made them, as long
            as it has not become another program.
        uid: Who made them, to become before they are joined; None: us.

    Raises:
        OSError: They may not be looked at.
    """

    def __init__(self, pid: int, uid: int | None) -> None:
        self._uid = uid
        self._outer_tmp = os.stat("/tmp").st_dev  # noqa: S108, PTH116 - looked at, not used
        self._fds: list[tuple[int, int]] = []
        try:
            net = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            self._fds.append((net, _NEW_NET))
            # Not the user namespace that it ends up in: the one that has rights over these.
            user = fcntl.ioctl(net, _GET_USER_NAMESPACE)
            self._fds.insert(0, (user, _NEW_USER))
            mount = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            self._fds.append((mount, _NEW_MOUNT))
        except OSError:
            self.close()
            raise

    def join(self) -> None:
        """Move this process into them, for good.

        Raises:
            OSError: That may not be, or the guest's file system is not there yet.
        """
        if self._uid is not None:
            os.setgroups([])
            os.setresgid(self._uid, self._uid, self._uid)
            os.setresuid(self._uid, self._uid, self._uid)
        for fd, kind in self._fds:
            if _libc.setns(fd, kind):
                error = ctypes.get_errno()
                raise OSError(error, f"its namespaces cannot be joined: {os.strerror(error)}")
        # Before bubblewrap has made it, these are the files of the machine.
        if os.stat("/tmp").st_dev == self._outer_tmp:  # noqa: S108, PTH116 - likewise
            raise FileNotFoundError(2, "its file system is not there yet")

    def close(self) -> None:
        """Let go of them; they end with the last who is in them."""
        for fd, _ in self._fds:
            os.close(fd)
        self._fds = []


def connect(order: Connect, reply: int, where: Namespaces) -> int:
    """Connect in a guest's namespaces; send the connection over a socket, or what was wrong.

    Whoever waits at the other end sees it close, should this fail in any other way.

    Returns:
        The process that does it.
    """
    me, pid = os.getpid(), os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        _libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == me:
            _answer(order, socket.socket(fileno=reply), where)
    finally:
        os._exit(0)


def _answer(order: Connect, answer: socket.socket, where: Namespaces) -> None:
    try:
        where.join()
        made = _connected(order)
        socket.send_fds(answer, [b"{}"], [made.fileno()])
    except OSError as error:
        told = {"errno": error.errno or 0, "error": error.strerror or str(error)}
        with suppress(OSError):  # nobody waits any more
            answer.send(json.dumps(told).encode())


def _connected(order: Connect) -> socket.socket:
    if order["port"]:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.settimeout(CONNECT_S)
        made.connect(("127.0.0.1", order["port"]))
    else:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(CONNECT_S)
        made.connect(order["path"])
    return made
