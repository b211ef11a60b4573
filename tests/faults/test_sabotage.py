"""Each protection is taken away once, and the harness has to notice.

A test that passes proves little until it has been seen to fail. Here every scenario runs
twice: as it is, where the checker of `bench.py` must find nothing; and with one line of the
protocol sabotaged, where it must find exactly the kind of damage that this line prevents.
Races are not left to luck: handlers wait at points that the scenario names.

======================================  ==============================  ===================
sabotage                                caught by                       as
======================================  ==============================  ===================
(a) ack before commit                   `test_ack_before_commit`        lost
(b) no inbox                            `test_no_inbox`                 duplicates
(c) a new id on each repeat             `test_a_new_id_on_repeat`       duplicates
(d) a list published before its commit  `test_a_list_published_early`   ghosts
(e) a failure path without the inbox    `test_failing_without_inbox`    forked, duplicates
(f) a gather without its re-check       `test_no_recheck`               stuck
(g) parts in arrival order              `test_arrival_order`            out of order
======================================  ==============================  ===================

`test_nothing_planted_nothing_found` runs the same scenarios unharmed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
import pytest

from rolekit.flow import failure, outputs, work
from rolekit.flow.outputs import Placing, Results
from rolekit.flow.pipeline import Pipeline
from rolekit.model.reassembly import ClosedBy
from rolekit.store.postgres import steps
from rolekit.store.postgres.steps import StepStore
from rolekit.store.postgres.work import SequenceWork
from tests.faults.bench import Anomalies, Done, Job, Part, Script, bench

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rolekit import Run
    from rolekit.connections import Pooled
    from rolekit.flow.runtime import Arrival, Runtime
    from rolekit.flow.work import Work
    from rolekit.model.envelope import Packet
    from rolekit.model.position import Frame
    from rolekit.store.base import Step

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.servers,
    pytest.mark.faults,
    pytest.mark.timeout(60),
]

JOB = Job(name="job", parts=4)


# -- scenarios: what happens to the flow, whether or not something is planted ------------------


async def dies_at_its_first_effect(url: str) -> Anomalies:
    """A member dies just before the commit of an effect; another one takes over."""
    return await _dies(url, lambda step: any("effects" in w.sql for w in step.writes))


async def dies_at_its_split(url: str) -> Anomalies:
    """A member dies just before the commit of a split; another one splits anew."""
    return await _dies(url, lambda step: step.opening is not None)


async def _dies(url: str, at: Callable[[Step], bool]) -> Anomalies:
    async with bench(url) as at_bench:
        first = await at_bench.member(kills=at)
        await at_bench.send(first, JOB)
        await at_bench.bury(first)
        await at_bench.member()
        return await at_bench.check()


async def everything_arrives_twice(url: str) -> Anomalies:
    """Each packet is delivered two times."""
    async with bench(url) as at_bench:
        await at_bench.twice()
        await at_bench.send(await at_bench.member(), JOB)
        return await at_bench.check()


async def answers_are_lost(url: str) -> Anomalies:
    """Each commit happens, but whoever asked for it hears of a lost connection instead."""
    async with bench(url) as at_bench:
        await at_bench.send(await at_bench.member(answers=False), JOB)
        return await at_bench.check()


class FailsFirst(Script):
    """One copy of each part fails; the other ends after the retry of the first took effect."""

    def __init__(self) -> None:
        super().__init__()
        self.tries: Counter[int] = Counter()

    async def working(self, part: Part) -> None:
        self.tries[part.i] += 1
        if self.tries[part.i] == 1:
            raise ValueError("the first try")
        if self.tries[part.i] == 2:
            await self.bench.until("effects", JOB.parts)


async def one_of_two_copies_fails(url: str) -> Anomalies:
    """Each packet is delivered two times; one copy of each part fails, the other does not."""
    async with bench(url, FailsFirst()) as at_bench:
        await at_bench.twice()
        await at_bench.send(await at_bench.member(), JOB)
        return await at_bench.check()


class ComesWhileReporting(Script):
    """All parts but the first are stored while the run with the first is being reported."""

    def __init__(self) -> None:
        super().__init__()
        self.is_reporting = asyncio.Event()

    async def working(self, part: Part) -> None:
        if part.i:
            await self.is_reporting.wait()

    async def gathering(self, run: Run[Done]) -> None:
        if not self.is_reporting.is_set():
            self.is_reporting.set()
            await self.bench.until("rolekit_bench.part", JOB.parts)


async def parts_come_during_a_release(url: str) -> Anomalies:
    """What a release did not read is stored before it commits."""
    async with bench(url, ComesWhileReporting()) as at_bench:
        await at_bench.send(await at_bench.member(), JOB)
        return await at_bench.check()


class FirstComesLast(Script):
    """Part 0 is done when all others have taken effect."""

    async def working(self, part: Part) -> None:
        if part.i == 0:
            await self.bench.until("effects", JOB.parts - 1)


async def the_first_part_comes_last(url: str) -> Anomalies:
    """Parts are done in another order than they were split."""
    async with bench(url, FirstComesLast()) as at_bench:
        await at_bench.send(await at_bench.member(), JOB)
        return await at_bench.check()


@pytest.mark.parametrize(
    "scenario",
    [
        dies_at_its_first_effect,
        dies_at_its_split,
        everything_arrives_twice,
        answers_are_lost,
        one_of_two_copies_fails,
        parts_come_during_a_release,
        the_first_part_comes_last,
    ],
    ids=lambda scenario: scenario.__name__,
)
async def test_nothing_planted_nothing_found(
    scenario: Callable[[str], Awaitable[Anomalies]], database_url: str
) -> None:
    found = await scenario(database_url)

    assert found == Anomalies()


# -- sabotage ----------------------------------------------------------------------------------


async def test_ack_before_commit(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    record: Any = vars(Pipeline)["_record"]

    async def acks_first(self: Pipeline, arrival: Arrival, work: Work) -> object:
        arrival.subscription.ack([arrival.delivery])
        await arrival.subscription.flush()
        return await record(self, arrival, work)

    monkeypatch.setattr(Pipeline, "_record", acks_first)

    found = await dies_at_its_first_effect(database_url)

    assert found.lost > 0


def never_plain(_: Step) -> bool:
    return False


async def test_no_inbox(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    take: Any = vars(StepStore)["_take"]

    async def forgets(self: StepStore, connection: Pooled, batch: Sequence[Step]) -> object:
        await connection.execute("delete from rolekit_bench.inbox")
        return await take(self, connection, batch)

    monkeypatch.setattr(steps, "is_plain", never_plain)
    monkeypatch.setattr(StepStore, "_take", forgets)

    found = await answers_are_lost(database_url)

    assert found.duplicates > 0


async def test_a_new_id_on_repeat(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    def renamed(runtime: Runtime, arrival: Arrival, results: Results) -> Packet | None:
        packet = outputs.direct(runtime, arrival, results)
        return None if packet is None else msgspec.structs.replace(packet, id=uuid4().hex)

    monkeypatch.setattr(work, "direct", renamed)

    found = await everything_arrives_twice(database_url)

    assert found.duplicates > 0


async def test_a_list_published_early(
    monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    record: Any = vars(Pipeline)["_record"]

    async def publishes_first(self: Pipeline, arrival: Arrival, work: Work) -> object:
        if work.step is not None and work.step.outputs:
            runtime: Runtime = vars(self)["_runtime"]
            await runtime.transport.publish(work.step.outputs)
        return await record(self, arrival, work)

    monkeypatch.setattr(Pipeline, "_record", publishes_first)

    found = await dies_at_its_split(database_url)

    assert found.ghosts > 0


async def test_failing_without_inbox(
    monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    step_for = failure.step_for

    def skips(runtime: Runtime, arrival: Arrival, error: Exception) -> Step:
        step = step_for(runtime, arrival, error)
        step.skips_inbox = True
        return step

    monkeypatch.setattr(failure, "step_for", skips)

    found = await one_of_two_copies_fails(database_url)

    assert {"forked", "duplicates"} <= found.classes


async def test_no_recheck(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    async def never(*_: object) -> None:
        pass

    monkeypatch.setattr(SequenceWork, "_look_on", never)

    found = await parts_come_during_a_release(database_url)

    assert found.stuck == 1


async def test_arrival_order(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    close: Any = vars(Placing)["_close"]
    arrived: Counter[str] = Counter()

    def in_turn(self: Placing, frame: Frame, by: ClosedBy, *rest: object) -> None:
        if by is ClosedBy.PART:
            frame = msgspec.structs.replace(frame, path=(arrived[frame.sequence],))
            arrived[frame.sequence] += 1
        close(self, frame, by, *rest)

    monkeypatch.setattr(Placing, "_close", in_turn)

    found = await the_first_part_comes_last(database_url)

    assert found.out_of_order > 0
