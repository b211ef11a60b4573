"""aio-pika, by hand and with care: what one would write without a framework."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import TYPE_CHECKING

import aio_pika

from benchmarks import meter
from benchmarks.meter import Job, Meter
from benchmarks.peers.fill import FIRST_NUMBER, replicate

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST, SECOND = "raw.first", "raw.second"


def message(number: int, sent_s: float = 0) -> aio_pika.Message:
    """Return a message as all the cases send it."""
    said = meter.fields(number)
    if sent_s:
        said["sent_s"] = sent_s
    return aio_pika.Message(
        json.dumps(said, separators=(",", ":")).encode(),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=uuid.uuid4().hex,
    )


async def _queue(
    channel: aio_pika.abc.AbstractChannel, name: str, job: Job
) -> aio_pika.abc.AbstractQueue:
    return await channel.declare_queue(
        name, durable=True, arguments={"x-queue-type": job.queue_type}
    )


class Raw:
    """A connection, a channel to consume and one to publish, and two queues."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.done = asyncio.Event()
        self.meter = Meter(job, self.done.set)

    async def open(self) -> None:
        """Connect and declare."""
        self.connection = await aio_pika.connect(self.job.broker)
        self.channel = await self.connection.channel()
        await self.channel.set_qos(prefetch_count=self.job.window)
        self.exchange = (await self.connection.channel()).default_exchange
        self.first = await _queue(self.channel, FIRST, self.job)
        self.second = await _queue(self.channel, SECOND, self.job)

    async def publish(self, number: int, queue: str, sent_s: float = 0) -> None:
        """Publish one, and wait for its confirm."""
        await self.exchange.publish(message(number, sent_s), routing_key=queue)

    async def fill(self) -> None:
        """Put all messages into the first queue."""
        await self.publish(FIRST_NUMBER, FIRST)
        await replicate(self.job.broker, FIRST, self.job.count)

    async def noop(self, arrived: aio_pika.abc.AbstractIncomingMessage) -> None:
        """Decode, do nothing, ack."""
        json.loads(arrived.body)
        await arrived.ack()
        self.meter.hit()

    async def forward(self, arrived: aio_pika.abc.AbstractIncomingMessage) -> None:
        """Decode, publish, ack."""
        self.meter.start()
        said = json.loads(arrived.body)
        await self.publish(said["number"], SECOND, said.get("sent_s", 0))
        await arrived.ack()


async def publish(raw: Raw) -> None:
    """Send all messages, `window` at a time."""
    numbers = iter(range(raw.job.count))

    async def some() -> None:
        for number in numbers:
            await raw.publish(number, FIRST)

    with raw.meter.running():
        await asyncio.gather(*[some() for _ in range(raw.job.window)])


async def consume(raw: Raw) -> None:
    """Empty a queue."""
    await raw.fill()
    await raw.first.consume(raw.noop)
    await raw.done.wait()


async def stages(raw: Raw) -> None:
    """Empty a queue into a second one, and that one too."""
    await raw.fill()
    await raw.second.consume(raw.noop)
    await raw.first.consume(raw.forward)
    await raw.done.wait()


async def latency(raw: Raw) -> dict[str, float]:
    """Send at a rate, whatever becomes of them; say how old they were at the end."""
    ages: list[float] = []

    async def arrive(arrived: aio_pika.abc.AbstractIncomingMessage) -> None:
        ages.append(time.perf_counter() - json.loads(arrived.body)["sent_s"])
        await arrived.ack()
        raw.meter.hit()

    await raw.second.consume(arrive)
    await raw.first.consume(raw.forward)
    await meter.open_loop(raw.job, lambda number, due_s: raw.publish(number, FIRST, due_s))
    await raw.done.wait()
    return meter.quantiles(ages)


async def split(raw: Raw) -> None:
    """Split one job into parts, handle each, put them in order again, in memory."""
    parts: dict[int, bytes] = {}

    async def arrive(arrived: aio_pika.abc.AbstractIncomingMessage) -> None:
        said = json.loads(arrived.body)
        parts.setdefault(said["number"], arrived.body)
        await arrived.ack()
        if len(parts) == raw.job.count and not raw.done.is_set():
            assert [parts[number] for number in range(raw.job.count)]
            raw.done.set()

    await raw.second.consume(arrive)
    await raw.first.consume(raw.forward)
    with raw.meter.running():
        await asyncio.gather(*[raw.publish(number, FIRST) for number in range(raw.job.count)])
        await raw.done.wait()


CASES: dict[str, Callable[[Raw], object]] = {
    "publish": publish,
    "consume": consume,
    "stages": stages,
    "latency": latency,
    "split": split,
}


async def main() -> None:
    """Do the job."""
    raw = Raw(meter.job())
    await raw.open()
    details = await CASES[raw.job.case](raw)  # type: ignore[misc]
    raw.meter.report(**(details or {}))
    meter.leave()


if __name__ == "__main__":
    asyncio.run(main())
