"""What was committed leaves: again until it is confirmed, forgotten only then."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import chain
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import (
    CodecError,
    ConfigError,
    PublishUnknown,
    QueueFull,
    Unavailable,
    Unroutable,
)
from rolekit.flow import in_order as one_by_one
from rolekit.flow import outbox as leaving
from rolekit.flow.outbox import Forwarder, Outbox
from rolekit.model.envelope import Head, Kind, Packet, encode_head
from rolekit.store.base import Outgoing, Step
from rolekit.store.memory import MemoryStore
from rolekit.transport.base import Delivery, Subscription
from rolekit.transport.memory import MemoryBroker, MemorySubscription, MemoryTransport
from tests.unit.fakes_flow import SOON_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

pytestmark = pytest.mark.anyio


class Broker(MemoryTransport):
    """Answers each publish by its script: an error, or nothing, which confirms."""

    def __init__(self, *script: Exception | None) -> None:
        super().__init__()
        self.published: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_complete = False
        self._script = list(script)

    async def publish(self, packets: Sequence[Packet]) -> None:
        self.published.append([packet.id for packet in packets])
        await self.gate.wait()
        answer = self._script.pop(0) if self._script else None
        if answer is not None:
            raise answer
        missing = [packet.queue for packet in packets if "missing" in packet.queue]
        if missing and not self.is_complete:
            raise Unroutable(f"There is no queue {missing[0]}.")


class Store(MemoryStore):
    """Notes what it forgets, and beside it what the broker had got by then."""

    def __init__(self, broker: Broker, *script: Exception | None) -> None:
        super().__init__()
        self.forgotten: list[list[int]] = []
        self.after: list[int] = []
        self._broker = broker
        self._script = list(script)

    async def forget(self, sent: Sequence[int]) -> None:
        answer = self._script.pop(0) if self._script else None
        if answer is not None:
            raise answer
        self.forgotten.append(list(sent))
        self.after.append(len(self._broker.published))


class Kept(MemoryStore):
    """Has real rows, and tells when some were forgotten."""

    def __init__(self) -> None:
        super().__init__(owner=1)
        self.forgot = asyncio.Semaphore(0)
        self._steps = 0

    async def keep(self, *packets: Packet) -> None:
        self._steps += 1
        id_ = f"{self._steps:032x}"
        step = Step(id=id_, generation=0, birth_ms=self.tables.clock.now_ms())
        step.outputs = packets
        await self.commit([step])

    async def forget(self, sent: Sequence[int]) -> None:
        await super().forget(sent)
        self.forgot.release()


def row(n: int, queue: str = "q") -> Outgoing:
    return Outgoing(n, Packet(queue=queue, id=f"m{n}", head=b""))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "AWAY_FIRST_S", 0.0)
    monkeypatch.setattr(leaving, "AWAY_MAX_S", 0.0)
    monkeypatch.setattr(one_by_one, "AGAIN_S", 0.0)


@asynccontextmanager
async def running(outbox: Outbox | Forwarder) -> AsyncGenerator[None]:
    task = asyncio.create_task(outbox.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_rows_are_published_in_order_and_then_forgotten() -> None:
    broker = Broker()
    store = Store(broker)
    outbox = Outbox(broker, store)

    async with running(outbox):
        outbox.leave([row(1), row(2)])
        await outbox.empty()

    assert broker.published == [["m1", "m2"]]
    assert store.forgotten == [[1, 2]]


@pytest.mark.parametrize("answer", [PublishUnknown("no confirm"), Unavailable("away")])
async def test_what_was_not_confirmed_is_published_again_and_not_forgotten(
    answer: Exception,
) -> None:
    broker = Broker(answer, answer)
    store = Store(broker)
    outbox = Outbox(broker, store)

    async with running(outbox):
        outbox.leave([row(1), row(2)])
        await outbox.empty()

    assert broker.published == [["m1", "m2"]] * 3
    assert store.forgotten == [[1, 2]]
    assert store.after == [3]


async def test_what_could_not_be_forgotten_is_forgotten_later_and_not_published_again() -> None:
    broker = Broker()
    store = Store(broker, Unavailable("away"))
    outbox = Outbox(broker, store)

    async with running(outbox):
        outbox.leave([row(1)])
        await outbox.empty()

    assert list(chain(*broker.published)) == ["m1"]
    assert store.forgotten == [[1]]


async def test_what_comes_meanwhile_keeps_its_order() -> None:
    broker = Broker(PublishUnknown("no confirm"))
    broker.gate.clear()
    outbox = Outbox(broker, store := Store(broker))

    async with running(outbox):
        outbox.leave([row(1)])
        await asyncio.sleep(0)
        outbox.leave([row(2)])
        broker.gate.set()
        await outbox.empty()

    sent = list(chain(*broker.published))
    assert sent.index("m1") < sent.index("m2")
    assert list(chain(*store.forgotten)) == [1, 2]


async def test_an_answer_whose_asker_is_gone_is_dropped_and_holds_up_nothing() -> None:
    broker = Broker()
    outbox = Outbox(broker, store := Store(broker))

    async with running(outbox):
        outbox.leave([row(1), row(2, "~reply.missing"), row(3)])
        await outbox.empty()

    assert store.forgotten == [[1, 2, 3]]


async def test_nothing_of_a_row_in_order_leaves_before_what_is_in_front_of_it() -> None:
    head = encode_head(Head(kind=Kind.BEHIND))
    token = Packet(queue="g", id="token", head=head)
    full = QueueFull("The queue takes no more.", which=frozenset({0}))
    broker = Broker(full, PublishUnknown("no confirm"), None, None, None, full)
    outbox = Outbox(broker, store := Store(broker))
    in_order = [row(1, "q").packet, row(2, "q").packet, row(3, "other").packet, token]

    async with running(outbox):
        outbox.leave([*(Outgoing(7, packet) for packet in in_order), row(8)])
        await outbox.empty()

    sent = [each for each in broker.published if each != ["m8"]]
    assert sent[0] == ["m1", "m3"]
    assert [each[0] for each in sent if each != ["m3"]][-4:] == ["m1", "m2", "token", "token"]
    assert sorted(chain(*store.forgotten)) == [7, 8]


async def test_a_row_that_is_handed_over_twice_leaves_once() -> None:
    broker = Broker()
    outbox = Outbox(broker, store := Store(broker))

    async with running(outbox):
        outbox.leave([row(1)])
        outbox.leave([row(1), row(2)])
        await outbox.empty()

    assert list(chain(*broker.published)) == ["m1", "m2"]
    assert list(chain(*store.forgotten)) == [1, 2]


async def test_a_message_for_a_queue_that_is_missing_holds_up_nobody_and_leaves_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaving, "LOOK_EVERY_S", 0.0)
    broker, store = Broker(), Kept()
    await store.keep(row(1, "missing").packet, row(2).packet)
    outbox = Outbox(broker, store)

    async with running(outbox):
        await store.forgot.acquire()
        left = [kept.packets[0].id for kept in store.tables.outbox.values()]
        broker.is_complete = True
        await store.forgot.acquire()

    assert left == ["m1"]
    assert broker.published[-1] == ["m1"]
    assert not store.tables.outbox


async def test_a_row_of_its_own_that_nobody_handed_over_is_found_and_leaves_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The answer of a commit was lost, and its repeat tells of no rows.
    monkeypatch.setattr(leaving, "LOOK_EVERY_S", 0.0)
    broker, store = Broker(), Kept()
    await store.keep(row(1).packet)

    async with running(Outbox(broker, store)):
        await store.forgot.acquire()

    assert list(chain(*broker.published)) == ["m1"]


class Sure(Kept):
    """Knows the outcome of every commit; counts how often it is asked for what was left."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def on_doubt(self, tell: Callable[[], None]) -> None:
        pass

    @property
    def is_in_doubt(self) -> bool:
        return False

    async def unsent(self, known: Sequence[int], limit: int) -> list[Outgoing]:
        self.asked += 1
        return await super().unsent(known, limit)


