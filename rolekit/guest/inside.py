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
import errno
import fcntl
import json
import os
import signal
import socket
import stat
from contextlib import suppress
from typing import TypedDict


class Order(TypedDict):
    """What to do.

    Attributes:
        do: "connect": to `port` of 127.0.0.1, or to the Unix socket `path`. "open": the
            folder `path` of the scratch folder. "put": a file that comes as a descriptor
            into the folder `path`, as `name`. "take": the file `name` out of the folder
            `path`, and what is left of `given` out of the folder `beside`.
        port: See above; 0: none.
        path: See above.
        name: See above.
        beside: See above.
        given: See above.
    """

    do: str
    port: int
    path: str
    name: str
    beside: str
    given: str


NOBODY = 65534
_NEW_USER, _NEW_NET, _NEW_MOUNT = 0x10000000, 0x40000000, 0x00020000
_OTHERS = (
    ("ipc", 0x08000000),
    ("uts", 0x04000000),
    ("cgroup", 0x02000000),
    ("pid", 0x20000000),
)
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
        is_whole: All of them; else those of network and files.

    Raises:
        OSError: They may not be looked at.
    """

    def __init__(self, pid: int, uid: int | None, *, is_whole: bool = False) -> None:
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
            for name, kind in _OTHERS if is_whole else ():
                fd = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
                self._fds.append((fd, kind))
        except OSError:
            self.close()
            raise

    @property
    def fds(self) -> list[int]:
        """What holds them open."""
        return [fd for fd, _ in self._fds]

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


def order(
    do: str,
    *,
    port: int = 0,
    path: str = "",
    name: str = "",
    beside: str = "",
    given: str = "",
) -> Order:
    """Make an order; see `Order`."""
    return Order(do=do, port=port, path=path, name=name, beside=beside, given=given)


def go(order: Order, fds: list[int], where: Namespaces | None, scratch: str) -> int:
    """Do something where a guest lives, in a process of its own.

    Args:
        order: What.
        fds: A socket, over which the answer goes: `{}`, with a descriptor if there is one,
            or what was wrong. Whoever waits at the other end sees it close, should this fail
            in any other way. Then what comes with the order.
        where: Of the guest; None: it has the files and the network of the machine.
        scratch: Its scratch folder, as it sees it.

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
            _answer(order, fds, where, scratch)
    finally:
        os._exit(0)


def _answer(order: Order, fds: list[int], where: Namespaces | None, scratch: str) -> None:
    answer = socket.socket(fileno=fds[0])
    try:
        if where is not None:
            where.join()
        made: list[int] = []
        match order["do"]:
            case "connect":
                made.append(_connected(order).detach())
            case "take":
                made.append(_take(order, scratch))
            case "open":
                made.append(_folder(scratch, order["path"]))
            case _:
                _put(order, fds[1], scratch)
        socket.send_fds(answer, [b"{}"], made)
    except OSError as error:
        told = {"errno": error.errno or 0, "error": error.strerror or str(error)}
        with suppress(OSError):  # nobody waits any more
            answer.send(json.dumps(told).encode())


def _folder(scratch: str, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(f"{scratch}/{name}", flags)


def _put(order: Order, data: int, scratch: str) -> None:
    """Let a file appear with all that is in it."""
    folder, name = _folder(scratch, order["path"]), order["name"]
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    new = os.open(f".{name}.new", flags, 0o600, dir_fd=folder)
    while part := os.read(data, 1 << 20):
        while part:
            part = part[os.write(new, part) :]
    os.close(new)
    os.rename(f".{name}.new", name, src_dir_fd=folder, dst_dir_fd=folder)


def _take(order: Order, scratch: str) -> int:
    """Open a file, and remove it; a link, or what is no file, is refused."""
    folder = _folder(scratch, order["path"])
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    made = os.open(order["name"], flags, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(made).st_mode):
        raise OSError(errno.EINVAL, f"{order['name']!r} is no file")
    os.unlink(order["name"], dir_fd=folder)
    with suppress(FileNotFoundError):
        beside = _folder(scratch, order["beside"])
        os.unlink(order["given"], dir_fd=beside)
    return made


def _connected(order: Order) -> socket.socket:
    if order["port"]:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.settimeout(CONNECT_S)
        made.connect(("127.0.0.1", order["port"]))
    else:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(CONNECT_S)
        made.connect(order["path"])
    return made
