"""What a spawner does in a sandbox that stays: it enters, and tells whether a run left traces.

It joins the namespaces of a sandbox in which only a shell waits. It is not in the namespace of
processes there, only what it starts is: no guest can name it, by a signal, in /proc or
otherwise. What it starts is in a user namespace of its own, beside that of bubblewrap's
processes, so those are not to be looked into or changed either. It has what a guest has, no
rights and the filter of system calls, since all of it is passed on.

After each run it says whether anything was left: a process, a change in a place that may be
written, a packet, something of System V. Such a sandbox is thrown away. So it cleans up
nothing, and a program that leaves nothing, as most that read and write their pipes, has a
sandbox for the cost of a look.

What a program could leave, and why it does not reach the next one:

- What is open ends with who has it open, and that is a process: files without a name, memfds,
  locks, inotify, timers, terminals (whose settings are made anew for each) and sockets, with
  their abstract names. Sockets that are on their way in one another stay a moment more, and
  names in the network for IPv6 some seconds: `LISTED` has them.
- What is a process's own ends with it: cwd, umask, nice, ioprio, limits, timers, memory.
- Mounts, names of the machine, routes, packet filters: to change them takes rights over
  bubblewrap's user namespace, which no guest has. Keyrings are denied by the filter, settings
  of the kernel (also that for core dumps) read-only; POSIX message queues have a limit of 0.
- The shell and bubblewrap's first process are of the same user, so a guest may stop them, send
  them signals, limit them, or have them killed sooner where memory is short: `KEEPERS`. What
  else it may set for them, such as their processors, touches no run: those have it from us.
- What only counts up tells that there were others: numbers of processes, of files, of System V.

Like `keeper`, of which it is a part, it imports nothing of rolekit.

Source: setns(2), user_namespaces(7), seccomp(2), proc(5).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

if TYPE_CHECKING or __package__:
    from rolekit.guest import inside, starting
else:  # as a script: from beside it, and nothing else from there
    sys.path.insert(0, str(Path(__file__).parent))
    import inside
    import starting

    del sys.path[0]

HOME = "/tmp"  # noqa: S108 - the scratch folder of a sandbox
WRITABLE = (HOME, "/dev/shm", "/dev/pts")  # noqa: S108 - looked at
"""All that a guest may change, with what is in it from the beginning, as folders above
something that is shown in /tmp. A change of any kind, or in a folder, changes its ctime."""
KEEPERS = ("1", "2")
"""The processes that keep a sandbox: bubblewrap's first, and the shell."""
ASLEEP = b"S"
FIRST_FIELD, FIELDS = 3, (3, 19, 41)
"""In /proc/<pid>/stat, by their numbers in proc_pid_stat(5): see `_states`. The first is the
one behind the name, which may have blanks in it."""
LISTED = (
    *(f"sysvipc/{kind}" for kind in ("shm", "sem", "msg")),
    *(f"1/net/{name}" for name in ("dev", "unix", "ip6_flowlabel")),
    *(f"{pid}/{name}" for pid in KEEPERS for name in ("limits", "oom_score_adj")),
)
"""In /proc: what there is of System V; how much has passed the loopback device, and what is
left of sockets; what a guest may change of the keepers, besides `_states`."""
SETTINGS = "/proc/sys"
HERE = b"\n"
"""Said by the shell that waits in a sandbox: it is all there."""
_NEW_USER = 0x10000000
_SET_DUMPABLE, _SET_SECCOMP, _DROP_BOUND, _SET_NO_NEW_PRIVS = 4, 22, 24, 38
_FILTER_MODE, _CAPABILITIES_3 = 2, 0x20080522
_READ_ONLY, _REMOUNT, _BIND = 1, 32, 4096
_COARSE = 5
"""The clock that the kernel takes times of files from; it steps some times in 10 ms."""
_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """A filter, as the kernel takes it: `sock_fprog`."""

    _fields_ = (("count", ctypes.c_ushort), ("code", ctypes.c_void_p))


class Sandboxed:
    """A sandbox that a spawner works in; see `spawner.Place`.

    Args:
        where: The sandbox.
        program: Descriptor of the filter of system calls.
        said: Where the shell in it says that it is there.
    """

    scratch = ""
    death_signal = signal.SIGKILL
    """When its keeper dies: the sandbox ends by itself then."""

    def __init__(self, where: inside.Namespaces, program: int, said: int) -> None:
        self._where = where
        self._program = program
        self._said = said
        self.fds = [program, said, *where.fds]

    def enter(self, limits: Mapping[str, int]) -> None:
        """Go there for good, without rights, when the sandbox is there."""
        code = os.pread(self._program, 1 << 16, 0)  # bubblewrap reads it too
        _wait(self._said)
        _enter(self._where)
        self._traces = _Traces()
        # What is in a message queue stays, out of sight.
        _give_up_rights(code, {**limits, "RLIMIT_MSGQUEUE": 0})

    def is_left_clean(self) -> bool:
        """Whether a run has left nothing at all."""
        return self._traces.is_clean()

    def renew(self) -> None:
        """Do nothing: it is as it was."""


