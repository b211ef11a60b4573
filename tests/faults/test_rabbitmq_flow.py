"""RabbitMQ dies, closes connections and runs out of memory under flow; nothing is lost.

No effect happens twice, each report keeps its order, and nobody is restarted. What is measured
is printed: how long after the broker was back a handler ran again.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from rolekit.testing.faults import Direction, Proxy, Verdict, cuts, drops
from rolekit.transport.rabbitmq import publisher
from tests.faults.rabbit import RESUMES_S
from tests.faults.rabbit_flow import PARTS, Flow, Part, flowing
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.faults.rabbit import Rig

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.faults]

ACCEPTS_S = patient(4.0)
"""So long may it take, at most, to take a message in while the broker is away."""
BEFORE = 200
"""Runs of handlers before a fault begins."""
RUNS_A_JOB = 1 + 2 * PARTS


@pytest.mark.timeout(90)
async def test_a_broker_killed_under_flow_loses_nothing(rig: Rig, database_url: str) -> None:
    await _survives(rig, database_url, lambda flow: _kill(rig, flow, 1), pause_s=0.15)


@pytest.mark.load
@pytest.mark.timeout(150)
async def test_a_broker_killed_three_times_under_flow_loses_nothing(
    rig: Rig, database_url: str
) -> None:
    repeats = await _survives(rig, database_url, lambda flow: _kill(rig, flow, 3), pause_s=0.15)

    assert repeats > 0


@pytest.mark.timeout(60)
async def test_connections_closed_every_200_ms_lose_nothing(
    rig: Rig, database_url: str
) -> None:
    async def close(flow: Flow) -> list[float]:
        closed = 0
        for _ in range(12):
            closed += await rig.close_connections()
            await asyncio.sleep(0.2)
        print(closed, "connections were closed")  # noqa: T201 - measured
        assert closed > 20
        return [await flow.moved()]

    assert await _survives(rig, database_url, close) > 0


@pytest.mark.timeout(60)
async def test_a_memory_alarm_under_flow_loses_nothing(rig: Rig, database_url: str) -> None:
    await _survives(rig, database_url, lambda flow: _starve_of_memory(rig, flow, 2))


@pytest.mark.load
@pytest.mark.timeout(150)
async def test_a_memory_alarm_of_30_s_under_flow_loses_nothing(
    rig: Rig, database_url: str
) -> None:
    await _survives(rig, database_url, lambda flow: _starve_of_memory(rig, flow, 30))


@pytest.mark.timeout(60)
async def test_heartbeats_that_starve_lose_nothing(rig: Rig, database_url: str) -> None:
    await _survives(rig, database_url, lambda flow: _starve(flow, 1), heartbeat_s=1)


@pytest.mark.load
@pytest.mark.timeout(240)
async def test_heartbeats_that_starve_for_60_s_lose_nothing(
    rig: Rig, database_url: str
) -> None:
    await _survives(rig, database_url, lambda flow: _starve(flow, 17), heartbeat_s=1)


@pytest.mark.timeout(60)
async def test_a_handler_whose_connection_is_closed_runs_on_and_its_repeat_is_absorbed(
    rig: Rig, database_url: str
) -> None:
    began, go_on, ended = asyncio.Semaphore(0), asyncio.Event(), 0

    async def hold(part: Part) -> None:
        nonlocal ended
        began.release()
        await go_on.wait()
        ended += 1

    async with flowing(rig, database_url, members=1) as flow:
        flow.stage.working = hold
        await flow.send(parts=1)
        async with asyncio.timeout(RESUMES_S):
            await began.acquire()
            await rig.close_connections()
            await began.acquire()  # it came again, and was not known to be done
            held = ended
            go_on.set()

        assert held == 0
        assert await flow.problems(parts=1) == {}
        # Both ran on; a third came if the step before it lost its ack, and gave it once more.
        assert ended in {2, 3}
        assert await flow.count("effects") == 1


@pytest.mark.timeout(60)
async def test_a_malformed_frame_closes_the_connection_and_loses_nothing(
    rig: Rig, database_url: str
) -> None:
    async with Proxy("127.0.0.1", rig.broker.port) as proxy:

        async def spoil(flow: Flow) -> list[float]:
            before = proxy.accepted
            proxy.on_frame = cuts(
                Direction.TO_CLIENT, "Basic.Deliver", nth=5, verdict=Verdict.SPOIL
            )
            async with asyncio.timeout(RESUMES_S):
                await proxy.until(lambda: proxy.accepted > before)
            return [await flow.moved()]

        with capture_logs() as logs:
            await _survives(rig, database_url, spoil, proxy=proxy)

    closed = [one for one in logs if one["event"] == "closing the connection to the broker"]
    again = [one for one in logs if one["event"].startswith("connection to the broker lost")]
    assert [one["reason"].startswith("The broker sent what is no frame") for one in closed] == [
        True
    ]
    assert [one["reason"] for one in again] == [closed[0]["reason"]]


@pytest.mark.timeout(60)
async def test_confirms_that_are_lost_under_flow_lose_nothing(
    rig: Rig, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "CONFIRM_S", 2.0)
    monkeypatch.setattr(publisher, "LOOK_EVERY_S", 0.2)
    async with Proxy("127.0.0.1", rig.broker.port) as proxy:
        lose = partial(_lose, proxy, Direction.TO_CLIENT)

        await _survives(rig, database_url, lose, proxy=proxy)


@pytest.mark.timeout(60)
async def test_acks_that_are_lost_under_flow_make_no_effect_happen_twice(
    rig: Rig, database_url: str
) -> None:
    async with Proxy("127.0.0.1", rig.broker.port) as proxy:

        async def lose(flow: Flow) -> list[float]:
            took_s = await _lose(proxy, Direction.TO_SERVER, flow)
            proxy.cut()  # what was acked in vain comes again
            return [*took_s, await flow.moved()]

        await _survives(rig, database_url, lose, proxy=proxy)


@pytest.mark.timeout(60)
async def test_a_queue_deleted_between_jobs_is_made_again_and_flow_goes_on(
    rig: Rig, database_url: str
) -> None:
    async with flowing(rig, database_url) as flow:
        await flow.send()
        assert await flow.problems() == {}
        transport = flow.broker_end(0)

        session = await transport.consuming()
        async with session.brief_channel() as channel:  # which cancels its consumers
            await channel.calls.queue_delete(transport.broker_name("Work.work"))
        began_s = time.monotonic()
        await flow.send()
        async with asyncio.timeout(RESUMES_S):
            while await flow.count("effects") < 2 * PARTS:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
        took_s = time.monotonic() - began_s

        print("back after", round(took_s, 2), "s")  # noqa: T201 - measured
        assert await flow.problems() == {}


async def _lose(proxy: Proxy, direction: Direction, flow: Flow) -> list[float]:
    """Lose acks, or confirms, for a while; say how soon handlers ran after that."""
    lost = proxy.flow(direction).dropped
    proxy.on_frame = drops(direction, "Basic.Ack")
    async with asyncio.timeout(RESUMES_S):
        await proxy.until(lambda: lost["Basic.Ack"] >= 5)
    proxy.on_frame = None
    return [await flow.moved()]


async def _survives(
    rig: Rig,
    database: str,
    fault: Callable[[Flow], Awaitable[list[float]]],
    heartbeat_s: int = 20,
    pause_s: float = 0.05,
    proxy: Proxy | None = None,
) -> int:
    """Let jobs flow while a fault happens; each has all its effects, once, in order.

    Returns:
        How many runs were repeats, and how many acks came too late: proof that it bit.
    """
    async with flowing(rig, database, heartbeat_s=heartbeat_s, proxy=proxy) as flow:
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(flow.keep_sending(enough, pause_s))
            try:
                await flow.ran(BEFORE)
                took_s = await fault(flow)
            finally:
                enough.set()
            await sending
        problems = await flow.problems()

    repeats = flow.stage.runs - RUNS_A_JOB * len(flow.jobs)
    print(  # noqa: T201 - measured
        f"{len(flow.jobs)} jobs, {repeats} repeats, {flow.stale_acks} late acks; back after",
        [round(seconds, 2) for seconds in took_s], "s",
    )  # fmt: skip
    assert problems == {}
    assert max(took_s) <= RESUMES_S
    return repeats + flow.stale_acks


async def _kill(rig: Rig, flow: Flow, times: int) -> list[float]:
    took_s: list[float] = []
    await asyncio.to_thread(rig.broker.sync_queues)
    for _ in range(times):
        await flow.moved()
        await asyncio.to_thread(rig.broker.kill9)
        async with asyncio.timeout(ACCEPTS_S):
            await flow.send(by=1)  # with a key: its outbox row waits for the broker
        await asyncio.to_thread(rig.broker.start)
        took_s.append(await flow.moved())
    return took_s


async def _starve_of_memory(rig: Rig, flow: Flow, seconds: float) -> list[float]:
    await asyncio.to_thread(rig.broker.set_memory_alarm, is_on=True)
    try:
        await asyncio.sleep(seconds)
        quiet_s = time.monotonic() - flow.stage.ran_s
    finally:
        await asyncio.to_thread(rig.broker.set_memory_alarm, is_on=False)
    assert quiet_s > seconds / 3  # nothing new got in
    return [await flow.moved()]


async def _starve(flow: Flow, times: int) -> list[float]:
    for _ in range(times):
        time.sleep(3.5)  # noqa: ASYNC251 - beyond what the broker waits for a heartbeat
        await asyncio.sleep(0.1)
    return [await flow.moved()]
