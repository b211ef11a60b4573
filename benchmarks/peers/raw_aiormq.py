"""aiormq, the protocol library below aio-pika, by hand."""

from __future__ import annotations

import asyncio
import json
import uuid

import aiormq

from benchmarks import meter
from benchmarks.meter import Meter
from benchmarks.peers.fill import FIRST_NUMBER, replicate

QUEUE = "raw.first"


async def main() -> None:
    """Do the job."""
    job = meter.job()
    done = asyncio.Event()
    counter = Meter(job, done.set)
    connection = await aiormq.connect(job.broker)
    consuming, publishing = await connection.channel(), await connection.channel()
    await consuming.queue_declare(
        QUEUE, durable=True, arguments={"x-queue-type": job.queue_type}
    )

    async def publish(number: int) -> None:
        properties = aiormq.spec.Basic.Properties(
            content_type="application/json", delivery_mode=2, message_id=uuid.uuid4().hex
        )
        await publishing.basic_publish(
            meter.body(number), routing_key=QUEUE, properties=properties, mandatory=True
        )

    async def noop(arrived: aiormq.abc.DeliveredMessage) -> None:
        json.loads(arrived.body)
        assert arrived.delivery_tag is not None
        await consuming.basic_ack(arrived.delivery_tag, wait=False)
        counter.hit()

    if job.case == "publish":
        numbers = iter(range(job.count))

        async def some() -> None:
            for number in numbers:
                await publish(number)

        with counter.running():
            await asyncio.gather(*[some() for _ in range(job.window)])
    else:
        await publish(FIRST_NUMBER)
        await replicate(job.broker, QUEUE, job.count)
        await consuming.basic_qos(prefetch_count=job.window)
        await consuming.basic_consume(QUEUE, noop)
        await done.wait()
    counter.report()
    meter.leave()


if __name__ == "__main__":
    asyncio.run(main())
