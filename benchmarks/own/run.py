"""Does one job as rolekit: `python -m benchmarks.own.run`, with the job in the environment.

Where a queue is emptied it is filled before the clock starts, as for every peer.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, TypeVar

import structlog

from benchmarks import meter
from benchmarks.http_load import Asker
from benchmarks.own import app as own
from benchmarks.own.running import ground
from rolekit.flow.intake import Intake
from rolekit.roles.host import bound_socket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from benchmarks.meter import Job
    from benchmarks.own.running import Ground
    from rolekit import Message
    from rolekit.model.envelope import Packet

    Details = Mapping[str, object]

M = TypeVar("M", bound="Message")


def _messages(cls: Callable[..., M], count: int) -> list[M]:
    return [cls(**meter.fields(number)) for number in range(count)]


async def _connect(there: Ground) -> None:
    """Send one message: that opens the connection, as peers do before the clock starts."""
    await there.client.send(own.Noop(**meter.fields(0)))


async def publish_list(there: Ground) -> Details:
    """Send a list."""
    messages = _messages(own.Noop, there.job.count)
    await _connect(there)
    with there.meter.running():
        await there.client.send_many(messages)
    return {}


async def publish(there: Ground) -> Details:
    """Send one by one, `window` at a time."""
    await _connect(there)
    messages = iter(_messages(own.Noop, there.job.count))

    async def some() -> None:
        for message in messages:
            await there.client.send(message)

    with there.meter.running():
        async with asyncio.TaskGroup() as tasks:
            for _ in range(there.job.window):
                tasks.create_task(some())
    return {}


async def consume(there: Ground) -> Details:
    """Empty a queue."""
    await there.client.send_many(_messages(own.Noop, there.job.count))
    async with there.instance(own.Sinks):
        await there.done.wait()
    return {}


async def stages(there: Ground) -> Details:
    """Empty a queue into a second one, and that one too."""
    await there.client.send_many(_messages(own.First, there.job.count))
    async with there.instance(own.Stages):
        await there.done.wait()
    return {}


async def effects(there: Ground) -> Details:
    """Record a step for each message: inbox, state and output."""
    await there.client.send_many(_messages(own.Counted, there.job.count))
    async with there.instance(own.Effects):
        await there.done.wait()
    return {}


async def keyed(there: Ground) -> Details:
    """Record the same steps in the order of their keys, of which there are 1,000."""
    await there.client.send_many(_messages(own.Entered, there.job.count))
    async with there.instance(own.Ledger):
        await there.done.wait()
    return {}


async def sql(there: Ground) -> Details:
    """Record a step with a statement of SQL for each message; some fail, some are twins."""
    job = there.job
    chance = random.Random(job.count)  # noqa: S311 - the same load in every round
    messages = _messages(own.Stored, job.count)
    culprits = chance.sample(range(job.count), int(job.count * job.options.get("culprits", 0)))
    for place in culprits:
        messages[place] = own.Stored(number=own.CULPRIT, fill=messages[place].fill)
    packets = await _packets(there, messages)
    for place in chance.sample(range(job.count), int(job.count * job.options.get("twins", 0))):
        packets.append(packets[place])
    chance.shuffle(packets)
    for begin in range(0, len(packets), 1000):
        await there.services.runtime.transport.publish(packets[begin : begin + 1000])
    there.expect(job.count - len(culprits))
    async with there.instance(own.Effects):
        await there.done.wait()
        rows = await _rows(there)
    assert rows == job.count - len(culprits), rows
    return {"culprits": len(culprits), "twins": len(packets) - job.count}


async def _packets(there: Ground, messages: list[own.Stored]) -> list[Packet]:
    intake = Intake(there.services.runtime, there.services.outbox, 10**9)
    return [
        packet
        for number, message in enumerate(messages)
        for packet in await intake.packets(message, f"{number:032x}", None)
    ]


async def _rows(there: Ground) -> int:
    async with there.services.runtime.store.transaction() as tx:
        rows = await tx.fetch("select count(*) as n from public.effect", ())
    return int(str(rows[0]["n"]))


async def split(there: Ground) -> Details:
    """Split one job, handle the parts, take them in order; a smaller job goes before."""
    async with there.instance(own.Sequences):
        await _one_job(there, 10)
        with there.meter.running():
            await _one_job(there, there.job.count)
    return {}


async def _one_job(there: Ground, parts: int) -> None:
    receipt = await there.client.send(own.Job(parts=parts))
    async for done in there.client.follow(receipt, until=own.JobDone):
        assert done.parts == parts


async def latency(there: Ground) -> Details:
    """Send at a rate through two stages; say how old messages were at the end."""
    async with there.instance(own.Stages):
        await meter.open_loop(
            there.job,
            lambda number, due_s: there.client.send(
                own.First(**meter.fields(number), sent_s=due_s)
            ),
        )
        await there.done.wait()
    return meter.quantiles(own.HITS.ages)


async def ask(there: Ground) -> Details:
    """Ask over HTTP at a rate, each question a message; say how long answers took."""
    ages: list[float] = []
    listening = bound_socket("127.0.0.1:0")
    asker = Asker(listening.getsockname()[1], "/questions")

    async def one(number: int, due_s: float) -> None:
        assert (await asker.ask(meter.fields(number)))["number"] == number
        ages.append(time.perf_counter() - due_s)

    async with there.instance(own.Answers), there.instance(own.Front, listening):
        await one(0, time.perf_counter())
        ages.clear()
        with there.meter.running():
            await meter.open_loop(there.job, one)
    return meter.quantiles(ages)


CASES: dict[str, Callable[[Ground], Awaitable[Details]]] = {
    "publish-list": publish_list,
    "publish": publish,
    "consume": consume,
    "stages": stages,
    "effects": effects,
    "keyed": keyed,
    "sql": sql,
    "split": split,
    "latency": latency,
    "ask": ask,
}


async def main(job: Job) -> None:
    """Do the job."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    async with ground(job) as there:
        there.expect(job.count)
        details = await CASES[job.case](there)
        there.meter.report(**details)


if __name__ == "__main__":
    asyncio.run(main(meter.job()))
