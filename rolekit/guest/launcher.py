"""The process that holds the engine's socket, so that no instance has to.

    python -m rolekit.guest.launcher DESCRIPTOR LABELS

Whoever runs instances owns one: the supervisor, or an instance that has none. It starts what
it was told at its owner's end (`orders`), and instances choose among that only, each among
the guests of its own role. Streams are handed to them as open files; what a guest writes
does not pass through here.

    owner      {"orders": [Order, …]}    {"role": name} with a descriptor, its door
    door       one datagram with a descriptor: the channel of an instance
    channel    in   {"prepare": key, "run": n}    {"start": key, "run": n}    {"kill": n}
               out  {"prepared": n}
                    {"started": n} with the stream, and the way to what reaches into it
                    {"refused": n, "why": …, "fix": …}
                    {"ended": n, "status": …, "because": …}    {"gone": n}

It ends when its owner's end closes, however that came about, and leaves no container. What a
launcher leaves that is killed itself, the next one on this machine removes: each container
bears the path of a lock, which nobody holds then.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import platform
import signal
import socket
import sys
import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rolekit.errors import ConfigError
from rolekit.guest.container import key_of
from rolekit.guest.engine import Engine
from rolekit.guest.reaching import reached

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from rolekit.guest.container import Order

PREFIX = "rolekit-launcher-"
MAX_BYTES = 1 << 20
KILLED = -signal.SIGKILL


class Engines:
    """The engine, found when it is needed first, and looked for again while there is none.

    Args:
        labels: Of all that is made.
    """

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels
        self._held = AsyncExitStack()
        self._opening: asyncio.Task[Engine] | None = None

    async def get(self) -> Engine:
        """Return it.

        Raises:
            ConfigError: There is none; says where it was looked for.
        """
        return await asyncio.shield(self.look())

    def look(self) -> asyncio.Task[Engine]:
        """Look for it, and remove what launchers left that were killed: once."""
        if self._opening is None or (self._opening.done() and self._opening.exception()):
            self._opening = asyncio.create_task(self._open())
        return self._opening

    async def _open(self) -> Engine:
        engine = await self._held.enter_async_context(Engine(self._labels))
        await _sweep(engine)
        return engine

    async def close(self) -> None:
        """Let it go."""
        if self._opening is not None:
            await asyncio.gather(self._opening, return_exceptions=True)
        await self._held.aclose()


async def _sweep(engine: Engine) -> None:
    gone = [
        container
        for container, labels in await engine.made_by_others()
        if labels.get("host") == platform.node() and not _is_held(labels.get("lock", ""))
    ]
    await asyncio.gather(*map(engine.remove, gone))


def _is_held(lock: str) -> bool:
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(fd)


class Runs:
    """The containers of one instance.

    Args:
        channel: To the instance.
        orders: What it may start, by key.
        engines: Finds the engine.
    """

    def __init__(
        self, channel: socket.socket, orders: dict[str, Order], engines: Engines
    ) -> None:
        self._channel = channel
        self._orders = orders
        self._engines = engines
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._ending: set[int] = set()

    def obey(self, text: bytes) -> None:
        """Do what the instance says."""
        match json.loads(text):
            case {"prepare": str(key), "run": int(run)} if run not in self._tasks:
                self._keep(run, asyncio.create_task(self._prepare(run, key)))
            case {"start": str(key), "run": int(run)} if run not in self._tasks:
                self._keep(run, asyncio.create_task(self._run(run, key)))
            case {"kill": int(run)}:
                self._kill(run)
            case _:
                pass

    def _keep(self, run: int, task: asyncio.Task[None]) -> None:
        self._tasks[run] = task
        task.add_done_callback(partial(self._drop, run))

    def _drop(self, run: int, _task: asyncio.Task[None]) -> None:
        self._tasks.pop(run, None)
        self._ending.discard(run)

    def _kill(self, run: int) -> None:
        if run in self._tasks and run not in self._ending:
            self._ending.add(run)
            self._tasks[run].cancel()

    async def close(self) -> None:
        """Have nothing left of them."""
        tasks = dict(self._tasks)
        for run in tasks:
            self._kill(run)
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        self._channel.close()

    async def _prepare(self, run: int, key: str) -> None:
        with self._refusing(run):
            await (await self._engines.get()).check(self._order(key))
            self._tell({"prepared": run})

    async def _run(self, run: int, key: str) -> None:
        killed: dict[str, object] = {"ended": run, "status": KILLED, "because": ""}
        try:
            with self._refusing(run):
                engine = await self._engines.get()
                creating = asyncio.ensure_future(engine.create(self._order(key)))
                try:
                    container = await asyncio.shield(creating)
                    async with self._running(run, engine, self._order(key), container):
                        status, because = await engine.ended(container)
                    self._tell({"ended": run, "status": status, "because": because})
                finally:
                    self._ending.add(run)
                    await _removed(engine, creating)
        finally:  # behind why it was refused, or how it ended, which hold then
            self._tell(killed)
            self._tell({"gone": run})

    @contextlib.asynccontextmanager
    async def _running(
        self, run: int, engine: Engine, order: Order, container: str
    ) -> AsyncGenerator[None]:
        """Start a container and tell the instance; it can be reached inside the block."""
        async with AsyncExitStack() as held:
            with await engine.attach(container) as stream:
                await engine.start(container)
                ways: list[int] = []
                if order["is_reached"] and (pid := await engine.pid(container)):
                    try:
                        way = await held.enter_async_context(reached(pid, container))
                        ways.append(way.fileno())
                    except ConfigError:
                        if await engine.pid(container):  # else it has ended: that is told
                            raise
                self._tell({"started": run}, stream.fileno(), *ways)
            yield

    def _order(self, key: str) -> Order:
        if key not in self._orders:
            raise ConfigError("the app has declared no such guest for this role.")
        return self._orders[key]

    @contextlib.contextmanager
    def _refusing(self, run: int) -> Generator[None]:
        try:
            yield
        except ConfigError as error:
            self._tell({"refused": run, "why": error.what, "fix": error.fix})

    def _tell(self, report: dict[str, object], *fds: int) -> None:
        with contextlib.suppress(OSError):  # an instance that is gone is seen by who reads
            socket.send_fds(self._channel, [json.dumps(report).encode()], fds)


async def _removed(engine: Engine, creating: asyncio.Future[str]) -> None:
    """Remove a container, also one that is still being made."""
    with contextlib.suppress(ConfigError):
        await engine.remove(await creating)


class Launcher:
    """Serves one owner.

    Args:
        owner: Its channel.
        labels: Of all containers.
    """

    def __init__(self, owner: socket.socket, labels: dict[str, str]) -> None:
        self._owner = owner
        self._engines = Engines(labels)
        self._orders: dict[str, dict[str, Order]] = {}
        self._doors: list[socket.socket] = []
        self._all: set[Runs] = set()
        self._ends: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Serve until the owner is gone; then leave nothing."""
        self._read(self._owner, self._obey, self._over.set)
        await self._over.wait()
        loop = asyncio.get_running_loop()
        for door in self._doors:
            loop.remove_reader(door)
        await asyncio.gather(*(runs.close() for runs in self._all), *self._ends)
        await self._engines.close()

    def _obey(self, text: bytes, fds: list[int]) -> None:
        match json.loads(text):
            case {"orders": [*orders]}:
                for order in orders:
                    self._orders.setdefault(order["role"], {})[key_of(order)] = order
                self._engines.look()
            case {"role": str(role)} if fds:
                door = socket.socket(fileno=fds.pop())
                self._doors.append(door)
                self._read(door, partial(self._admit, role), lambda: None)
            case _:
                pass

    def _admit(self, role: str, _text: bytes, fds: list[int]) -> None:
        if fds:
            channel = socket.socket(fileno=fds.pop())
            channel.setblocking(False)  # noqa: FBT003 - the only way to say it
            runs = Runs(channel, self._orders.setdefault(role, {}), self._engines)
            self._all.add(runs)
            self._read(channel, lambda text, _: runs.obey(text), lambda: self._end(runs))

    def _end(self, runs: Runs) -> None:
        self._all.discard(runs)
        task = asyncio.create_task(runs.close())
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    def _read(
        self,
        channel: socket.socket,
        take: Callable[[bytes, list[int]], None],
        over: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        channel.setblocking(False)  # noqa: FBT003 - the only way to say it

        def read() -> None:
            try:
                text, fds, _, _ = socket.recv_fds(channel, MAX_BYTES, 4)
            except BlockingIOError:
                return
            except OSError:
                text, fds = b"", []
            for fd in fds:  # Python 3.11 does not pass MSG_CMSG_CLOEXEC on
                os.set_inheritable(fd, False)  # noqa: FBT003 - its only way
            if not text:
                loop.remove_reader(channel)
                over()
                return
            take(text, fds)
            for fd in fds:
                os.close(fd)

        loop.add_reader(channel, read)


@contextlib.contextmanager
def _locked() -> Generator[str]:
    """Hold a lock for as long as this process lives; give its path."""
    fd, path = tempfile.mkstemp(prefix=PREFIX, suffix=".lock")
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield path
    finally:
        Path(path).unlink(missing_ok=True)
        os.close(fd)


async def _serve(owner: socket.socket) -> None:
    with _locked() as lock:
        labels = {"lock": lock, "host": platform.node(), **json.loads(sys.argv[2])}
        await Launcher(owner, labels).run()


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # only its owner ends it
        signal.signal(number, signal.SIG_IGN)
    os.set_inheritable(int(sys.argv[1]), False)  # noqa: FBT003 - its only way
    asyncio.run(_serve(socket.socket(fileno=int(sys.argv[1]))))
