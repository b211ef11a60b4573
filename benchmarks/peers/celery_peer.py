"""Celery on RabbitMQ, its solo worker in this process.

The solo pool is its fastest for short tasks. Confirms are asked for, acks come late, results
are not kept except by the chord, and what a worker tells its peers is turned off.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import warnings
from dataclasses import replace
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
counter = Meter(job)
app = Celery("bench", broker=job.broker, backend=job.redis or None)
arguments = {"x-queue-type": job.queue_type}
app.conf.update(
    broker_transport_options={"confirm_publish": True},
    task_acks_late=True,
    task_ignore_result=job.case not in {"split", "worker"},
    worker_prefetch_multiplier=job.window,
    task_queues=[Queue(name, queue_arguments=arguments) for name in (FIRST, SECOND)],
    task_default_queue=FIRST,
    task_routes={"second": {"queue": SECOND}},
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_enable_remote_control=False,
)


@app.task(name="noop")
def noop(number: int, fill: str) -> None:
    """Do nothing."""
    del number, fill
    counter.hit()


@app.task(name="first")
def first(number: int, fill: str) -> None:
    """Pass on."""
    counter.start()
    second.delay(number=number, fill=fill)


@app.task(name="second")
def second(number: int, fill: str) -> None:
    """Take what was passed on."""
    del number, fill
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
    """Work for ever, in the main thread, as its signals want."""
    app.Worker(
        pool="solo", concurrency=1, without_gossip=True, without_mingle=True,
        without_heartbeat=True, loglevel="ERROR", quiet=True,
    ).start()  # fmt: skip


def finish() -> None:
    """Report and leave."""
    counter.report()
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


def split() -> None:
    """Run one chord with the worker in a process of its own, after a small one."""
    environment = {**os.environ, meter.JOB: replace(job, case="worker").encode()}
    command = [sys.executable, "-m", __spec__.name]
    with subprocess.Popen(command, env=environment) as worker:  # noqa: S603 - itself
        _chord(3)
        before_s = meter.cpu_of(worker.pid)
        with counter.running():
            _chord(job.count)
        counter.cpu_s += meter.cpu_of(worker.pid) - before_s
        worker.kill()
    finish()


def _chord(parts: int) -> None:
    found = chord([part.s(number) for number in range(parts)])(collect.s())
    assert found.get(timeout=60 + parts / 100, interval=0.005) == parts


def publish() -> None:
    """Send all messages, one after another: it has no other way."""
    noop.delay(**meter.fields(0))
    with counter.running():
        for number in range(job.count):
            noop.delay(**meter.fields(number))
    finish()


CASES: dict[str, Callable[[], None]] = {
    "publish": publish,
    "consume": drain,
    "stages": drain,
    "split": split,
    "worker": work,
}

if __name__ == "__main__":
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")  # it need not say that this user is root
    counter.done = finish
    CASES[job.case]()
