"""The owner's side of a launcher: to start it, to tell it what it may start, to end it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING

import structlog

from rolekit.guest.berth import Berth, Orders
from rolekit.guest.container import Container, key_of, order_for, orders_of, require_client
from rolekit.guest.declare import guests_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from rolekit.guest.container import Order
    from rolekit.guest.declare import Guest

log = structlog.get_logger("rolekit.guest")

END_S = 15.0
"""A launcher has removed its containers within this, or is killed: the next removes them."""

given_door: ContextVar[socket.socket | None] = ContextVar("launcher_door", default=None)
"""The door that a supervisor has given to this process; None: it starts its own launcher."""


class Launching:
    """Keeps a launcher running.

    Args:
        app: Name of the app; on the labels of its containers.
    """

    def __init__(self, app: str) -> None:
        self._labels = {"app": app, "owner": str(os.getpid())}
        self._orders: list[Order] = []
        self._inner: dict[str, socket.socket] = {}
        self._outer: dict[str, socket.socket] = {}
        self._channel: socket.socket | None = None
        self._popen: subprocess.Popen[bytes] | None = None
        self._starting = asyncio.Lock()
        self._restarting: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Of the launcher; 0: there is none."""
        return 0 if self._popen is None else self._popen.pid

    async def door(self, role: str, orders: Sequence[Order]) -> socket.socket:
        """Let a launcher start these guests for a role; return where its instances ask.

        More of the same role are added to those before: an instance of another version may
        still be there. The socket is for all instances of the role, and stays ours.

        Raises:
            ConfigError: aiodocker is not installed.
        """
        require_client()
        self._orders += orders
        is_new = role not in self._outer
        if is_new:
            kind = socket.SOCK_SEQPACKET
            self._inner[role], self._outer[role] = socket.socketpair(socket.AF_UNIX, kind)
        async with self._starting:
            if self._channel is None:
                await self._start()
            else:
                self._tell({"orders": list(orders)})
                if is_new:
                    self._tell({"role": role}, self._inner[role])
        return self._outer[role]

    async def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._popen = await asyncio.to_thread(self._spawned, theirs)
        self._channel = ours
        asyncio.get_running_loop().add_reader(ours, self._lose)
        self._tell({"orders": self._orders})
        for role, door in self._inner.items():
            self._tell({"role": role}, door)

    def _spawned(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "rolekit.guest.launcher", str(theirs.fileno())]
        return subprocess.Popen(  # noqa: S603 - our own module
            [*command, json.dumps(self._labels)],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # a terminal's Ctrl-C is for its owner alone
        )

    def _tell(self, order: dict[str, object], *sockets: socket.socket) -> None:
        if self._channel is not None:
            with contextlib.suppress(OSError):  # one that died is replaced, see _lose
                fds = [each.fileno() for each in sockets]
                socket.send_fds(self._channel, [json.dumps(order).encode()], fds)

    def _lose(self) -> None:
        """Start another: nothing is ever written to this end, so it was closed."""
        self._close_channel()
        log.warning("the launcher of containers died; starting another")
        self._restarting = asyncio.create_task(self._restart())

    async def _restart(self) -> None:
        async with self._starting:
            if self._popen is not None:
                await asyncio.to_thread(_buried, self._popen)
            if self._outer and self._channel is None:
                await self._start()

    def _close_channel(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            asyncio.get_running_loop().remove_reader(channel)
            channel.close()

    async def stop(self) -> None:
        """End the launcher, and so its containers. Safe to call twice, and before any door."""
        if self._restarting is not None:
            await asyncio.gather(self._restarting, return_exceptions=True)
        self._close_channel()
        for door in (*self._inner.values(), *self._outer.values()):
            door.close()
        self._inner.clear()
        self._outer.clear()
        popen, self._popen = self._popen, None
        if popen is not None:
            await asyncio.to_thread(_buried, popen)


def _buried(popen: subprocess.Popen[bytes]) -> None:
    try:
        popen.wait(END_S)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


def orders_for(role: type[object]) -> list[Order]:
    """Say which containers a role declares."""
    return orders_of(role, guests_of(role))


@contextlib.asynccontextmanager
async def ordering(role: type[object]) -> AsyncGenerator[Orders]:
    """Have a way to a launcher inside the block: that of the supervisor, or one of our own.

    Raises:
        ConfigError: aiodocker is not installed.
    """
    own: Launching | None = None
    door = given_door.get()
    if door is None:
        own = Launching(role.__name__)
        door = await own.door(role.__name__, orders_for(role))
    orders = Orders(door)
    try:
        yield orders
    finally:
        orders.close()
        if own is not None:
            await own.stop()


def berths_for(orders: Orders, role: type[object], guest: Guest[object]) -> Callable[[], Berth]:
    """Return what makes a place for a guest that lives in a container."""
    assert isinstance(guest.host, Container)  # noqa: S101 - whoever calls this has looked
    order = order_for(role.__name__, guest, guest.host)
    runs_once = order["runs_once"]
    return lambda: Berth(orders, key_of(order), guest.limits, runs_once=runs_once)
