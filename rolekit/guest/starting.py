"""How a keeper starts a guest: by a fork of its own, or without one.

A fork copies the page tables of the keeper, and then each page that it or its child writes.
`posix_spawn` copies nothing, and takes a third of the time. What a child does to itself must
be done before it, then, or from outside, which is for a guest that does nothing yet: one that
waits in a sandbox. Should the keeper die before bubblewrap has asked to die with it, such a
guest ends all the same, as its gate closes.

Like `keeper`, of which it is a part, it imports nothing of rolekit.

Source: posix_spawn(3); credentials(7), on what execve makes of the saved user.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from rolekit.guest.orders import Start

if TYPE_CHECKING or __package__:
    from rolekit.guest import rights
else:  # as a script: from beside it, and nothing else from there
    sys.path.insert(0, str(Path(__file__).parent))
    import rights

    del sys.path[0]

SECCOMP_FD, INFO_FD, BLOCK_FD, GATE_FD, FIRST_FILE_FD = 3, 4, 5, 6, 7
"""Where bubblewrap finds its filter, says which process it made, and waits before that runs;
where what it runs is told what to become; where bubblewrap finds files."""
ABOVE = 64
"""Descriptors are moved above these before they get the numbers that the guest expects."""
OOM_SCORE = b"500"
IGNORED_S = 1
"""So much processor time later than told by SIGXCPU, a process that ignores it is killed."""
IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""By Python, and not by programs."""
PR_SET_PDEATHSIG = 1
OWN_SCORE = Path("/proc/self/oom_score_adj")
_libc = ctypes.CDLL(None, use_errno=True)


def numbered(order: Start, fds: list[int], inner: tuple[int, ...]) -> dict[int, int]:
    """Say which descriptor gets which number in the guest."""
    places, rest = dict(zip(fds[:3], range(3), strict=True)), fds[3:]
    if order["waits"]:
        places[rest.pop(0)] = GATE_FD
    if inner:
        places[rest.pop(0)] = SECCOMP_FD
    places |= dict(zip(rest, range(FIRST_FILE_FD, FIRST_FILE_FD + len(rest)), strict=True))
    return places | {inner[1]: INFO_FD, inner[2]: BLOCK_FD} if inner else places


def spawn(order: Start, places: Mapping[int, int]) -> int:
    """Start bubblewrap for a guest that waits, without limits; return its process.

    Args:
        order: How.
        places: Which descriptor gets which number in it.

    Raises:
        OSError: It cannot be started.
    """
    with contextlib.ExitStack() as held:
        actions: list[tuple[int, int, int]] = []
        for fd, number in places.items():
            high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ABOVE)
            held.callback(os.close, high)
            actions.append((os.POSIX_SPAWN_DUP2, high, number))
        held.enter_context(_scored())
        if order["uid"] is not None:
            os.setgroups([])  # for good: root needs none
            held.enter_context(rights.as_user(order["uid"]))
        return os.posix_spawn(
            order["argv"][0],
            order["argv"],
            order["env"],
            file_actions=actions,
            setsid=True,
            setsigdef=IGNORED,
        )


@contextlib.contextmanager
def _scored() -> Generator[None]:
    """Have what is started inside the block killed before others, where memory is short."""
    before = OWN_SCORE.read_bytes()
    OWN_SCORE.write_bytes(OOM_SCORE)
    try:
        yield
    finally:
        OWN_SCORE.write_bytes(before)


def fork(
    order: Start,
    places: Mapping[int, int],
    scratch: Path | None,
    join: Callable[[], None],
    limits: Mapping[str, int],
) -> tuple[int, str]:
    """Start a guest.

    Args:
        order: How.
        places: Which descriptor gets which number in it.
        scratch: Its folder.
        join: Moves the process that calls it into the cgroup.
        limits: By the name that `resource` has for them.

    Returns:
        Its process, and why it is no program; empty: it is one.
    """
    said, fault = os.pipe2(os.O_CLOEXEC)
    me, pid = os.getpid(), os.fork()
    if pid == 0:
        try:
            _prepare(order, join, me)
            fault = fcntl.fcntl(fault, fcntl.F_DUPFD_CLOEXEC, ABOVE)
            _become(order, places, scratch, limits)
        except BaseException as error:  # noqa: BLE001 - the edge of a process
            os.write(fault, str(error).encode()[:4096])
        os._exit(127)
    os.close(fault)
    why = read_all(said).decode(errors="replace")
    os.close(said)
    return pid, why


def _prepare(order: Start, join: Callable[[], None], parent: int) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in IGNORED:
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    OWN_SCORE.write_bytes(OOM_SCORE)
    join()
    if order["uid"] is not None:
        os.setgroups([])
        os.setgid(order["uid"])
        os.setuid(order["uid"])
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # setuid would clear it
    if os.getppid() != parent:
        os._exit(0)


def _become(
    order: Start,
    places: Mapping[int, int],
    scratch: Path | None,
    limits: Mapping[str, int],
) -> NoReturn:
    """Turn this forked process into the guest."""
    argv, env = order["argv"], order["env"]
    os.chdir(scratch or "/")
    if scratch is not None:
        env |= {"HOME": str(scratch), "TMPDIR": str(scratch)}
    high = {fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ABOVE): n for fd, n in places.items()}
    for fd, number in high.items():
        os.dup2(fd, number)
    limit(0, limits)  # late, as this process is larger than some programs may be
    try:
        os.execve(argv[0], argv, env)  # noqa: S606 - what a keeper is for
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        os.execve("/bin/sh", ["/bin/sh", *argv], env)  # noqa: S606 - as execvp does


def limit(pid: int, limits: Mapping[str, int]) -> None:
    """Limit a process, and what it will start; 0 is this one.

    Raises:
        OSError: That may not be, or it is gone.
    """
    for name, value in limits.items():
        kind = getattr(resource, name)
        hard = resource.prlimit(pid, kind)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        end = most + IGNORED_S if name == "RLIMIT_CPU" and most == value else most
        resource.prlimit(pid, kind, (most, end))


def read_all(fd: int) -> bytes:
    """Read to the end."""
    whole = b""
    while data := os.read(fd, 4096):
        whole += data
    return whole
