"""The zygote: a fresh process without threads that imports the app once, and forks instances.

Started with exec by `forker.py`, so it never had a thread or an event loop; that is what
makes its forks safe. It imports the app and freezes the heap, so that what instances share
with it stays shared: a garbage collection would otherwise write to every page.

    python -m rolekit.supervisor.zygote DESCRIPTOR SUPERVISOR_PID
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import importlib
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, cast

from rolekit.supervisor import linux, output, sharing, warden, wire
from rolekit.supervisor.channel import Incoming
from rolekit.supervisor.describe import examine
from rolekit.supervisor.spawning import spawn

if TYPE_CHECKING:
    from types import FrameType

    from rolekit.link import InstanceSpec

Target = Callable[..., int]
"""`target(spec, line, listening, *passing)` runs one instance in a process of its own: the
socket of its `bind` or None, and what else its role shares. Its answer is the exit code."""
WarmUp = Callable[[str, str], None]
"""`warm_up(app, broker)` beside the target: does once what each instance would do again."""

_CRASHED = 70  # EX_SOFTWARE


def main(descriptor: int, supervisor_pid: int) -> int:
    """Serve one supervisor until it is gone."""
    linux.die_with_parent(supervisor_pid)
    warden_pid = warden.stand_between(supervisor_pid, descriptor)
    linux.adopt_orphans()
    output.install()
    channel = socket.socket(fileno=descriptor)
    incoming = Incoming(channel)
    order = wire.receive_order(incoming)
    if order is None or not isinstance(order[0], wire.Load):
        return 1
    report, target = _prepare(order[0])
    wire.outgoing(report).send(channel)
    if target is None:
        return 1
    # Only the supervisor ends this process. A service manager that signals the whole group
    # must not cut the instances' soft stop short.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # From here on it sees by itself when those above are gone, and takes everybody along.
    linux.outlive_parent()
    Zygote(incoming, channel, target, warden_pid, spawned=_spawned(order[0])).run()
    return 0


def _spawned(load: wire.Load) -> str:
    """Name the function that instances run in interpreters of their own; empty: in forks."""
    return load.target if load.start_method == "spawn" else ""


def _prepare(load: wire.Load) -> tuple[wire.Described | wire.Broken, Target | None]:
    report = examine(load.app)
    if isinstance(report, wire.Broken) or report.problems:
        return report, None
    name, _, function = load.target.partition(":")
    module = importlib.import_module(name)
    target = cast("Target", getattr(module, function))
    warm_up: WarmUp | None = getattr(module, "warm_up", None)
    if warm_up is not None:
        warm_up(load.app, load.broker)
    if not _spawned(load):
        if why := trouble():
            problem = wire.Problem(f"Importing {load.app} left {why}", _THREAD_FIX)
            return wire.Broken(problem), None
        sharing.freeze()
    return report, target


_THREAD_FIX = (
    "Start threads and connections in on_start. A numeric library that starts its own obeys "
    'OPENBLAS_NUM_THREADS=1 or OMP_NUM_THREADS=1. Or set start_method = "spawn".'
)


def trouble() -> str:
    """Say what keeps this process from forking instances: a thread, or a loop."""
    names = [] if linux.has_one_thread() else linux.threads()
    if len(names) <= 1:  # the other one may have ended in between
        return "an event loop running; a process that forks must have none." if _loops() else ""
    return (
        f"{len(names) - 1} thread(s) running ({', '.join(names[1:4])}); a process that forks "
        "instances must have none."
    )


def _loops() -> bool:
    return asyncio._get_running_loop() is not None  # noqa: SLF001 - the public one raises


class Zygote:
    """Takes orders, forks, and reports who ended.

    Instances adopt what loses its parent below them. So what becomes a child of this process
    without being forked here was left behind by an instance that died, in whichever session
    or group it may be, and goes after it.
    """

    def __init__(
        self,
        incoming: Incoming,
        channel: socket.socket,
        target: Target,
        warden_pid: int,
        spawned: str = "",
    ) -> None:
        self._incoming = incoming
        self._channel = channel
        self._target = target
        self._warden_pid = warden_pid
        self._spawned = spawned
        self._numbers: dict[int, int] = {}  # pid -> number; ours and not reaped yet
        self._woken, self._waker = os.pipe()
        for end in (self._woken, self._waker):
            os.set_blocking(end, False)

    def run(self) -> None:
        """Serve until the supervisor or the warden is gone; then end all that is below."""
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _only_wake)
        signal.signal(signal.SIGCONT, _only_wake)  # comes when the warden dies
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while os.getppid() == self._warden_pid:
            ready = {fd for fd, _ in poll.poll()}
            if self._woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._woken, 4096)
                self._reap()
            if self._channel.fileno() in ready and not self._take_orders():
                break
        warden.end_all_below(self._numbers)

    def _take_orders(self) -> bool:
        """Do what was ordered; False: the supervisor is gone."""
        while True:
            try:
                order = wire.receive_order(self._incoming, waits=False)
            except BlockingIOError:
                return True
            match order:
                case wire.Fork() as record, fds:
                    self._fork(record, fds)
                case wire.Signal(number, which), _:
                    for pid in [pid for pid, n in self._numbers.items() if n == number]:
                        os.kill(pid, which)  # not waited for yet, so it can be no other
                case None:
                    return False
                case _:
                    pass  # the app is loaded

    def _fork(self, order: wire.Fork, fds: list[int]) -> None:
        if not self._spawned and (why := trouble()):
            self._tell(wire.NotStarted(order.number, f"The zygote has {why} {_THREAD_FIX}"))
        else:
            self._fork_now(order, fds)
        for fd in fds:
            os.close(fd)

    def _fork_now(self, order: wire.Fork, fds: list[int]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        me = os.getpid()
        printed = pipe = -1
        try:
            printed, pipe = os.pipe()
            pid = spawn(self._spawned, order.spec, fds, pipe) if self._spawned else os.fork()
        except OSError as error:  # no memory, or too many processes or open files
            for fd in (printed, pipe):
                if fd >= 0:
                    os.close(fd)
            self._tell(wire.NotStarted(order.number, f"The system did not fork: {error}."))
            return
        if pid == 0:
            self._channel.close()
            os.close(self._woken)
            os.close(printed)
            output.send_to(pipe)
            become(order.spec, fds, self._target, me)
        os.close(pipe)
        self._numbers[pid] = order.number
        pidfd = linux.pidfd(pid)  # certain to be this child: nobody else reaps it
        fds = [printed] if pidfd is None else [printed, pidfd]
        self._tell(wire.Started(order.number, pid), tuple(fds))
        for fd in fds:
            os.close(fd)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = _ended()
            except ChildProcessError:
                return
            if not pid:
                return
            number = self._numbers.pop(pid, None)
            if number is not None:
                # What the instance started and left behind. Its pid names the group safely
                # until it is reaped, which is the next line.
                warden.kill_group(pid)
            warden.kill(child for child in linux.children() if child not in self._numbers)
            if status is None:
                _, status = os.waitpid(pid, 0)
            if number is not None:
                self._tell(wire.Exited(number, os.waitstatus_to_exitcode(status)))

    def _tell(self, report: wire.FromZygote, fds: tuple[int, ...] = ()) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            wire.outgoing(report, fds).send(
                self._channel
            )  # a supervisor that is gone is seen by run


def _ended() -> tuple[int, int | None]:
    """Find a child that ended; 0: none has.

    Returns:
        Its process id, which stays its own until it is waited for; and its status, where it
        had to be waited for to be found. Then only a member of its group keeps the number.

    Raises:
        ChildProcessError: There is no child.
    """
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return os.waitpid(-1, os.WNOHANG)
    ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return (0 if ended is None else ended.si_pid), None


def _only_wake(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the wake-up descriptor says it, but only if there is a handler."""


def become(spec: InstanceSpec, fds: list[int], target: Target, zygote_pid: int) -> NoReturn:
    """Turn this process, which was just forked or spawned, into an instance; never returns."""
    code = _CRASHED
    try:
        os.setsid()
        linux.die_with_parent(zygote_pid)
        linux.adopt_orphans()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGCONT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # The supervisor asks a silent instance for its stacks before it kills it.
        faulthandler.register(signal.SIGUSR2, all_threads=True)
        gc.enable()
        line, *shared = (socket.socket(fileno=fd) for fd in fds)
        code = target(spec, line, *(shared or (None,)))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001 - the edge of a process: say it, then end
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code & 0xFF)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
