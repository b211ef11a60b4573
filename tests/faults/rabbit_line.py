"""Messages on a line: published to one queue, forwarded to the next, acked there."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from msgspec.structs import replace

from rolekit.errors import RolekitError
from rolekit.model.envelope import Head, Packet, encode_head

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.transport.base import Delivery, Subscription
    from rolekit.transport.rabbitmq import RabbitTransport

HEAD = encode_head(Head(type="x"))
AGAIN_S = 0.02
FIRST, SECOND = "a", "b"


class Line:
    """A direct step between two queues, as `flow.outbox.Forwarder` makes it.

    Args:
        transport: Does everything.

    Attributes:
        came: Arrivals by queue, then by number and by whether they were flagged.
        sent: How often each number was published, by queue.
    """

    def __init__(self, transport: RabbitTransport) -> None:
        self._transport = transport
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscriptions: dict[str, Subscription] = {}
        self._something = asyncio.Event()
        self.came: dict[str, Counter[tuple[int, bool]]] = {FIRST: Counter(), SECOND: Counter()}
        self.sent: dict[str, Counter[int]] = {FIRST: Counter(), SECOND: Counter()}

    async def open(self) -> None:
        """Declare and subscribe."""
        await self._transport.declare([FIRST, SECOND])
        for queue, sink in ((SECOND, self._second), (FIRST, self._first)):
            self._subscriptions[queue] = await self._transport.subscribe(
                [queue], window=10, sink=sink
            )

    async def send(self, *numbers: int) -> None:
        """Publish, together, until that is confirmed."""
        packets = [
            Packet(queue=FIRST, id=f"{number:032x}", head=HEAD, body=str(number).encode())
            for number in numbers
        ]
        while True:
            self.sent[FIRST].update(numbers)
            try:
                await self._transport.publish(packets)
            except RolekitError:
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def arrived(self, *numbers: int) -> None:
        """Wait until these came out at the end."""
        while not set(numbers) <= {number for number, _ in self.came[SECOND]}:
            self._something.clear()
            await self._something.wait()

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def lost(self, *numbers: int) -> set[int]:
        """Say which of these never came out."""
        return set(numbers) - {number for number, _ in self.came[SECOND]}

    def unexplained(self) -> list[str]:
        """Name what came again without a flag though it had been published only once."""
        return [
            f"{number} in {queue}: {times} times, published {self.sent[queue][number]} times"
            for queue, came in self.came.items()
            for (number, is_flagged), times in came.items()
            if not is_flagged and times > self.sent[queue][number]
        ]

    def _first(self, batch: Sequence[Delivery]) -> None:
        self._count(FIRST, batch)
        for delivery in batch:
            # Owned by close(), which ends it.
            task = asyncio.create_task(self._forward(delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _second(self, batch: Sequence[Delivery]) -> None:
        self._count(SECOND, batch)
        self._subscriptions[SECOND].ack(batch)

    def _count(self, queue: str, batch: Sequence[Delivery]) -> None:
        for delivery in batch:
            self.came[queue][int(delivery.packet.body), delivery.redelivered] += 1
        self._something.set()

    async def _forward(self, delivery: Delivery) -> None:
        packet = replace(delivery.packet, queue=SECOND)
        while True:
            self.sent[SECOND][int(packet.body)] += 1
            try:
                await self._transport.forward(self._subscriptions[FIRST], [(delivery, packet)])
            except RolekitError:
                await asyncio.sleep(AGAIN_S)
            else:
                return
