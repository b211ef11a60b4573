"""The instance's side of a keeper: it orders guests, and learns of their ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from rolekit.errors import GuestFailed
from rolekit.guest import cgroups, inside, keeper, kin, leftovers, ordering, orders
from rolekit.guest.asking import asked, connected
from rolekit.guest.going import HOLD, SCRIPT, SHELL
from rolekit.guest.hosts import MIB
from rolekit.guest.pipes import Pipes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.guest.address import Address
    from rolekit.guest.hosts import Launch
    from rolekit.guest.limits import Limits

READY_S = 30.0
END_S = 15.0
"""A keeper has cleared up after a guest within this, or is given up."""
OUT_OF_TIME = (-signal.SIGXCPU, 128 + signal.SIGXCPU)
"""How a process ends that used up its processor time; the second, as who waited tells it."""


class Ended(Exception):
    """A guest is not there any more.

    Args:
        status: Exit status, or minus the signal.
        because: "memory" or "pids" where it was killed for that.
        refused: Why it never became the program; empty: it did.
    """

    def __init__(self, status: int, because: str = "", refused: str = "") -> None:
        super().__init__(status, because, refused)
        self.status = status
        self.because = because
        self.refused = refused

    def why_in(self, limits: Limits) -> str:
        """Say which limit it was killed for; empty: none."""
        if limits.cpu_s and not self.because and self.status in OUT_OF_TIME:
            return f" It used more than its cpu_s, {limits.cpu_s} s, and was killed."
        return {
            "memory": f" It used more than its memory_mb, {limits.memory_mb}, and was killed.",
            "pids": f" It was more processes than its pids, {limits.pids}, and was killed.",
        }.get(self.because, "")


class Keeper:
    """A process that starts guests for us, one at a time.

    Args:
        limits: Of each guest.
        use_groups: False: without a cgroup, also where one could be made.
    """

    def __init__(self, limits: Limits, *, use_groups: bool = True) -> None:
        self._limits = limits
        self._use_groups = use_groups
        self._folder = ""
        self._groups: list[str] = []
        self._channel: socket.socket | None = None
        self._popen: subprocess.Popen[bytes] | None = None
        self._ready = asyncio.Event()
        self._started: asyncio.Future[int] | None = None
        self._ended: asyncio.Future[Ended] | None = None
        self._killed = kin.Groups([])
        self._spawner: tuple[int, int] | None = None
        self.is_lost = False
        self.is_spent = False
        self.pid = 0

    async def start(self) -> None:
        """Start the process.

        Raises:
            GuestFailed: It did not come up.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)  # noqa: FBT003 - the only way to say it
        self._channel = ours
        asyncio.get_running_loop().add_reader(ours, self._read, ours)
        with theirs:
            spawning = asyncio.ensure_future(asyncio.to_thread(self._spawn, theirs))
            try:
                await asyncio.shield(spawning)
            finally:  # also when cancelled: `stop` must know what there is to end
                await asyncio.wait([spawning])
        try:
            async with asyncio.timeout(READY_S):
                await self._ready.wait()
        except TimeoutError:
            raise GuestFailed(f"its keeper did not start in {READY_S:g} s.") from None
        if self.is_lost:
            raise GuestFailed("its keeper ended at once.")

    def _spawn(self, theirs: socket.socket) -> None:
        self._folder = tempfile.mkdtemp(prefix=leftovers.PREFIX)
        limits = self._limits
        if self._use_groups:
            name = f"rolekit-guest-{os.getpid()}-{uuid.uuid4().hex[:8]}"
            self._groups = cgroups.make(name, limits)
            self._killed = kin.Groups(self._groups)
        terms = orders.Terms(
            folder=self._folder,
            memory_bytes=limits.memory_mb * MIB,
            pids=limits.pids,
            groups=self._groups,
        )
        script = [sys.executable, "-I", "-S", str(keeper.__file__)]
        lock = leftovers.claim(Path(self._folder), self._groups)
        try:
            self._popen = subprocess.Popen(  # noqa: S603 - our own script
                [*script, str(theirs.fileno()), str(lock), json.dumps(terms)],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), lock),
                env={"LC_ALL": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
            self.pid = self._popen.pid
        finally:
            os.close(lock)

    async def ready(self) -> None:
        """Do nothing: a keeper that has started can start guests."""

    def pipes(self, guest: str, cap_bytes: int, *, is_server: bool = False) -> Pipes:
        """Return what the next guest will be spoken to by."""
        return Pipes(guest, cap_bytes, is_server=is_server)

    async def launch(
        self,
        launch: Launch,
        pipes: Sequence[int],
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        files: Mapping[str, bytes] | None = None,
        is_reached: bool = False,
    ) -> asyncio.Future[Ended]:
        """Start a guest.

        Args:
            launch: How.
            pipes: Descriptors of its stdin, stdout and stderr, and in a sandbox of its gate,
                where it shall wait for `going.told` and has no program before. The caller
                closes them.
            argv: Program, with its path, and arguments.
            env: Besides that of the launch.
            files: Put into the folder that it starts in, by name.
            is_reached: Whether `connect` will be called for it.

        Returns:
            Its end.

        Raises:
            GuestFailed: It did not start; says why.
        """
        given, waits = files or {}, len(pipes) > keeper.PIPES
        if waits:
            argv = (SHELL, "-c", SCRIPT)
        order: orders.Start = {
            **ordering.order_of(launch),
            "argv": [*ordering.prefix(launch, list(given), env or {}), *argv],
            "env": launch.env | dict(env or {}),
            "is_reached": is_reached,
            "waits": waits,
            "files": [] if launch.filter else list(given),
            "sizes": [] if launch.filter else [len(data) for data in given.values()],
        }
        async with ordering.held(launch, given) as fds:
            return await self._order(order, [*pipes, *fds])

    async def launch_spawner(
        self, launch: Launch, pipes: Sequence[int], spawner: Sequence[int]
    ) -> asyncio.Future[Ended]:
        """Start what runs programs; see `launch`.

        Args:
            launch: How its runs are started.
            pipes: Of the shell that keeps its sandbox, likewise; none without a sandbox.
            spawner: Its own descriptors, see `Start`.
        """
        order: orders.Start = {**ordering.order_of(launch), "waits": True, "has_spawner": True}
        if launch.filter is not None:
            order["argv"] = [*ordering.prefix(launch, [], {}), SHELL, "-c", HOLD]
        async with ordering.held(launch, {}) as fds:
            return await self._order(order, [*pipes, *fds, *spawner])

    async def _order(self, order: orders.Start, fds: list[int]) -> asyncio.Future[Ended]:
        if self._channel is None or self.is_lost:
            raise GuestFailed("its keeper is gone.")
        loop = asyncio.get_running_loop()
        self._started, self._ended = loop.create_future(), loop.create_future()
        try:
            socket.send_fds(self._channel, [json.dumps({"start": order}).encode()], fds)
        except OSError as error:
            self._is_over(Ended(-signal.SIGKILL))
            raise GuestFailed(f"it was not started: {error}.") from error
        ended = self._ended
        pid = await self._started
        if order["has_spawner"] and order["has_scratch"]:
            self._hold(pid)
        return ended

    def _hold(self, pid: int) -> None:
        """Have a spawner at hand that no sandbox ends."""
        if (before := self._taken()) is not None:
            os.close(before[1])
        with contextlib.suppress(OSError):  # gone already
            self._spawner = pid, os.pidfd_open(pid)

    def socket_path(self, launch: Launch) -> str:
        """Return where a guest shall make its Unix socket, as it sees it."""
        folder = self._folder if launch.filter is None else launch.env["HOME"]
        return f"{folder}/{keeper.SOCKET}"

    async def connect(self, launch: Launch, address: Address) -> socket.socket:
        """Connect to a server in the guest that runs.

        Args:
            launch: How the guest was started.
            address: Where it listens, as it sees it.

        Raises:
            OSError: It does not listen there, or is gone.
        """
        if launch.filter is None:
            return await _connected(address)
        order = inside.order("connect", port=address.port, path=address.path)
        return await connected(self._reached(), order)

    async def go_inside(self, order: inside.Order, *given: int) -> list[int]:
        """Have something done where the guest lives, as `asked` does."""
        return await asked(self._reached(), order, *given)

    def _reached(self) -> socket.socket:
        if self._channel is None or self.is_lost:
            raise ConnectionError("its keeper is gone")
        return self._channel

    def go(self) -> None:
        """Say that the guest has been told what to become: it is watched from here on."""
        self._say_of_watch(b'{"go": true}')

    def rest(self) -> None:
        """Say that a spawner runs nothing: it is watched no more."""
        self._say_of_watch(b'{"rest": true}')

    def _say_of_watch(self, what: bytes) -> None:
        if not self._groups and self._channel is not None and not self.is_lost:
            with contextlib.suppress(OSError):
                self._channel.send(what)

    def kill(self) -> None:
        """Have the guest killed that runs, with all that it started."""
        if self._channel is not None and not self.is_lost:
            with contextlib.suppress(OSError):
                self._channel.send(b'{"kill": true}')

    def has_killed(self) -> bool:
        """Whether the kernel has killed for memory since this was asked last."""
        return self._killed.has_killed()

    async def clear(self) -> None:
        """Kill the guest, if one runs, and wait until nothing of it is left."""
        if self._ended is not None and not self._ended.done():
            self.kill()
            await asyncio.wait([self._ended], timeout=END_S)
            if not self._ended.done():
                self._lose()  # it is replaced
        if self.is_lost:
            await asyncio.shield(asyncio.to_thread(_end, self._taken()))

    async def stop(self) -> None:
        """End the keeper, and so its guest. Safe to call twice, and before the start."""
        channel, self._channel = self._channel, None
        if channel is not None:
            asyncio.get_running_loop().remove_reader(channel)
            channel.close()
        self._lose()
        await asyncio.to_thread(self._bury, self._taken())

    def _bury(self, spawner: tuple[int, int] | None) -> None:
        """Wait for the keeper; do what it leaves undone."""
        self._killed.close()
        if self._popen is not None:
            try:
                self._popen.wait(END_S)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        _end(spawner)
        if self._folder:
            leftovers.remove(Path(self._folder), self._groups)

    def _taken(self) -> tuple[int, int] | None:
        """Take the spawner that is held, if one is, to end it."""
        spawner, self._spawner = self._spawner, None
        return spawner

    def _read(self, channel: socket.socket) -> None:
        try:
            text = channel.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            text = b""
        if not text:
            asyncio.get_running_loop().remove_reader(channel)
            self._lose()
            return
        self._take(json.loads(text))

    def _take(self, report: dict[str, object]) -> None:
        match report:
            case {"ready": True}:
                self._ready.set()
            case {"started": int(pid)} if self._started is not None:
                if not self._started.done():
                    self._started.set_result(pid)
            case {"refused": str(why)} if self._started is not None:
                if not self._started.done():
                    self._started.set_exception(GuestFailed(f"it was not started: {why}."))
                self._is_over(Ended(-signal.SIGKILL))
            case {"ended": int(status), "because": str(because)}:
                self._is_over(Ended(status, because))
            case _:
                pass

    def _lose(self) -> None:
        """Answer everybody who waits."""
        self.is_lost = True
        self._ready.set()
        if self._started is not None and not self._started.done():
            self._started.set_exception(GuestFailed("its keeper died."))
        self._is_over(Ended(-signal.SIGKILL))

    def _is_over(self, ended: Ended) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(ended)


def _end(spawner: tuple[int, int] | None) -> None:
    """End a spawner that was stopped, so that it could not end with its keeper."""
    if spawner is not None:
        try:
            kin.kill_tree(*spawner)
        finally:
            os.close(spawner[1])


async def _connected(address: Address) -> socket.socket:
    """Connect to a guest that has our network and our files."""
    family = socket.AF_INET if address.port else socket.AF_UNIX
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setblocking(False)  # noqa: FBT003 - the only way to say it
    where = ("127.0.0.1", address.port) if address.port else address.path
    try:
        await asyncio.get_running_loop().sock_connect(made, where)
    except BaseException:
        made.close()
        raise
    return made
