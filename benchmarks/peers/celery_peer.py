"""Celery on RabbitMQ, its solo worker in this process.

The solo pool is its fastest for short tasks. Confirms are asked for, acks come late, results
are not kept except by the chord, and what a worker tells its peers is turned off.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import warnings
from typing import TYPE_CHECKING

from celery import Celery, chord
from kombu import Queue

from benchmarks import meter
from benchmarks.meter import Meter
from benchmarks.peers.fill import FIRST_NUMBER, replicate

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST, SECOND = "celery.first", "celery.second"

job = meter.job()
counter = Meter(job.count, lambda: finish())
app = Celery("bench", broker=job.broker, backend=job.redis or None)
arguments = {"x-queue-type": job.queue_type}
app.conf.update(
    broker_transport_options={"confirm_publish": True},
    task_acks_late=True,
    task_ignore_result=job.case != "split",
    worker_prefetch_multiplier=job.window,
    task_queues=[Queue(name, queue_arguments=arguments) for name in (FIRST, SECOND)],
    task_default_queue=FIRST,
    task_routes={"second": {"queue": SECOND}},
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_enable_remote_control=False,
)
ages: list[float] = []


@app.task(name="noop")
def noop(number: int, fill: str) -> None:
    """Do nothing."""
    del number, fill
    counter.hit()


@app.task(name="first")
def first(number: int, fill: str, sent_s: float = 0) -> None:
    """Pass on."""
    second.delay(number=number, fill=fill, sent_s=sent_s)


@app.task(name="second")
def second(number: int, fill: str, sent_s: float = 0) -> None:
    """Take what was passed on."""
    del number, fill
    if sent_s:
        ages.append(time.perf_counter() - sent_s)
    counter.hit()


@app.task(name="part")
def part(number: int) -> int:
    """Handle a part."""
    return number


@app.task(name="collect")
def collect(parts: list[int]) -> int:
    """Take all parts, in order."""
    assert parts == list(range(len(parts)))
    return len(parts)


def work() -> None:
    """Work for ever; signals want the main thread, so what sends is another one."""
    app.Worker(
        pool="solo", concurrency=1, without_gossip=True, without_mingle=True,
        without_heartbeat=True, loglevel="ERROR", quiet=True,
    ).start()  # fmt: skip


def finish() -> None:
    """Report and leave."""
    counter.report(**(meter.quantiles(ages) if ages else {}))
    meter.leave()


def drain() -> None:
    """Empty a queue, or two in a row."""
    task = noop if job.case == "consume" else first
    with app.connection_for_write() as connection:
        for queue in app.amqp.queues.values():
            queue(connection.default_channel).declare()
    task.delay(**meter.fields(FIRST_NUMBER))
    asyncio.run(replicate(job.broker, FIRST, job.count))
    work()


def beside(sending: Callable[[], None]) -> None:
    """Work, and send from a thread."""
    threading.Thread(target=sending, daemon=True).start()
    work()


def split() -> None:
    """Run one chord."""
    chord([part.s(number) for number in range(3)])(collect.s()).get(timeout=30)
    counter.begin()
    found = chord([part.s(number) for number in range(job.count)])(collect.s())
    assert found.get(timeout=120, interval=0.005) == job.count
    counter.end()
    finish()


def publish() -> None:
    """Send all messages, one after another: it has no other way."""
    noop.delay(**meter.fields(0))
    with counter.running():
        for number in range(job.count):
            noop.delay(**meter.fields(number))
    finish()


def latency() -> None:
    """Send at a rate through two stages."""
    time.sleep(1)
    begin = time.perf_counter()
    for number in range(job.count):
        due_s = begin + number / job.rate
        time.sleep(max(0, due_s - time.perf_counter()))
        first.delay(**meter.fields(number), sent_s=due_s)


CASES: dict[str, Callable[[], None]] = {
    "publish": publish,
    "consume": drain,
    "stages": drain,
    "split": lambda: beside(split),
    "latency": lambda: beside(latency),
}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")  # it need not say that this user is root
    CASES[job.case]()
