"""The instance's side of a launcher: it orders containers, and learns of their ends.

A `Berth` is to a container what a `Keeper` is to a process, and a place of a pool uses
either in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from typing import TYPE_CHECKING

from rolekit.errors import ConfigError, GuestFailed
from rolekit.guest import gate, inside, keeper
from rolekit.guest.asking import asked, connected
from rolekit.guest.attached import HEAD_BYTES, Attached
from rolekit.guest.kept import END_S, Ended

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.guest.address import Address
    from rolekit.guest.hosts import Launch
    from rolekit.guest.limits import Limits

PREPARE_S = 1800.0
"""An image is found, or built, within this."""
MAX_BYTES = 1 << 16


class Run:
    """One container, from its order to its end.

    Attributes:
        way: To what reaches into it, where it is to be reached; see `reach`.
    """

    def __init__(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.answered: asyncio.Future[int] = loop.create_future()
        self.ended: asyncio.Future[Ended] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self.way: socket.socket | None = None

    def begin(self, fds: list[int]) -> None:
        """Note that it runs; take its stream, and the way into it, out of these."""
        if not self.answered.done():
            self.answered.set_result(fds.pop(0))
            if fds:
                self.way = socket.socket(fileno=fds.pop())
                self.way.setblocking(False)  # noqa: FBT003 - the only way to say it

    def refuse(self, error: ConfigError | GuestFailed) -> None:
        """Let whoever waits know that there is none."""
        if not self.answered.done():
            self.answered.set_exception(error)
            self.answered.exception()  # whoever ordered it may be gone
        if not self.ended.done():
            self.ended.set_result(Ended(-9))
        self.go()

    def go(self) -> None:
        """Note that nothing of it is left."""
        if self.way is not None:
            self.way.close()
            self.way = None
        if not self.gone.done():
            self.gone.set_result(None)

    def end(self, ended: Ended) -> None:
        """Note its end."""
        if not self.answered.done():
            self.refuse(GuestFailed("it ended before it was started."))
        if not self.ended.done():
            self.ended.set_result(ended)


class Orders:
    """The channel of one instance to the launcher; opened anew when that was replaced.

    Args:
        door: Where instances of the role ask for one.
    """

    def __init__(self, door: socket.socket) -> None:
        self._door = door
        self._channel: socket.socket | None = None
        self._runs: dict[int, Run] = {}
        self._count = 0

    def order(self, what: str, key: str) -> Run:
        """Send an order: "prepare" an image, or "start" a container.

        Raises:
            GuestFailed: There is no launcher now.
        """
        self._count += 1
        run = self._runs[self._count] = Run(self._count)
        self._send({what: key, "run": run.number})
        return run

    def kill(self, run: Run) -> None:
        """Have a container removed, if it is there still."""
        if not run.gone.done():
            with contextlib.suppress(GuestFailed):
                self._send({"kill": run.number})

    def close(self) -> None:
        """End the channel, and so all containers that were ordered through it."""
        channel, self._channel = self._channel, None
        if channel is not None:
            asyncio.get_running_loop().remove_reader(channel)
            channel.close()
        for run in list(self._runs.values()):
            run.refuse(GuestFailed("its launcher is gone."))
        self._runs.clear()

    def _send(self, order: dict[str, object]) -> None:
        try:
            channel = self._channel or self._open()
            channel.send(json.dumps(order).encode())
        except OSError as error:
            raise GuestFailed(f"its launcher is gone: {error}.") from error

    def _open(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)  # noqa: FBT003 - the only way to say it
        try:
            with theirs:
                socket.send_fds(self._door, [b"{}"], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        self._channel = ours
        asyncio.get_running_loop().add_reader(ours, self._read, ours)
        return ours

    def _read(self, channel: socket.socket) -> None:
        try:
            text, fds, _, _ = socket.recv_fds(channel, MAX_BYTES, 2)
        except BlockingIOError:
            return
        except OSError:
            text, fds = b"", []
        for fd in fds:  # Python 3.11 does not pass MSG_CMSG_CLOEXEC on
            os.set_inheritable(fd, False)  # noqa: FBT003 - its only way
        if not text:
            self.close()
            return
        self._take(json.loads(text), fds)
        for fd in fds:
            os.close(fd)

    def _take(self, report: dict[str, object], fds: list[int]) -> None:
        match report:
            case {"prepared": int(number)} if run := self._runs.pop(number, None):
                if not run.answered.done():
                    run.answered.set_result(0)
            case {"started": int(number)} if run := self._runs.get(number):
                run.begin(fds)
            case {"refused": int(number), "why": str(why), "fix": str(fix)}:
                if run := self._runs.pop(number, None):
                    run.refuse(ConfigError(why, fix=fix))
            case {"ended": int(number), "status": int(status), "because": str(because)}:
                if run := self._runs.get(number):
                    run.end(Ended(status, because))
            case {"gone": int(number)} if run := self._runs.pop(number, None):
                run.go()
            case _:
                pass


class Berth:
    """Where one container after another lives.

    Args:
        orders: To the launcher.
        key: Names the order that it starts.
        limits: Of each guest.
        runs_once: Each guest is told what to run it for, and the next is made ready before.
    """

    def __init__(self, orders: Orders, key: str, limits: Limits, *, runs_once: bool) -> None:
        self._orders = orders
        self._key = key
        self._limits = limits
        self._runs_once = runs_once
        self._run: Run | None = None
        self._pipes: Attached | None = None
        self._streams: Attached | None = None
        self._going: set[asyncio.Future[None]] = set()
        self._next: asyncio.Task[tuple[Run, socket.socket]] | None = None
        self.pid = 0
        self.is_lost = False
        self.is_spent = False

    async def start(self) -> None:
        """See that the image is there, with its command, or have it built.

        Raises:
            ConfigError: It is not, or the engine is not; says what was tried.
            GuestFailed: It took too long.
        """
        run = self._orders.order("prepare", self._key)
        try:
            async with asyncio.timeout(PREPARE_S):
                await run.answered
        except TimeoutError:
            raise GuestFailed(f"its image was not ready in {PREPARE_S:g} s.") from None
        self.pid = 1

    async def ready(self) -> None:
        """Have the next guest wait to be told, if it runs once.

        Raises:
            GuestFailed: It did not start.
        """
        if self._runs_once:
            try:
                await asyncio.shield(self._made_ready())
            except ConfigError as error:
                raise GuestFailed(f"it was not started: {error.what}", fix=error.fix) from error
            self.is_spent = False

    def pipes(self, guest: str, cap_bytes: int, *, is_server: bool = False) -> Attached:
        """Return what the next guest will be spoken to by."""
        self._pipes = Attached(guest, cap_bytes, is_server=is_server)
        return self._pipes

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
        """Start a guest; see `Keeper`. Its pipes are those that were made last."""
        del launch, pipes, is_reached
        assert self._pipes is not None  # noqa: S101 - `pipes` was called
        streams, self._pipes = self._pipes, None
        try:
            self._run, stream = await (
                self._ready_one() if self._runs_once else self._started()
            )
        except ConfigError as error:
            raise GuestFailed(f"it was not started: {error.what}", fix=error.fix) from error
        self._streams = streams
        await streams.connect(stream)
        if self._runs_once:
            await streams.stdin.write(gate.told(argv[1:], env or {}, files or {}))
            for data in (files or {}).values():
                await streams.stdin.write(data)
        return self._run.ended

    async def _ready_one(self) -> tuple[Run, socket.socket]:
        """Take the guest that waits; one that was ended meanwhile is no use."""
        run, stream = await asyncio.shield(self._made_ready())
        self._next, self.is_spent = None, True
        if not run.ended.done() and not _is_at_end(stream):
            return run, stream
        stream.close()
        self._orders.kill(run)
        return await self._ready_one()

    def _made_ready(self) -> asyncio.Task[tuple[Run, socket.socket]]:
        if self._next is None or (self._next.done() and self._next.exception() is not None):
            self._next = asyncio.create_task(self._gated())
        return self._next

    async def _gated(self) -> tuple[Run, socket.socket]:
        """Start a guest that waits to be told, and see that it does."""
        run, stream = await self._started()
        try:
            await _see_ready(stream)
        except BaseException:
            stream.close()
            self._orders.kill(run)
            raise
        return run, stream

    async def _started(self) -> tuple[Run, socket.socket]:
        limit_s = self._limits.start_s
        run = self._orders.order("start", self._key)
        try:
            async with asyncio.timeout(limit_s):
                stream = socket.socket(fileno=await run.answered)
        except TimeoutError:
            self._orders.kill(run)
            raise GuestFailed(f"its container did not start in {limit_s:g} s.") from None
        except BaseException:
            self._orders.kill(run)
            raise
        stream.setblocking(False)  # noqa: FBT003 - the only way to say it
        return run, stream

    def socket_path(self, launch: Launch) -> str:
        """Return where a guest shall make its Unix socket, as it sees it."""
        return f"{launch.env['HOME']}/{keeper.SOCKET}"

    async def connect(self, launch: Launch, address: Address) -> socket.socket:
        """Connect to a server in the guest that runs; see `Keeper`."""
        del launch
        order = inside.order("connect", port=address.port, path=address.path)
        return await connected(self._way(), order)

    async def go_inside(self, order: inside.Order, *given: int) -> list[int]:
        """Have something done where the guest lives; see `Keeper`."""
        return await asked(self._way(), order, *given)

    def _way(self) -> socket.socket:
        if self._run is None or self._run.way is None:
            raise ConnectionError("it is gone")
        return self._run.way

    def kill(self) -> None:
        """Have the guest removed that runs."""
        if self._streams is not None:  # an engine waits for whoever reads what it has yet
            self._streams.close()
            self._streams = None
        if self._run is not None:
            self._orders.kill(self._run)

    async def clear(self) -> None:
        """End the guest, if one runs, and wait until no process of it is left."""
        run, self._run = self._run, None
        if run is None:
            return
        self._going.add(run.gone)
        run.gone.add_done_callback(self._going.discard)
        if not run.ended.done():
            self._run = run
            self.kill()
            self._run = None
            await asyncio.wait([run.ended], timeout=END_S)

    async def stop(self) -> None:
        """Have nothing left. Safe to call twice, and before the start."""
        self.pid = 0
        await self.clear()
        waiting, self._next = self._next, None
        if waiting is not None:
            with contextlib.suppress(ConfigError, GuestFailed):
                run, stream = await waiting
                stream.close()
                self._orders.kill(run)
                self._going.add(run.gone)
        if self._going:
            await asyncio.wait(self._going, timeout=END_S)


def _is_at_end(stream: socket.socket) -> bool:
    try:
        return not stream.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


async def _see_ready(stream: socket.socket) -> None:
    said = await _said(stream, len(gate.READY))
    if said != gate.READY:
        said += await _said(stream, MAX_BYTES)
        why = said[HEAD_BYTES:].decode(errors="backslashreplace").strip()
        raise GuestFailed(f"it was not started: {why or 'it ended at once'}.")


async def _said(stream: socket.socket, size_bytes: int) -> bytes:
    said = b""
    while len(said) < size_bytes:
        data = await asyncio.get_running_loop().sock_recv(stream, size_bytes - len(said))
        if not data:
            break
        said += data
    return said
