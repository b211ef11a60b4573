"""The process that reaches into a container, for guests that listen or have folders.

    python reach.py DESCRIPTOR PID CONTAINER

It joins network and files of a container, becomes the user that the guest is, and does there
what the instance asks over the descriptor (see `inside`), each in a process of its own. The
launcher starts one for each container that is to be reached, and ends it with that.

It says "ready" at standard output, or why not, and closes that.

Like `keeper` it is run as a script, and imports nothing of rolekit but `inside`, so that it
starts fast, and needs nothing of the files that it leaves behind.

Source: setns(2), pidfd_open(2).
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from rolekit.guest import inside
else:  # as a script: from beside it, and nothing else from there
    sys.path.insert(0, str(Path(__file__).parent))
    import inside

    del sys.path[0]

NOBODY = 65534
SCRATCH = "/tmp"  # noqa: S108 - of the container
READY = "ready"
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
NEW_NET, NEW_MOUNT, NEW_USER = 0x40000000, 0x00020000, 0x10000000
_libc = ctypes.CDLL(None, use_errno=True)


def join(pid: int, container: str) -> None:
    """Move this process to where the first process of a container is, as its guest's user.

    Raises:
        OSError: That may not be, or it is gone.
    """
    first = os.pidfd_open(pid)
    # A number means somebody else where the engine counts processes that we do not see.
    if container not in Path(f"/proc/{pid}/cgroup").read_text():
        raise ProcessLookupError(3, "its process is not seen from here")
    kinds = NEW_NET | NEW_MOUNT
    its, ours = Path(f"/proc/{pid}/ns/user"), Path("/proc/self/ns/user")
    if its.readlink() != ours.readlink():
        kinds |= NEW_USER  # without a privileged engine: what comes next is allowed in there
    if _libc.setns(first, kinds):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    os.close(first)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)  # and so without a capability
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def serve(channel: socket.socket) -> None:
    """Do what is asked, until nobody can ask any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for who does it
    while True:
        try:
            text, fds, _, _ = socket.recv_fds(channel, 1 << 16, 8)
        except ConnectionResetError:
            return
        if not text:
            return
        for fd in fds:  # Python 3.11 does not pass MSG_CMSG_CLOEXEC on
            os.set_inheritable(fd, False)  # noqa: FBT003 - its only way
        inside.go(json.loads(text)["inside"], fds, None, SCRATCH)
        for fd in fds:
            os.close(fd)


def main() -> None:
    """Join, say so, serve."""
    channel, parent = socket.socket(fileno=int(sys.argv[1])), os.getppid()
    try:
        join(int(sys.argv[2]), sys.argv[3])
    except OSError as error:
        os.write(1, (error.strerror or str(error)).encode())
        return
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # becoming another would clear it
    if os.getppid() != parent:
        return
    os.write(1, READY.encode())
    os.dup2(2, 1)
    serve(channel)


if __name__ == "__main__":
    main()
