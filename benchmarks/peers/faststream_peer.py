"""FastStream on RabbitMQ.

Confirms are on by default; acks come after the handler. One channel to consume with a
prefetch, one to publish.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from faststream import AckPolicy
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

from benchmarks import meter
from benchmarks.meter import Job, Meter
from benchmarks.peers.fill import FIRST_NUMBER, replicate

FIRST, SECOND = "faststream.first", "faststream.second"


class Peer:
    """A broker with its handlers."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.done = asyncio.Event()
        self.meter = Meter(job, self.done.set)
        self.ages: list[float] = []
        self.broker = RabbitBroker(job.broker, logger=None, apply_types=False)
        self.queues = {name: self._queue(name) for name in (FIRST, SECOND)}
        self.channel = Channel(prefetch_count=job.window)

    def _queue(self, name: str) -> RabbitQueue:
        kind = QueueType(self.job.queue_type)
        return RabbitQueue(name, durable=True, queue_type=kind)

    async def publish(self, number: int, sent_s: float = 0) -> None:
        """Publish one, and wait for its confirm."""
        said = meter.fields(number)
        if sent_s:
            said["sent_s"] = sent_s
        await self.broker.publish(said, self.queues[FIRST], persist=True)

    def handle_first(self) -> None:
        """Subscribe to the first queue: pass on, or count in the case of one queue."""
        subscriber = self.broker.subscriber(
            self.queues[FIRST], channel=self.channel, ack_policy=AckPolicy.NACK_ON_ERROR
        )
        if self.job.case in {"consume", "worker"}:

            @subscriber
            async def noop(said: dict[str, Any]) -> None:
                del said
                self.meter.hit()

        else:

            @subscriber
            @self.broker.publisher(self.queues[SECOND], persist=True)
            async def forward(said: dict[str, Any]) -> dict[str, Any]:
                self.meter.start()
                return said

    def handle_second(self) -> None:
        """Subscribe to the second queue."""

        @self.broker.subscriber(
            self.queues[SECOND], channel=self.channel, ack_policy=AckPolicy.NACK_ON_ERROR
        )
        async def arrive(said: dict[str, Any]) -> None:
            if "sent_s" in said:
                self.ages.append(time.perf_counter() - said["sent_s"])
            self.meter.hit()


async def publish(peer: Peer) -> None:
    """Send all messages, `window` at a time."""
    await peer.broker.connect()
    await peer.broker.declare_queue(peer.queues[FIRST])
    numbers = iter(range(peer.job.count))

    async def some() -> None:
        for number in numbers:
            await peer.publish(number)

    with peer.meter.running():
        await asyncio.gather(*[some() for _ in range(peer.job.window)])


async def drain(peer: Peer) -> None:
    """Empty a queue, or two in a row."""
    await peer.broker.connect()
    # Both: what is handled before the second subscriber has declared its queue is lost.
    for queue in peer.queues.values():
        await peer.broker.declare_queue(queue)
    await peer.publish(FIRST_NUMBER)
    await replicate(peer.job.broker, FIRST, peer.job.count)
    if peer.job.case != "consume":
        peer.handle_second()
    peer.handle_first()
    await peer.broker.start()
    await peer.done.wait()


async def latency(peer: Peer) -> None:
    """Send at a rate through two stages."""
    peer.handle_second()
    peer.handle_first()
    await peer.broker.start()
    await meter.open_loop(peer.job, peer.publish)
    await peer.done.wait()


async def work(peer: Peer) -> None:
    """Work until killed."""
    peer.handle_first()
    await peer.broker.start()
    await peer.done.wait()


CASES = {
    "publish": publish,
    "consume": drain,
    "stages": drain,
    "latency": latency,
    "worker": work,
}


async def main() -> None:
    """Do the job."""
    logging.disable(logging.WARNING)
    peer = Peer(meter.job())
    await CASES[peer.job.case](peer)
    peer.meter.report(**(meter.quantiles(peer.ages) if peer.ages else {}))
    meter.leave()


if __name__ == "__main__":
    asyncio.run(main())
