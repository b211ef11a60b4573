"""Dramatiq on RabbitMQ, its worker threads in this process.

Confirms are asked for; acks come after the actor. Its queues are classic: it knows no
other. A no-op gains nothing from many threads, and eight is what it takes by default.
"""

from __future__ import annotations

import logging
import os
import threading

from benchmarks import meter

job = meter.job()
os.environ["dramatiq_queue_prefetch"] = str(job.window)  # noqa: SIM112 - its name

import dramatiq  # noqa: E402 - it reads the environment as it is imported
from dramatiq.brokers.rabbitmq import RabbitmqBroker  # noqa: E402

from benchmarks.meter import Meter  # noqa: E402
from benchmarks.peers.fill import FIRST_NUMBER, replicate  # noqa: E402

QUEUE = "dramatiq_first"
THREADS = 8

done = threading.Event()
counter = Meter(job, done.set)
broker = RabbitmqBroker(url=job.broker, confirm_delivery=True)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=QUEUE)
def noop(number: int, fill: str) -> None:
    """Do nothing."""
    del number, fill
    counter.hit()


def main() -> None:
    """Do the job."""
    import asyncio  # noqa: PLC0415 - only the filling is asynchronous

    logging.disable(logging.WARNING)
    if job.case == "publish":
        noop.send(**meter.fields(0))
        with counter.running():
            for number in range(job.count):
                noop.send(**meter.fields(number))
    else:
        noop.send(**meter.fields(FIRST_NUMBER))
        asyncio.run(replicate(job.broker, QUEUE, job.count))
        dramatiq.Worker(broker, worker_threads=THREADS).start()
        done.wait()
    counter.report()
    meter.leave()


if __name__ == "__main__":
    main()
