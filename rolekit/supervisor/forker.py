"""The supervisor's side of the zygote: start it, order forks, learn who ended.

A zygote that dies takes its instances along (PDEATHSIG). The next fork starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import ConfigError, RolekitError
from rolekit.supervisor import linux, notify, wire
from rolekit.supervisor.channel import Incoming
from rolekit.supervisor.wire import AppBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from rolekit.link import InstanceSpec

GIVES_WAY_S = 10.0
"""For so long others go first: where no CPU is ever idle, that would be for ever."""
DEFAULT_TARGET = "rolekit.wiring:instance_main"

# Not for instances and guests.
_KEPT = (
    "ROLEKIT_CONTROL_TOKEN",
    "ROLEKIT_CONTROL_TOKEN_FILE",
    "ROLEKIT_DASHBOARD_TOKEN",
    "ROLEKIT_DASHBOARD_TOKEN_FILE",
    *notify.VARIABLES,
)

_log = structlog.get_logger("rolekit.supervisor")

_END_S = 2.0
"""A zygote whose channel is closed ends all below it in this time, and then itself."""


class ForkFailed(RolekitError):
    """No instance was started this time."""


@dataclass(slots=True, kw_only=True)
class Birth:
    """A process that was just forked.

    Attributes:
        pid: For people to read. To signal it, use the pidfd.
        pidfd: Readable once it ended. Whoever got this closes it. None: the system has no
            such; then the status tells the end, and `ask` has the zygote signal it.
        printed: What it prints can be read from there, likewise; None: nowhere.
        status: Exit code, or minus the signal; None when the zygote died before saying it.
    """

    pid: int
    pidfd: int | None
    status: asyncio.Future[int | None]
    printed: int | None = None
    ask: Callable[[signal.Signals], None] = lambda _: None

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it, so that it can be no other; nothing happens when it is gone."""
        if self.pidfd is None:
            self.ask(number)
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)


@dataclass(slots=True)
class _Pending:
    started: asyncio.Future[tuple[int, int, int | None]]
    status: asyncio.Future[int | None]


@dataclass(slots=True)
class _Process:
    """One zygote and the orders it has not answered."""

    popen: subprocess.Popen[bytes]
    channel: socket.socket
    incoming: Incoming
    described: asyncio.Future[wire.Described | wire.Broken]
    births: dict[int, _Pending] = field(default_factory=dict[int, _Pending])
    is_lost: bool = False