async def test_the_store_is_not_asked_while_no_answer_of_a_commit_was_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaving, "LOOK_EVERY_S", 0.0)
    outbox = Outbox(Broker(), store := Sure())

    async with running(outbox):
        outbox.leave([row(1)])
        await outbox.empty()

    assert store.asked == 0


class Doubting(Kept):
    """Comes to be in doubt when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self._doubts = False
        self._tell: list[Callable[[], None]] = []

    def on_doubt(self, tell: Callable[[], None]) -> None:
        self._tell.append(tell)

    @property
    def is_in_doubt(self) -> bool:
        self.looks += 1
        return self._doubts

    def doubt(self, *, doubts: bool) -> None:
        self._doubts = doubts
        for tell in self._tell:
            tell()


async def rest(store: Doubting) -> None:
    """Wait until it is asked no more."""
    looks = -1
    while looks != store.looks:
        looks = store.looks
        await asyncio.sleep(0.01)


async def test_what_a_lost_answer_left_behind_is_looked_for_once_one_was_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaving, "LOOK_EVERY_S", 0.0)
    broker, store = Broker(), Doubting()

    async with running(Outbox(broker, store)), asyncio.timeout(SOON_S):
        for n in range(2):  # the second time after it was sure for a while
            await store.keep(Packet(queue="q", id=f"m{n}", head=b""))
            store.doubt(doubts=True)
            await store.forgot.acquire()
            store.doubt(doubts=False)
            await rest(store)

    assert list(chain(*broker.published)) == ["m0", "m1"]


class OnceAway(Doubting):
    """Cannot be asked the first time; meanwhile its doubt ends."""

    async def unsent(self, known: Sequence[int], limit: int) -> list[Outgoing]:
        if self.is_in_doubt:
            self.doubt(doubts=False)
            raise Unavailable("The database is away.")
        return await super().unsent(known, limit)


async def test_what_is_in_doubt_is_looked_for_until_a_look_succeeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaving, "LOOK_EVERY_S", 0.0)
    broker, store = Broker(), OnceAway()
    await store.keep(row(1).packet)

    async with running(Outbox(broker, store)), asyncio.timeout(SOON_S):
        store.doubt(doubts=True)
        await store.forgot.acquire()

    assert list(chain(*broker.published)) == ["m1"]


async def test_nobody_wakes_while_no_answer_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "LOOK_EVERY_S", 0.0)
    store = Doubting()

    async with running(Outbox(Broker(), store)):
        await asyncio.sleep(0.1)

    assert store.looks == 0


async def test_what_was_set_aside_is_looked_for_where_nothing_is_in_doubt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaving, "LOOK_EVERY_S", 0.0)
    broker, store = Broker(), Sure()
    await store.keep(row(1, "missing").packet)
    outbox = Outbox(broker, store)

    async with running(outbox), asyncio.timeout(SOON_S):
        outbox.leave(await store.unsent([], 10))
        await outbox.empty()
        broker.is_complete = True
        await store.forgot.acquire()

    assert not store.tables.outbox


async def test_there_is_no_room_while_too_much_is_unconfirmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leaving, "TOO_MANY", 4)
    monkeypatch.setattr(leaving, "BATCH", 1)
    broker = Broker()
    broker.gate.clear()
    outbox = Outbox(broker, Store(broker))

    outbox.leave([row(n) for n in range(4)])
    await asyncio.wait_for(outbox.room(), 1)
    outbox.leave([row(4)])
    waiting = asyncio.ensure_future(outbox.room())
    await asyncio.sleep(0)
    assert not waiting.done()

    async with running(outbox):
        broker.gate.set()
        await asyncio.wait_for(waiting, 5)
        assert 4 <= len(broker.published) <= 5
        await outbox.empty()


@pytest.mark.parametrize("error", [CodecError("too large"), ConfigError("no such name")])
async def test_a_packet_that_cannot_be_written_holds_up_nobody_and_is_kept(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker()
    outbox = Outbox(broker, store := Store(broker))
    publish = broker.publish

    async def refusing(packets: Sequence[Packet]) -> None:
        if any(packet.id == "m2" for packet in packets):
            raise error
        await publish(packets)

    monkeypatch.setattr(broker, "publish", refusing)
    async with running(outbox), asyncio.timeout(SOON_S):
        outbox.leave([row(1), row(2), row(3)])
        await outbox.empty()

    assert list(chain(*broker.published)) == ["m1", "m3"]
    assert list(chain(*store.forgotten)) == [1, 3]


class Acks(MemorySubscription):
    """Notes what is acked."""

    def __init__(self) -> None:
        super().__init__(MemoryBroker(), [], 1, lambda _: None)
        self.acked: list[int] = []

    def ack(self, deliveries: Iterable[Delivery]) -> None:
        self.acked += [delivery.tag for delivery in deliveries]


class Forwards(Broker):
    """Notes what is forwarded together; acks what was."""

    async def forward(
        self, subscription: Subscription, pairs: Sequence[tuple[Delivery, Packet]]
    ) -> None:
        await self.publish([packet for _, packet in pairs])
        subscription.ack([delivery for delivery, _ in pairs])


def pair(n: int, queue: str = "q") -> tuple[Delivery, Packet]:
    came = Packet(queue="in", id=f"m{n}", head=b"")
    return Delivery(came, n), Packet(queue=queue, id=f"m{n}", head=b"")


async def test_outputs_of_one_moment_are_forwarded_together() -> None:
    broker, acks = Forwards(), Acks()
    forwarder = Forwarder(broker)

    async with running(forwarder):
        done = [forwarder.forward(acks, *pair(n)) for n in (1, 2, 3)]
        await asyncio.gather(*done)

    assert broker.published == [["m1", "m2", "m3"]]
    assert acks.acked == [1, 2, 3]


async def test_an_output_that_was_not_confirmed_is_published_again_before_its_ack() -> None:
    broker, acks = Forwards(PublishUnknown("no confirm"), Unavailable("away")), Acks()
    forwarder = Forwarder(broker)

    async with running(forwarder):
        await forwarder.forward(acks, *pair(1))

    assert broker.published == [["m1"]] * 3
    assert acks.acked == [1]


async def test_an_answer_whose_asker_is_gone_is_acked_and_the_rest_is_forwarded() -> None:
    broker, acks = Forwards(), Acks()
    forwarder = Forwarder(broker)

    async with running(forwarder):
        done = [
            forwarder.forward(acks, *pair(1, "~reply.missing")),
            forwarder.forward(acks, *pair(2)),
        ]
        await asyncio.gather(*done)

    assert sorted(acks.acked) == [1, 2]
    assert broker.published[-1] == ["m2"]


async def test_a_row_is_forgotten_when_all_its_packets_were_sent() -> None:
    broker = Broker()
    outbox = Outbox(broker, store := Store(broker))
    together = [Outgoing(7, row(1).packet), Outgoing(7, row(2).packet), row(3)]

    async with running(outbox):
        outbox.leave(together)
        outbox.leave(together)
        await outbox.empty()

    assert broker.published == [["m1", "m2", "m3"]]
    assert store.forgotten == [[7, 3]]


async def test_a_row_of_which_a_packet_has_no_queue_is_kept_whole() -> None:
    broker = Broker()
    outbox = Outbox(broker, store := Store(broker))
    missing = row(2, "missing").packet

    async with running(outbox):
        outbox.leave([Outgoing(7, row(1).packet), Outgoing(7, missing), row(3)])
        await outbox.empty()

    assert store.forgotten == [[3]]
