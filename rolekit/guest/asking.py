"""Asking for something to be done where a guest lives; see `inside`."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rolekit.guest import inside


async def asked(channel: socket.socket, order: inside.Order, *given: int) -> list[int]:
    """Have something done where the guest lives.

    Args:
        channel: To who has it done: a keeper, or what reaches into a container.
        order: What.
        given: Descriptors that go with it.

    Returns:
        Descriptors that came back: one, or none.

    Raises:
        OSError: It could not be done, or the guest is gone.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.setblocking(False)  # noqa: FBT003 - the only way to say it
        with theirs:
            message = [json.dumps({"inside": order}).encode()]
            socket.send_fds(channel, message, [theirs.fileno(), *given])
        await _readable(ours)
        text, fds, _, _ = socket.recv_fds(ours, 4096, 1)
    for fd in fds:
        os.set_inheritable(fd, False)  # noqa: FBT003 - its only way
    if not text:
        raise ConnectionError("it is gone")
    told = json.loads(text)
    if told:
        raise OSError(told["errno"], told["error"])
    return list(fds)


async def connected(channel: socket.socket, order: inside.Order) -> socket.socket:
    """Have a connection made where the guest lives. Raises as `asked` does."""
    (fd,) = await asked(channel, order)
    made = socket.socket(fileno=fd)
    made.setblocking(False)  # noqa: FBT003 - the only way to say it
    return made


async def _readable(of: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(of, there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(of)
