"""Queues consumed together: what an instance has of a broker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rolekit.transport.rabbitmq.consumer import TAG_BITS, QueueConsumer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rolekit.transport.base import Delivery, Sink
    from rolekit.transport.rabbitmq.transport import RabbitTransport


class RabbitSubscription:
    """Some queues consumed together; each has its own window, channel and tags."""

    def __init__(
        self, transport: RabbitTransport, queues: Sequence[str], window: int, sink: Sink
    ) -> None:
        self._transport = transport
        self._open: dict[int, QueueConsumer] = {}
        self.consumers = {
            queue: QueueConsumer(transport, queue, window, sink, self._open) for queue in queues
        }
        self._of_source = {
            queue: QueueConsumer(transport, queue, window, sink, self._open, source)
            for queue, source in transport.sources.items()
            if queue in self.consumers
        }
        self._is_closed = False

    def all_consumers(self) -> list[QueueConsumer]:
        """List those of its own queues, and those of other programs'."""
        return [*self.consumers.values(), *self._of_source.values()]

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        """Forget these for ever, soon."""
        open_now = self._open
        for delivery in deliveries:
            consumer = open_now.get(delivery.tag >> TAG_BITS)
            if consumer is None:
                self._transport.count_stale()
            else:
                consumer.ack(delivery)

    def release(self, deliveries: Iterable[Delivery]) -> None:
        """Do as `ack`: no commit can settle what a broker holds."""
        self.ack(deliveries)

    def hand_back(self, deliveries: Iterable[Delivery]) -> None:
        """Give these back to their queues, to be delivered again, flagged."""
        for delivery in deliveries:
            consumer = self._open.get(delivery.tag >> TAG_BITS)
            if consumer is not None:
                consumer.hand_back(delivery)

    async def run_alone(self, delivery: Delivery) -> None:
        """Do nothing: the broker cannot keep it, so the store does. See `Features`."""

    def widen(self, queue: str, window: int) -> None:
        """Change how many deliveries of a queue may be in hand."""
        self.consumers[queue].widen(window)
        if queue in self._of_source:
            self._of_source[queue].widen(window)

    def pause(self) -> None:
        """Take no more until `resume`."""
        for consumer in self.all_consumers():
            consumer.pause()

    def resume(self) -> None:
        """Take again."""
        for consumer in self.all_consumers():
            consumer.resume()

    async def flush(self) -> None:
        """Wait until the broker has read the acks given so far."""
        for consumer in self.all_consumers():
            await consumer.flush()

    async def close(self) -> None:
        """Take no more; hand back whatever is not settled."""
        if not self._is_closed:
            self._is_closed = True
            self._transport.gone(self)
            await asyncio.gather(*(consumer.close() for consumer in self.all_consumers()))