class Forker:
    """Forks instances through a zygote that it keeps alive.

    Args:
        app: "module:attribute".
        target: "module:function" that runs an instance.
        broker: URL; what instances need for it is imported once.
        environ: Variables over those of this process.
        roles: Which are run here; empty: all.
        start_method: How instances are started: "fork", or "spawn".
        import_s: How long the import of the app may take.
    """

    def __init__(  # noqa: PLR0913 - each but the first may be left out
        self,
        app: str,
        *,
        target: str = DEFAULT_TARGET,
        broker: str = "",
        environ: Mapping[str, str] | None = None,
        roles: Collection[str] = (),
        start_method: str = "fork",
        import_s: float = 120,
    ) -> None:
        self._load = wire.Load(app, target, broker, start_method)
        given = {**os.environ, **(environ or {})}
        self._environ = {name: value for name, value in given.items() if name not in _KEPT}
        self._roles = roles
        self._import_s = import_s
        self._process: _Process | None = None
        self._starting = asyncio.Lock()
        self._sending = asyncio.Lock()
        self._number = 0
        self._asked: set[asyncio.Task[None]] = set()

    async def start(self, *, gives_way: bool = False) -> wire.Described:
        """Start the zygote; return what the app is made of.

        Args:
            gives_way: Others serve meanwhile, and get the CPU first.

        Raises:
            ConfigError: The app's name leads nowhere, or it lacks a role that is to run here.
            AppBroken: The app cannot start.
        """
        _, described = await self._started(gives_way=gives_way)
        return described

    async def fork(
        self, spec: InstanceSpec, line: socket.socket, shared: Sequence[socket.socket] = ()
    ) -> Birth:
        """Start one instance; the caller closes its own `line` and keeps what is shared.

        Raises:
            ForkFailed: This time it did not work.
            AppBroken, ConfigError: The zygote had to start anew, and the app has changed.
        """
        process, _ = await self._started()
        loop = asyncio.get_running_loop()
        self._number += 1
        number = self._number
        pending = _Pending(loop.create_future(), loop.create_future())
        process.births[number] = pending
        fds = (line.fileno(), *(one.fileno() for one in shared))
        await self._send(process, wire.Fork(number, spec), fds)
        pid, printed, pidfd = await pending.started
        ask = partial(self._ask, process, number)
        return Birth(pid=pid, pidfd=pidfd, status=pending.status, printed=printed, ask=ask)

    def _ask(self, process: _Process, number: int, which: signal.Signals) -> None:
        """Have the zygote signal an instance, which is its child as long as it lives."""
        asked = asyncio.ensure_future(self._send(process, wire.Signal(number, which), ()))
        self._asked.add(asked)
        asked.add_done_callback(self._asked.discard)

    async def stop(self) -> None:
        """End the zygote, and with it whatever it forked. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            self._lose(process)
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.popen.wait, _END_S)
            process.popen.kill()
            await asyncio.to_thread(process.popen.wait)

    async def _started(self, *, gives_way: bool = False) -> tuple[_Process, wire.Described]:
        async with self._starting:
            process = self._process
            if process is None or process.is_lost:
                if process is not None:
                    _log.warning("the zygote died, and its instances with it; starting another")
                    await self.stop()
                process = self._process = self._spawn()
                if gives_way:
                    _let_others_first(process)
                await self._send(process, self._load, ())
            async with asyncio.timeout(self._import_s):
                report = await asyncio.shield(process.described)
        if isinstance(report, wire.Broken):
            if report.is_usage:
                raise ConfigError(report.problem.what, fix=report.problem.fix)
            raise AppBroken(self._load.app, (report.problem,), traceback=report.traceback)
        if report.problems:
            raise AppBroken(report.app, report.problems)
        return process, report.only(self._roles) if self._roles else report

    def _spawn(self) -> _Process:
        """Start the process; must run in the main thread, whose life the kernel watches."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)  # noqa: FBT003 - the only way to say it
        with theirs:
            command = [sys.executable, "-m", "rolekit.supervisor.zygote"]
            popen = subprocess.Popen(  # noqa: S603 - our own module
                [*command, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                env=self._environ,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # a terminal's Ctrl-C is for the supervisor alone
            )
        loop = asyncio.get_running_loop()
        process = _Process(popen, ours, Incoming(ours), loop.create_future())
        loop.add_reader(ours, self._read, process)
        return process

    async def _send(
        self, process: _Process, record: wire.ToZygote, fds: tuple[int, ...]
    ) -> None:
        outgoing = wire.outgoing(record, fds)
        async with self._sending:
            while not process.is_lost:
                try:
                    outgoing.send(process.channel)
                except BlockingIOError:
                    await _writable(process.channel)
                except OSError:
                    self._lose(process)
                else:
                    return

    def _read(self, process: _Process) -> None:
        while not process.is_lost:
            try:
                report = wire.receive_report(process.incoming)
            except BlockingIOError:
                return
            except OSError:
                report = None
            if report is None:
                self._lose(process)
            else:
                _take(process, *report)

    def _lose(self, process: _Process) -> None:
        """Answer everybody who waits for this zygote."""
        if process.is_lost:
            return
        process.is_lost = True
        asyncio.get_running_loop().remove_reader(process.channel)
        process.channel.close()
        if not process.described.done():
            process.described.set_result(_UNANSWERED)
        for pending in process.births.values():
            if not pending.started.done():
                pending.started.set_exception(ForkFailed("The zygote died before it forked."))
            if not pending.status.done():
                pending.status.set_result(None)
        process.births.clear()


_UNANSWERED = wire.Broken(
    wire.Problem(
        "The process that imports the app ended before it was done.",
        "Does the app, or a library, end the process or crash at import? Try `rolekit check`.",
    )
)


def _take(process: _Process, report: wire.FromZygote, fds: list[int]) -> None:
    match report:
        case wire.Described() | wire.Broken():
            if not process.described.done():
                process.described.set_result(report)
        case wire.Started(number, pid):
            pending = process.births[number]
            if pending.started.done():  # whoever ordered it went away: end it again
                for fd in fds:
                    os.close(fd)
            else:
                printed, *pidfd = fds
                pending.started.set_result((pid, printed, pidfd[0] if pidfd else None))
        case wire.NotStarted(number, why):
            pending = process.births.pop(number)
            if not pending.started.done():
                pending.started.set_exception(ForkFailed(why))
        case wire.Exited(number, status):
            pending = process.births.pop(number)
            if not pending.status.done():
                pending.status.set_result(status)


def _let_others_first(process: _Process) -> None:
    """Give a zygote little CPU until it has answered, or has had time enough."""
    loop = asyncio.get_running_loop()
    group = process.popen.pid  # of all that it starts
    again: asyncio.TimerHandle | None = None

    def let(*, first: bool) -> None:
        nonlocal again
        if not linux.let_others_first(group, first=first):
            again = loop.call_later(linux.AGAIN_S, partial(let, first=first))

    def enough(_: object = None) -> None:
        late.cancel()
        if again is not None:
            again.cancel()
        let(first=False)

    let(first=True)
    late = loop.call_later(GIVES_WAY_S, enough)
    process.described.add_done_callback(enough)


async def _writable(channel: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    writable = asyncio.Event()
    loop.add_writer(channel, writable.set)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await writable.wait()
    finally:
        loop.remove_writer(channel)
