"""What is published at the same moment, stored by one statement.

While a statement is under way, what others publish waits, and goes with the next one: a
commit to disk costs the same for one packet as for hundreds.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from rolekit.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from rolekit.model.envelope import Packet

AT_ONCE = 2
"""Statements under way together: the server works on one while another waits for its disk."""
PACKETS = 500
BYTES = 4 << 20
"""Nobody is added to a statement beyond these."""

_Waiting = tuple["Sequence[Packet]", "asyncio.Future[None]"]


class Sends:
    """Stores packets of several callers together.

    Args:
        store: Stores packets in their order, all of them or none.
    """

    def __init__(self, store: Callable[[Sequence[Packet]], Awaitable[None]]) -> None:
        self._store = store
        self._waiting: deque[_Waiting] = deque()
        # Owned by close(), which ends them.
        self._storing: set[asyncio.Task[None]] = set()

    async def send(self, packets: Sequence[Packet]) -> None:
        """Store packets; return when they are durable.

        Where the caller is cancelled before their statement began they are not stored.

        Raises:
            Unavailable: The database did not answer: they may be stored.
            WriteFailed: They were refused, and so was nothing of others.
        """
        if not packets:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((packets, done))
        if len(self._storing) < AT_ONCE:
            task = asyncio.create_task(self._store_waiting(), name="store what is sent")
            self._storing.add(task)
            task.add_done_callback(self._storing.discard)
        await done

    async def _store_waiting(self) -> None:
        while some := self._take():
            try:
                await self._store([packet for packets, _ in some for packet in packets])
            except Exception as error:  # noqa: BLE001 - handed to whoever sent
                await self._sort_out(some, error)
            except asyncio.CancelledError:
                _fail(some, Unavailable("It stopped while this was being stored."))
                raise
            else:
                _finish(some)

    def _take(self) -> list[_Waiting]:
        """Take what waits, as much as fits one statement."""
        some: list[_Waiting] = []
        count = size = 0
        while self._waiting and count < PACKETS and size < BYTES:
            packets, done = self._waiting.popleft()
            if not done.done():
                some.append((packets, done))
                count += len(packets)
                size += sum(len(packet.body) + len(packet.head) for packet in packets)
        return some

    async def _sort_out(self, some: list[_Waiting], error: Exception) -> None:
        """Say that it failed; where one of several may be at fault, store each one's alone."""
        if len(some) == 1 or isinstance(error, Unavailable):
            _fail(some, error)
            return
        for one in some:
            try:
                await self._store(one[0])
            except Exception as own:  # noqa: BLE001 - likewise
                _fail([one], own)
            else:
                _finish([one])

    async def close(self) -> None:
        """Store nothing more; who still waits is told."""
        storing = list(self._storing)
        for task in storing:
            task.cancel()
        await asyncio.gather(*storing, return_exceptions=True)
        _fail(self._waiting, Unavailable("It stopped before this was stored."))
        self._waiting.clear()


def _finish(some: Iterable[_Waiting]) -> None:
    for _, done in some:
        if not done.done():
            done.set_result(None)


def _fail(some: Iterable[_Waiting], error: Exception) -> None:
    for _, done in some:
        if not done.done():
            done.set_exception(error)
