"""The process beside an instance that starts guests, one after another, and clears up.

It is run as a script and imports nothing of rolekit but its parts beside it, so that it
is small and starts fast. It has one thread, so forking is safe in it, and it becomes the
parent of every orphan that a guest leaves: whatever descends from it belongs to the guest
that runs now, also what put itself into a session of its own.

It outlives its instance for as long as it takes to clear up: the end of the channel, however
the instance came to it, is the order to go.

On the channel (SOCK_SEQPACKET, JSON):

    in    {"start": …} with descriptors    {"kill": true}
          {"inside": …} with a socket, over which the answer goes, and other descriptors
          {"go": true}: what waits has been told what to become
    out   {"ready": true}    {"started": pid, "scratch": folder}    {"refused": why}
          {"ended": status, "because": "memory" | "pids" | "", "never": why it never ran}
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import json
import os
import resource
import select
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

if TYPE_CHECKING:
    from types import FrameType

    from rolekit.guest.orders import Start, Terms

if TYPE_CHECKING or __package__:
    from rolekit.guest import inside, kin, rights
else:  # as a script: from beside it, and nothing else from there
    sys.path.insert(0, str(Path(__file__).parent))
    import inside
    import kin
    import rights

    del sys.path[0]


PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LOOK_MS = 50
"""How often a guest without a cgroup is looked at: what it uses, and how many it is."""
SPARE = 10
"""Times its own limit, for what else a user starts, where only that user can be limited."""
CLEAR_S = 10.0
ABOVE = 64
"""Descriptors are moved above these before they get the numbers that the guest expects."""
SECCOMP_FD, INFO_FD, BLOCK_FD, GATE_FD, FIRST_FILE_FD = 3, 4, 5, 6, 7
"""Where bubblewrap finds its filter, says which process it made, and waits before that runs;
where what it runs is told what to become; where bubblewrap finds files."""
BWRAP_PIDS = 2
"""Bubblewrap is a process outside of its sandbox and one inside, beside the guest's."""
WAITS = "\0"
"""Said by a guest that has come to its gate."""
OOM_SCORE = b"500"
SOCKET = "guest.sock"
"""Where a server with the files of the machine listens, in the keeper's folder."""
_libc = ctypes.CDLL(None, use_errno=True)


