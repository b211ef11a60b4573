"""What runs one program after another: a process of its own, forked from the keeper.

A fork of a Python for each run costs more than most programs. This one stays, and
`posix_spawn` copies nothing. All that a run shall have, it has itself, and passes on: the
cgroup, the limits, the score by which the kernel kills where memory is short, and in a sandbox
the want of rights. Each run is a session of its own, with the environment that it is told.

Where it works says what a run must not leave to the next: see `sandboxed`, and `scratches`.

Its channel (SOCK_SEQPACKET, JSON):

    out   {"ready": true, "scratch": folder}    {"never": why}
    in    {} with stdin, stdout, stderr and a file: {"argv": […], "env": {…}}
    out   {"status": status, "is_clean": …}    {"refused": why}    then as at first

`never` may come in place of each of these: then the spawner has failed, and is gone.

Like `keeper`, of which it is a part, it imports nothing of rolekit.

Source: posix_spawn(3), setrlimit(2).
"""

from __future__ import annotations

import ctypes
import errno
import json
import math
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

if TYPE_CHECKING or __package__:
    from rolekit.guest import starting
else:  # as a script: from beside it, and nothing else from there
    sys.path.insert(0, str(Path(__file__).parent))
    import starting

    del sys.path[0]

OWN_SHARE = 0.5
"""Of the processor time that a run may have: so much for the spawner, in all of its life."""
_libc = ctypes.CDLL(None, use_errno=True)


class Place(Protocol):
    """Where a spawner works.

    Attributes:
        fds: What must stay open in it.
        scratch: Folder that the next run starts in; empty: the one that it has in a sandbox.
        death_signal: That the spawner gets when its keeper dies.
    """

    fds: list[int]
    scratch: str
    death_signal: signal.Signals

    def enter(self, limits: Mapping[str, int]) -> None:
        """Go there for good, with these limits; raises an `OSError` when that may not be."""
        ...

    def is_left_clean(self) -> bool:
        """Whether nothing that is left of a run can reach the next, once `renew` was called."""
        ...

    def renew(self) -> None:
        """Be ready for the next run; raises an `OSError` when that cannot be."""
        ...


def fork(
    channel: int, place: Place, limits: Mapping[str, int], join: Callable[[], None]
) -> int:
    """Start one; return its process.

    Args:
        channel: Over which it is told what to run.
        place: Where.
        limits: Of each run, by the name that `resource` has for them.
        join: Moves the process that calls it into the cgroup.
    """
    me, pid = os.getpid(), os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        sys.path.clear()  # nothing is to be imported from what a guest sees
        _live(socket.socket(fileno=channel), place, limits, join, me)
    finally:
        os._exit(0)


def _live(
    channel: socket.socket,
    place: Place,
    limits: Mapping[str, int],
    join: Callable[[], None],
    parent: int,
) -> None:
    try:
        starting.OWN_SCORE.write_bytes(starting.OOM_SCORE)
        join()
        _only(channel.fileno(), *place.fds)
        _serve(channel, place, limits, parent)
    except Exception as error:  # noqa: BLE001 - the edge of a process
        channel.send(json.dumps({"never": f"{type(error).__name__}: {error}"}).encode())


def _serve(
    channel: socket.socket, place: Place, limits: Mapping[str, int], parent: int
) -> None:
    # What is started has our limits from its first moment. That of processor time is of each
    # process, so a spawner is given up before it has used much of it itself.
    own_s = limits.get("RLIMIT_CPU", math.inf) * OWN_SHARE
    place.enter(limits)
    # Behind a change of user, which would clear it.
    _libc.prctl(starting.PR_SET_PDEATHSIG, place.death_signal, 0, 0, 0)
    if os.getppid() != parent:
        return
    while True:
        channel.send(json.dumps({"ready": True, "scratch": place.scratch}).encode())
        text, fds, _, _ = socket.recv_fds(channel, 4096, 8)
        if not text:
            return
        answer: dict[str, object]
        try:
            status = _run(fds)
        except OSError as error:
            answer = {"refused": str(error)}
        else:
            is_clean = _is_left_clean(place) and time.process_time() < own_s
            answer = {"status": status, "is_clean": is_clean}
        channel.send(json.dumps(answer).encode())
        place.renew()  # whoever waits for the run need not wait for this


def _is_left_clean(place: Place) -> bool:
    """Whether nothing is left, for all we can tell: a run may have taken us our memory."""
    try:
        return place.is_left_clean()
    except (OSError, MemoryError):
        return False


def _run(fds: list[int]) -> int:
    """Run a program; return its exit status, or minus the signal that ended it."""
    try:
        for fd in fds:
            os.set_inheritable(fd, False)  # noqa: FBT003 - its only way
        told = json.loads(starting.read_all(fds[3]))
        argv, env = told["argv"], told["env"]
        try:
            pid = _spawned(argv, env, fds)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            pid = _spawned(["/bin/sh", *argv], env, fds)  # as execvp does
    finally:
        for fd in fds:
            os.close(fd)
    while True:
        ended, status = os.waitpid(-1, 0)  # orphans too: one not reaped counts as a process
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def _spawned(argv: list[str], env: dict[str, str], fds: list[int]) -> int:
    return os.posix_spawn(
        argv[0],
        argv,
        env,
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(fds[:3])],
        setsid=True,
        setsigdef=starting.IGNORED,
    )


def _only(*kept: int) -> None:
    """Close all others: we wait for an end of what bubblewrap says, which we held too."""
    at = 3
    for fd in sorted(kept):
        os.closerange(at, fd)
        at = fd + 1
    os.closerange(at, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
