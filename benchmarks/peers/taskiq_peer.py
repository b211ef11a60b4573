"""Taskiq on RabbitMQ through taskiq-aio-pika, its receiver in this process.

Results are not kept; parameters are not validated twice; acks come after the task.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from taskiq.acks import AcknowledgeType
from taskiq.api import run_receiver_task
from taskiq_aio_pika import AioPikaBroker
from taskiq_aio_pika.queue import Queue, QueueType

from benchmarks import meter
from benchmarks.meter import Job, Meter
from benchmarks.peers.fill import FIRST_NUMBER, replicate

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from taskiq import AsyncTaskiqDecoratedTask

    Task: TypeAlias = AsyncTaskiqDecoratedTask[Any, Any]

FIRST, SECOND = "taskiq.first", "taskiq.second"


class Peer:
    """A broker with its tasks."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.done = asyncio.Event()
        self.meter = Meter(job, self.done.set)
        self.ages: list[float] = []
        kind = QueueType(job.queue_type)
        queues = [Queue(name=name, type=kind, routing_key=name) for name in (FIRST, SECOND)]
        self.broker = AioPikaBroker(job.broker, qos=job.window, task_queues=queues)
        self.noop, self.first, self.second = self._tasks()

    def _tasks(self) -> tuple[Task, Task, Task]:
        @self.broker.task("noop", queue_name=FIRST)
        async def noop(number: int, fill: str) -> None:
            del number, fill
            self.meter.hit()

        @self.broker.task("second", queue_name=SECOND)
        async def second(number: int, fill: str, sent_s: float = 0) -> None:
            del number, fill
            if sent_s:
                self.ages.append(time.perf_counter() - sent_s)
            self.meter.hit()

        @self.broker.task("first", queue_name=FIRST)
        async def first(number: int, fill: str, sent_s: float = 0) -> None:
            self.meter.start()
            await second.kiq(number=number, fill=fill, sent_s=sent_s)

        return noop, first, second

    def receive(self) -> asyncio.Task[None]:
        """Begin to receive."""
        return asyncio.create_task(
            run_receiver_task(
                self.broker,
                validate_params=False,
                max_async_tasks=self.job.window,
                ack_time=AcknowledgeType.WHEN_EXECUTED,
            )
        )


async def publish(peer: Peer) -> None:
    """Send all messages, `window` at a time."""
    numbers = iter(range(peer.job.count))

    async def some() -> None:
        for number in numbers:
            await peer.noop.kiq(**meter.fields(number))

    with peer.meter.running():
        await asyncio.gather(*[some() for _ in range(peer.job.window)])


async def drain(peer: Peer) -> None:
    """Empty a queue, or two in a row."""
    task = peer.noop if peer.job.case == "consume" else peer.first
    await task.kiq(**meter.fields(FIRST_NUMBER))
    await replicate(peer.job.broker, FIRST, peer.job.count)
    receiving = peer.receive()
    await peer.done.wait()
    receiving.cancel()


async def latency(peer: Peer) -> None:
    """Send at a rate through two stages."""
    receiving = peer.receive()
    await asyncio.sleep(0.5)
    await meter.open_loop(
        peer.job,
        lambda number, due_s: peer.first.kiq(**meter.fields(number), sent_s=due_s),
    )
    await peer.done.wait()
    receiving.cancel()


async def work(peer: Peer) -> None:
    """Work until killed."""
    await peer.receive()


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
    peer.broker.is_worker_process = True
    await peer.broker.startup()
    await CASES[peer.job.case](peer)
    peer.meter.report(**(meter.quantiles(peer.ages) if peer.ages else {}))
    meter.leave()


if __name__ == "__main__":
    asyncio.run(main())