class Keeper:
    """Starts guests as it is told, and leaves nothing of them."""

    def __init__(self, channel: socket.socket, terms: Terms) -> None:
        self._channel = channel
        self._terms = terms
        self._groups = kin.Groups(terms["groups"])
        self._folder = Path(terms["folder"])
        self._user_limit = 0
        if not self._groups.folders and os.geteuid() != 0:
            # A backstop: what others of this user start counts too, so it is generous.
            most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
            wanted = rights.count_of_user() + SPARE * terms["pids"]
            self._user_limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        self._runs = 0
        self._main = 0
        self._beside = 0
        self._said: int | None = None
        self._waits = False
        self._because = ""
        self._scratch_place = ""
        self._inside: inside.Namespaces | None = None
        self._helpers: set[int] = set()

    def run(self) -> None:
        """Serve until the instance closes its end, or dies."""
        woken, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _only_wake)
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(woken, select.POLLIN)
        gc.freeze()  # what is there now is there to stay: a fork need not copy it
        if not self._groups.folders:
            rights.get_ahead()
        self._tell({"ready": True})
        try:
            self._serve(poll, woken)
        finally:
            self._clear()
            self._groups.remove()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _serve(self, poll: select.poll, woken: int) -> None:
        while True:
            is_watched = self._main and not self._waits and not self._groups.folders
            ready = {fd for fd, _ in poll.poll(LOOK_MS if is_watched else None)}
            if woken in ready:
                os.read(woken, 4096)
                self._reap()
            if self._channel.fileno() in ready and not self._obey():
                return
            if is_watched:
                self._look()

    def _obey(self) -> bool:
        try:
            text, fds, _, _ = socket.recv_fds(self._channel, 1 << 20, 250)
        except ConnectionResetError:  # an instance that died with a report of ours unread
            return False
        if not text:
            return False
        for fd in fds:  # Python 3.11 does not pass MSG_CMSG_CLOEXEC on
            os.set_inheritable(fd, False)  # noqa: FBT003 - its only way
        self._follow(json.loads(text), fds)
        for fd in fds:
            os.close(fd)
        return True

    def _follow(self, order: dict[str, object], fds: list[int]) -> None:
        if "start" in order:
            try:
                self._start(cast("Start", order["start"]), fds)
            except OSError as error:
                self._tell({"refused": str(error)})
        elif "inside" in order:
            if self._main:
                told = cast("inside.Order", order["inside"])
                self._helpers.add(inside.go(told, fds, self._inside, self._scratch_place))
        elif "go" in order:
            self._waits = False
        elif self._main:
            self._clear()

    # -- starting ----------------------------------------------------------------------------

    def _start(self, order: Start, fds: list[int]) -> None:
        scratch = self._scratch(order["folders"]) if order["has_scratch"] else None
        self._scratch_place = str(scratch or order["env"].get("HOME", ""))
        said, fault = os.pipe2(os.O_CLOEXEC)
        inner = (
            () if order["pids"] is None else (*os.pipe2(os.O_CLOEXEC), *os.pipe2(os.O_CLOEXEC))
        )
        me, pid = os.getpid(), os.fork()
        if pid == 0:
            self._become(order, _numbered(order, fds, inner), scratch, fault, me)
        os.close(fault)
        why = os.read(said, 4096).decode().removeprefix(WAITS)
        if inner:
            why = self._bound(order, inner, started=not why) or why
        if why:
            os.close(said)
            self._clear()
            self._tell({"refused": why})
            return
        self._main, self._said, self._waits = pid, said, order["waits"]
        self._beside = 0 if order["pids"] is None else BWRAP_PIDS
        self._tell({"started": pid, "scratch": str(scratch or "")})

    def _scratch(self, folders: list[str]) -> Path:
        self._runs += 1
        scratch = self._folder / str(self._runs)
        scratch.mkdir(mode=0o700)
        for name in folders:
            (scratch / name).mkdir()
        return scratch

    def _become(
        self,
        order: Start,
        places: dict[int, int],
        scratch: Path | None,
        fault: int,
        parent: int,
    ) -> NoReturn:
        """Turn this forked process into the guest; says why where it cannot."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, programs do not
            os.setsid()
            Path("/proc/self/oom_score_adj").write_bytes(OOM_SCORE)
            self._groups.join()
            if order["uid"] is not None:
                os.setgroups([])
                os.setgid(order["uid"])
                os.setuid(order["uid"])
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # setuid would clear it
            if os.getppid() != parent:
                os._exit(0)
            env = order["env"]
            os.chdir(scratch or "/")
            if scratch is not None:
                env |= {"HOME": str(scratch), "TMPDIR": str(scratch)}
            fault = fcntl.fcntl(fault, fcntl.F_DUPFD_CLOEXEC, ABOVE)
            high = {
                fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ABOVE): n for fd, n in places.items()
            }
            for fd, number in high.items():
                os.dup2(fd, number)
            argv = order["argv"]
            if not argv:
                os.write(fault, WAITS.encode())
                if not (told := _read_all(GATE_FD)):
                    os._exit(0)  # it is not wanted any more
                going = json.loads(told)
                argv, env = going["argv"], env | going["env"]
                os.set_inheritable(GATE_FD, False)  # noqa: FBT003 - its only way
            self._limit(order["limits"])  # what waits is larger than some programs may be
            os.execve(argv[0], argv, env)  # noqa: S606 - what a keeper is for
        except BaseException as error:  # noqa: BLE001 - the edge of a process
            os.write(fault, str(error).encode()[:4096])
        os._exit(127)

    def _limit(self, limits: dict[str, int]) -> None:
        for name, value in limits.items():
            kind = getattr(resource, name)
            hard = resource.getrlimit(kind)[1]
            most = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (most, most))
        if self._user_limit:
            resource.setrlimit(resource.RLIMIT_NPROC, (self._user_limit, self._user_limit))

    def _bound(self, order: Start, inner: tuple[int, ...], *, started: bool) -> str:
        """Limit the processes in a sandbox, which has a count of its own, and let it run.

        A limit set before its user namespace was made would count all sandboxes together.

        Returns:
            Why it must not run; empty: it runs.
        """
        info, info_end, block_end, block = inner
        why = ""
        os.close(info_end)
        os.close(block_end)
        if started:
            with contextlib.suppress(ValueError):  # it wrote none: it failed, and says why
                child = json.loads(_read_all(info))["child-pid"]
                most = cast("int", order["pids"])
                try:
                    with rights.as_user(order["uid"]):
                        resource.prlimit(child, resource.RLIMIT_NPROC, (most, most))
                        if order["is_reached"]:
                            self._inside = inside.Namespaces(child, order["uid"])
                except OSError as error:
                    # Before it sees that nobody holds it back.
                    kin.send_signal(child, signal.SIGKILL)
                    why = f"it could not be limited, or looked into: {error}"
                else:
                    os.write(block, b"1")
        os.close(info)
        os.close(block)
        return why

    # -- ending ------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Take note of who ended; with its first process, a guest has."""
        ended: int | None = None
        for pid, status in kin.ended():
            self._helpers.discard(pid)
            if pid == self._main:
                ended = os.waitstatus_to_exitcode(status)
        if ended is not None:
            self._clear(ended)

    def _clear(self, status: int | None = None) -> None:
        """Kill what there is of the guest, until there is nothing, and report its end."""
        until_s = time.monotonic() + CLEAR_S
        while pids := self._frozen():
            for pid in pids:
                kin.send_signal(pid, signal.SIGKILL)
            gone = 0
            for pid, code in kin.ended():
                gone += 1
                self._helpers.discard(pid)
                if pid == self._main and status is None:
                    status = os.waitstatus_to_exitcode(code)
            if not gone:
                if time.monotonic() > until_s:
                    break
                time.sleep(0.001)
        if self._main:
            self._main = 0
            never = self._last_said()
            because = "memory" if self._groups.has_killed() else self._because
            self._because = ""
            ended = -signal.SIGKILL if status is None else status
            self._tell({"ended": ended, "because": because, "never": never})
        if self._inside is not None:
            self._inside.close()
            self._inside = None
        self._end_scratch()

    def _last_said(self) -> str:
        """Return why the guest, which is gone, never became a program; empty: it did."""
        if self._said is None:
            return ""
        said = _read_all(self._said).decode(errors="replace")
        os.close(self._said)
        self._said = None
        return said.removeprefix(WAITS)

    def _frozen(self) -> set[int]:
        """Stop all of them before any is killed: who is stopped starts no others."""
        known: set[int] = set()
        while new := self._living() - known:
            for pid in new:
                kin.send_signal(pid, signal.SIGSTOP)
            known |= new
        return known

    def _living(self) -> set[int]:
        return {*kin.descendants(), *self._groups.pids()}

    def _end_scratch(self) -> None:
        if self._runs:
            shutil.rmtree(self._folder / str(self._runs), ignore_errors=True)
            (self._folder / SOCKET).unlink(missing_ok=True)

    def _look(self) -> None:
        """Judge a guest by what it uses, where no cgroup does it."""
        if self._said is not None and not select.select([self._said], [], [], 0)[0]:
            return  # it has not become a program yet: that would have closed the pipe
        used_bytes = count = 0
        page = resource.getpagesize()
        for pid in set(kin.descendants()) - self._helpers:
            with contextlib.suppress(OSError, IndexError):
                used_bytes += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
            count += 1
        if count > self._terms["pids"] + self._beside:
            self._because = "pids"
        elif used_bytes > self._terms["memory_bytes"]:
            self._because = "memory"
        if self._because:
            self._clear()

    def _tell(self, report: dict[str, object]) -> None:
        with contextlib.suppress(OSError):  # an instance that is gone is seen by run
            self._channel.send(json.dumps(report).encode())


def _numbered(order: Start, fds: list[int], inner: tuple[int, ...]) -> dict[int, int]:
    """Say which descriptor gets which number in the guest."""
    places, rest = dict(zip(fds[:3], range(3), strict=True)), fds[3:]
    if order["waits"]:
        places[rest.pop(0)] = GATE_FD
    if inner:
        places[rest.pop(0)] = SECCOMP_FD
    places |= dict(zip(rest, range(FIRST_FILE_FD, FIRST_FILE_FD + len(rest)), strict=True))
    return places | {inner[1]: INFO_FD, inner[2]: BLOCK_FD} if inner else places


def _read_all(fd: int) -> bytes:
    whole = b""
    while data := os.read(fd, 4096):
        whole += data
    return whole


def _only_wake(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the wake-up descriptor says it, but only if there is a handler."""


if __name__ == "__main__":
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for inherited in sys.argv[1:3]:  # channel and lock: a guest must have neither
        os.set_inheritable(int(inherited), False)  # noqa: FBT003 - its only way
    Keeper(socket.socket(fileno=int(sys.argv[1])), json.loads(sys.argv[3])).run()