class _Traces:
    """Tells whether a run has left anything, by how it was before the first."""

    def __init__(self) -> None:
        self._processes = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        self._places = [
            os.open(place, flags) for top in WRITABLE for place in _below(Path(top))
        ]
        self._lists = list(self._opened(LISTED))
        self._stats = list(self._opened(f"{pid}/stat" for pid in KEEPERS))
        # A change in the same step of the clock could not be told from none, and who keeps
        # the sandbox is on its way to its wait for a moment.
        while any(state[0] != ASLEEP for state in self._states()) or time.clock_gettime_ns(
            _COARSE
        ) <= max(self._changed_ns()):
            time.sleep(0.001)
        self._before = self._now()

    def is_clean(self) -> bool:
        """Whether all is as it was, also at a second look: who forks may be missed at one."""
        try:
            return self._now() == self._before and self._living() == self._before[0]
        except ProcessLookupError:  # of a keeper, which is gone, and the sandbox with it
            return False

    def _now(self) -> tuple[list[str], list[int], list[list[bytes]], list[bytes]]:
        lists = [os.pread(fd, 1 << 16, 0) for fd in self._lists]
        return self._living(), self._changed_ns(), self._states(), lists

    def _living(self) -> list[str]:
        names = os.listdir(self._processes)  # noqa: PTH208 - by a descriptor
        return [name for name in names if name.isdigit()]

    def _changed_ns(self) -> list[int]:
        return [os.fstat(fd).st_ctime_ns for fd in self._places]

    def _states(self) -> list[list[bytes]]:
        """Return of each keeper: state, nice, policy of the scheduler."""
        texts = (os.pread(fd, 1 << 12, 0).rpartition(b") ")[2].split() for fd in self._stats)
        return [[text[number - FIRST_FIELD] for number in FIELDS] for text in texts]

    def _opened(self, names: Iterable[str]) -> Iterator[int]:
        flags = os.O_RDONLY | os.O_CLOEXEC
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # no System V, say, or no IPv6
                yield os.open(name, flags, dir_fd=self._processes)


def _below(place: Path) -> Iterator[Path]:
    """Yield it, and what is in it on the same file system: the rest is read-only."""
    yield place
    state = place.lstat()
    for inner in place.iterdir() if stat.S_ISDIR(state.st_mode) else ():
        if inner.lstat().st_dev == state.st_dev:
            yield from _below(inner)


# -- to the sandbox ------------------------------------------------------------------------


def _wait(said: int) -> None:
    """Wait until the sandbox is there."""
    if (told := os.read(said, 4096)) != HERE:
        raise OSError(told.decode(errors="replace").strip() or "bubblewrap ended at once")
    os.close(said)


def _enter(where: inside.Namespaces) -> None:
    """Join a sandbox, with a user namespace of our own in it, and make its /proc/sys so.

    Raises:
        OSError: That may not be here.
    """
    own = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    where.join()
    where.close()
    # Settings of the kernel are of these namespaces, and the guest's to change: it owns them.
    place = os.fsencode(SETTINGS)
    _done(_libc.mount(place, place, None, _BIND, None), "mount")
    flags = _BIND | _REMOUNT | _READ_ONLY
    _done(_libc.mount(None, place, None, flags, None), "remount")
    uid, gid = os.geteuid(), os.getegid()
    _done(_libc.unshare(_NEW_USER), "unshare")
    _libc.prctl(_SET_DUMPABLE, 1, 0, 0, 0)  # else what follows is root's
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside.NOBODY} {uid} 1"),
        ("gid_map", f"{inside.NOBODY} {gid} 1"),
    ):
        fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=own)
        os.write(fd, text.encode())
        os.close(fd)
    os.close(own)
    os.chdir(HOME)


def _give_up_rights(code: bytes, limits: Mapping[str, int]) -> None:
    """Have no more than a guest may have: what is started has what we have."""
    starting.limit(0, limits)
    capability = 0
    while not _libc.prctl(_DROP_BOUND, capability, 0, 0, 0):
        capability += 1
    head = (ctypes.c_uint32 * 2)(_CAPABILITIES_3, 0)
    _done(_libc.capset(head, (ctypes.c_uint32 * 6)()), "capset")
    _done(_libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    held = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(held))
    _done(_libc.prctl(_SET_SECCOMP, _FILTER_MODE, ctypes.byref(program), 0, 0), "seccomp")


def _done(result: int, what: str) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
