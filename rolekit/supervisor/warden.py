"""The process between a supervisor and its zygote: whoever dies, all that is below ends.

    supervisor ──> warden ──fork──> zygote ──fork──> instance, N times

What loses its parent is adopted by the nearest ancestor that asks for it. An instance asks, so
what its programs leave behind is its own, in whichever session that is; the zygote asks, so
that what a dead instance leaves is seen there. When the zygote itself dies the kernel kills
its instances, and what those had started comes here. The other way round, a zygote that loses
its warden ends all below and itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from rolekit.supervisor import linux

if TYPE_CHECKING:
    from collections.abc import Iterable

_OF_A_GROUP = (signal.SIGINT, signal.SIGTERM)
_HEARD = (signal.SIGCHLD, signal.SIGCONT)


def stand_between(supervisor_pid: int, channel: int) -> int:
    """Fork; return in the child only, which is to become the zygote.

    The parent returns never: it ends with its child, or with the supervisor, and ends all
    that is below it first.

    Args:
        supervisor_pid: Of the parent.
        channel: A descriptor that only the child keeps, so that its end is seen at once.

    Returns:
        The process id of the warden. The child is killed by the kernel when that one dies.
        Where nobody adopts orphans there is no warden, and this is the supervisor's.
    """
    if not linux.is_here():
        return supervisor_pid
    linux.adopt_orphans()
    # Only the supervisor ends this process. A service manager that signals the whole group
    # must not cut the instances' soft stop short.
    before = {
        one: signal.signal(one, signal.SIG_IGN) for one in (signal.SIGINT, signal.SIGTERM)
    }
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    linux.outlive_parent()
    me, child = os.getpid(), os.fork()
    if child == 0:
        linux.die_with_parent(me)
        for one, handler in before.items():
            signal.signal(one, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
        return me
    os.close(channel)
    while os.getppid() == supervisor_pid and not _has_ended(child):
        signal.sigwait(_HEARD)
    end_all_below()
    os._exit(0)


def kill(children: Iterable[int]) -> None:
    """Kill children of this process, which has not waited for them yet."""
    for pid in children:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def kill_group(leader: int) -> None:
    """Kill a child of this process, which has not waited for it yet, and its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def end_all_below(forked: Iterable[int] = ()) -> None:
    """Kill every child, and what is adopted from it, until there is none.

    Args:
        forked: Children, each of which leads a group; all that is known of them where the
            system does not list them.
    """
    for pid in forked:
        kill_group(pid)
        kill([pid])  # it may not lead its group yet
    with contextlib.suppress(ChildProcessError):
        while True:
            kill(linux.children())
            os.waitpid(-1, 0)


def _has_ended(child: int) -> bool:
    found = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return found is not None
