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
          {"go": true}: what waits has been told what to become; {"rest": true}: that is over
    out   {"ready": true}    {"started": pid}    {"refused": why}
          {"ended": status, "because": "memory" | "pids" | ""}
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from types import FrameType

    from rolekit.guest.orders import Start, Terms

if TYPE_CHECKING or __package__:
    from rolekit.guest import inside, kin, rights, sandboxed, scratches, spawner, starting
else:  # as a script: from beside it, and nothing else from there
    sys.path.insert(0, str(Path(__file__).parent))
    import inside
    import kin
    import rights
    import sandboxed
    import scratches
    import spawner
    import starting

    del sys.path[0]


LOOK_MS = 50
"""How often a guest without a cgroup is looked at: what it uses, and how many it is."""
SPARE = 10
"""Times its own limit, for what else a user starts, where only that user can be limited."""
PIPES, FILTER = 3, 4
"""Descriptors that come with an order: so many pipes first, and behind them the gate of one
that waits; then the place of the filter."""
BWRAP_PIDS = 2
"""Bubblewrap is a process outside of its sandbox and one inside, beside the guest's."""
SOCKET = "guest.sock"
"""Where a server with the files of the machine listens, in the keeper's folder."""


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
                self._clear()
                self._tell({"refused": str(error)})
        elif "inside" in order:
            if self._main:
                told = cast("inside.Order", order["inside"])
                self._helpers.add(inside.go(told, fds, self._inside, self._scratch_place))
        elif "go" in order or "rest" in order:
            self._waits = "rest" in order
        elif self._main:
            self._clear()

    # -- starting ----------------------------------------------------------------------------

    def _start(self, order: Start, fds: list[int]) -> None:
        scratch = self._scratch(order["folders"]) if order["has_scratch"] else None
        self._scratch_place = str(scratch or order["env"].get("HOME", ""))
        has_spawner, is_boxed = order["has_spawner"], order["pids"] is not None
        ours = 1 if has_spawner else BWRAP_PIDS if is_boxed else 0
        self._groups.allow(self._terms["pids"] + ours)
        if is_boxed:
            pid, why = self._start_boxed(order, fds)
        elif scratch is not None and has_spawner:
            place = scratches.Scratches(scratch)
            pid, why = self._spawner(fds[0], place, self._limits(order)), ""
        else:
            pid, why = self._start_plain(order, fds, scratch)
        if why:
            self._clear()
            self._tell({"refused": why})
            return
        self._main, self._waits = pid, order["waits"]
        # Where one stays, a shell keeps it.
        self._beside = BWRAP_PIDS + has_spawner if is_boxed else 0
        self._tell({"started": pid})

    def _start_plain(
        self, order: Start, fds: list[int], scratch: Path | None
    ) -> tuple[int, str]:
        """Start a program without a sandbox; return its process, and what went wrong."""
        pipes, files = fds[:PIPES], fds[PIPES:]
        if scratch is not None and files:
            with open(files[0], "rb", closefd=False) as data:
                for name, size in zip(order["files"], order["sizes"], strict=True):
                    (scratch / name).write_bytes(data.read(size))
        places = starting.numbered(order, pipes, ())
        return starting.fork(order, places, scratch, self._groups.join, self._limits(order))

    def _start_boxed(self, order: Start, fds: list[int]) -> tuple[int, str]:
        """Start a sandbox, with a spawner where it stays; likewise."""
        inner = (*os.pipe2(os.O_CLOEXEC), *os.pipe2(os.O_CLOEXEC))
        has_spawner = order["has_spawner"]
        theirs = fds[:-2] if has_spawner else fds
        places = starting.numbered(order, theirs, inner)
        pid, why = 0, ""
        try:
            if order["waits"]:
                pid = starting.spawn(order, places)
            else:
                limits = order["limits"]
                pid, why = starting.fork(order, places, None, self._groups.join, limits)
        except OSError as error:
            why = str(error)
        why = self._bound(order, inner, pid, is_bare=order["waits"]) or why
        if has_spawner and not why and self._inside is not None:
            channel, said = fds[-2:]
            place = sandboxed.Sandboxed(self._inside, fds[FILTER], said)
            # Itself is one of them.
            most = {"RLIMIT_NPROC": cast("int", order["pids"])}
            self._spawner(channel, place, order["limits"] | most)
        return pid, why

    def _spawner(self, channel: int, place: spawner.Place, limits: dict[str, int]) -> int:
        pid = spawner.fork(channel, place, limits, self._groups.join)
        self._helpers.add(pid)
        return pid

    def _limits(self, order: Start) -> dict[str, int]:
        """Limits of a guest that is a process of our user, as all are without a sandbox."""
        own = {"RLIMIT_NPROC": self._user_limit} if self._user_limit else {}
        return order["limits"] | own

    def _scratch(self, folders: list[str]) -> Path:
        self._runs += 1
        scratch = self._folder / str(self._runs)
        scratch.mkdir(mode=0o700)
        for name in folders:
            (scratch / name).mkdir()
        return scratch

    def _bound(self, order: Start, inner: tuple[int, ...], pid: int, *, is_bare: bool) -> str:
        """Limit the processes in a sandbox, which has a count of its own, and let it run.

        A limit set before its user namespace was made would count all sandboxes together.

        Args:
            order: How it was started.
            inner: Pipes to and from bubblewrap.
            pid: Of bubblewrap; 0: it was not started.
            is_bare: Whether it lacks its other limits and its cgroup, too.

        Returns:
            Why it must not run; empty: it runs.
        """
        info, info_end, block_end, block = inner
        why = ""
        os.close(info_end)
        os.close(block_end)
        if pid:
            with contextlib.suppress(ValueError):  # it wrote none: it failed, and says why
                child = json.loads(starting.read_all(info))["child-pid"]
                most = {"RLIMIT_NPROC": cast("int", order["pids"])}
                try:
                    # Where a spawner is, runs have it from there: what keeps the sandbox
                    # runs nothing of the guest, and is not to count as its processes.
                    if is_bare and not order["has_spawner"]:
                        self._groups.join(pid, child)
                    with rights.as_user(order["uid"]):
                        starting.limit(child, most | (order["limits"] if is_bare else {}))
                        if order["is_reached"] or order["has_spawner"]:
                            self._inside = inside.Namespaces(
                                child, order["uid"], is_whole=order["has_spawner"]
                            )
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
        first = [] if status is None else [status]

        def note(pid: int, code: int) -> None:
            self._helpers.discard(pid)
            if pid == self._main and not first:
                first.append(os.waitstatus_to_exitcode(code))

        kin.kill_all(self._living, note)
        if self._main:
            self._main = 0
            because = "memory" if self._groups.has_killed() else self._because
            self._because = ""
            ended = first[0] if first else -signal.SIGKILL
            self._tell({"ended": ended, "because": because})
        if self._inside is not None:
            self._inside.close()
            self._inside = None
        self._end_scratch()

    def _living(self) -> set[int]:
        return {*kin.descendants(), *self._groups.pids()}

    def _end_scratch(self) -> None:
        if self._runs:
            shutil.rmtree(self._folder / str(self._runs), ignore_errors=True)
            (self._folder / SOCKET).unlink(missing_ok=True)

    def _look(self) -> None:
        """Judge a guest by what it uses, where no cgroup does it."""
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


def _only_wake(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the wake-up descriptor says it, but only if there is a handler."""


if __name__ == "__main__":
    kin.adopt_orphans()
    for inherited in sys.argv[1:3]:  # channel and lock: a guest must have neither
        os.set_inheritable(int(inherited), False)  # noqa: FBT003 - its only way
    Keeper(socket.socket(fileno=int(sys.argv[1])), json.loads(sys.argv[3])).run()
