"""What must leave in order: nothing is sent before all in front of it is in.

A broker that refuses one message for lack of room may store the next one, so messages to one
queue go one by one: each when the one before was confirmed. Those to several queues go side
by side, and the token, by which the gather of a stream goes on, when all of them are in.

Source: DESIGN 4 "Order (c)".
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import QueueFull, RolekitError, Unroutable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rolekit.model.envelope import Packet
    from rolekit.store.base import Outgoing
    from rolekit.transport.base import Transport

log = structlog.get_logger("rolekit.outbox")

AGAIN_S = 1.0


class InOrder:
    """Publishes rows of the outbox whose last packet is a token that leaves behind the rest.

    Args:
        transport: Where to.
        gone: Called with the number of a row, each time one of its packets was dealt with.

    Attributes:
        waiting: Packets that are not in yet.
    """

    def __init__(self, transport: Transport, gone: Callable[[int], None]) -> None:
        self._transport = transport
        self._gone = gone
        self._rows: deque[list[Outgoing]] = deque()
        self._something = asyncio.Event()
        self.waiting = 0

    def leave(self, row: list[Outgoing]) -> None:
        """Take the packets of one row."""
        self.waiting += len(row)
        self._rows.append(row)
        self._something.set()

    async def run(self) -> None:
        """Publish, row beside row, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._something.wait()
                self._something.clear()
                while self._rows:
                    tasks.create_task(self._send(self._rows.popleft()))

    async def _send(self, row: list[Outgoing]) -> None:
        *outputs, token = row
        queues: dict[str, deque[Outgoing]] = {}
        for one in outputs:
            queues.setdefault(one.packet.queue, deque()).append(one)
        while queues:
            for one in await self._publish([queue[0] for queue in queues.values()]):
                queue = queues[one.packet.queue]
                queue.popleft()
                if not queue:
                    del queues[one.packet.queue]
        while not await self._publish([token]):
            pass

    async def _publish(self, rows: Sequence[Outgoing]) -> list[Outgoing]:
        """Publish packets that go to a queue each; return those that are in."""
        failed = await self._failed(rows)
        done = [row for row in rows if row not in failed]
        self.waiting -= len(done)
        for row in done:
            self._gone(row.n)
        if failed:
            await asyncio.sleep(AGAIN_S)
        return done

    async def _failed(self, rows: Sequence[Outgoing]) -> list[Outgoing]:
        """Publish; return what must be sent again."""
        try:
            await self._transport.publish([row.packet for row in rows])
        except RolekitError as error:
            log.warning("what leaves in order is held up; trying again", error=str(error))
            which = error.which if isinstance(error, (Unroutable, QueueFull)) else None
            if which is None and len(rows) > 1:
                return [failed for row in rows for failed in await self._failed([row])]
            return [
                row
                for at, row in enumerate(rows)
                if (which is None or at in which) and not is_dropped(row.packet, error)
            ]
        return []


def is_dropped(packet: Packet, error: RolekitError) -> bool:
    """Whether a packet without queue is an answer whose asker is gone: DESIGN 4.10."""
    return isinstance(error, Unroutable) and packet.queue.startswith("~reply.")
