"""The laws of publishing: whatever the broker answers, each call ends once and right."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekit.model.envelope import Packet
from rolekit.transport.rabbitmq import publisher as publishing
from tests.property.jumping import run
from tests.unit.fakes_rabbitmq import Bench, FakeChannel, bench, outcome, turns

pytestmark = pytest.mark.timeout(60)

PIECE, WINDOW = 3, 7
QUEUES = ("here", "full", "gone")
MESSAGES = st.tuples(st.sampled_from(QUEUES), st.integers(1, 3))
LISTS = st.lists(st.lists(MESSAGES, min_size=1, max_size=9), min_size=1, max_size=6)


@dataclass
class Answers:
    """What a broker says to what is written on one channel, in an order that it may choose.

    It returns what goes to a queue that is gone, in the order of publishing and
    before it confirms it, and refuses what goes to a full one.
    """

    channel: FakeChannel
    unconfirmed: list[int] = field(default_factory=list[int])
    seen: int = 0
    returned: int = 0

    def look(self) -> None:
        self.unconfirmed += range(self.seen + 1, len(self.channel.written) + 1)
        self.seen = len(self.channel.written)

    def is_refused(self, number: int) -> bool:
        return self.channel.written[number - 1].queue == "app.full"

    def say(self, data: st.DataObject) -> None:
        """Say something about something that is not confirmed."""
        tag = data.draw(st.sampled_from(self.unconfirmed))
        refused = self.is_refused(tag)
        covered = [number for number in self.unconfirmed if number <= tag]
        multiple = data.draw(st.booleans()) and all(
            self.is_refused(number) == refused for number in covered
        )
        self.send_back(data.draw(st.integers(tag, self.seen)))
        confirm = self.channel.nack if refused else self.channel.ack
        confirm(tag, multiple=multiple)
        gone = covered if multiple else [tag]
        self.unconfirmed = [number for number in self.unconfirmed if number not in gone]

    def send_back(self, to: int) -> None:
        for number in range(self.returned + 1, to + 1):
            if self.channel.written[number - 1].queue == "app.gone":
                self.channel.send_back(number)
        self.returned = max(self.returned, to)


def right(packets: list[Packet]) -> str:
    queues = {packet.queue for packet in packets}
    if "gone" in queues:
        return "Unroutable"
    return "QueueFull" if "full" in queues else "stored"


def built(lists: list[list[tuple[str, int]]]) -> list[list[Packet]]:
    return [
        [Packet(queue=queue, id=f"{number:032x}", head=b"") for queue, number in each]
        for each in lists
    ]


async def one_run(b: Bench, lists: list[list[Packet]], data: st.DataObject) -> None:
    answers = Answers(b.broker.now)
    left = list(lists)
    calls: list[asyncio.Task[None]] = []
    cancelled: set[int] = set()
    while left or any(not call.done() for call in calls):
        answers.look()
        steps = ["call"] * bool(left) + ["say"] * bool(answers.unconfirmed)
        open_ = [at for at, call in enumerate(calls) if not call.done()]
        steps += ["cancel"] * bool(open_ and answers.unconfirmed)
        step = data.draw(st.sampled_from(steps))
        if step == "call":
            calls.append(asyncio.create_task(b.publisher.publish(left.pop(0))))
            b.calls = calls
        elif step == "say":
            answers.say(data)
        else:
            at = data.draw(st.sampled_from(open_))
            calls[at].cancel()
            cancelled.add(at)
        if data.draw(st.booleans()):
            await turns()
        if not left:
            await turns()
        assert len(answers.unconfirmed) <= WINDOW
    answers.look()
    while answers.unconfirmed:
        answers.say(data)
    for at, call in enumerate(calls):
        allowed = {right(lists[at])} | ({"cancelled"} if at in cancelled else set[str]())
        assert outcome(call) in allowed
    await one_more(b, answers)


async def one_more(b: Bench, answers: Answers) -> None:
    """Whatever came before, what is published next is stored."""
    call = await b.publish(Packet(queue="here", id="f" * 32, head=b""))
    answers.look()
    b.broker.now.ack(answers.seen)
    await turns()
    assert outcome(call) == "stored"
    kept = vars(b.publisher)
    assert not any(kept[name] for name in ("_early", "_refused", "_flying", "_waiting"))
    assert kept["_in_flight"] == kept["_bytes"] == 0


@given(LISTS, st.data())
def test_every_publish_ends_once_as_the_broker_decided(
    lists: list[list[tuple[str, int]]], data: st.DataObject
) -> None:
    async def main() -> None:
        async with bench() as b:
            await one_run(b, built(lists), data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "PIECE", PIECE)
        patch.setattr(publishing, "WINDOW", WINDOW)
        run(main())


@given(LISTS, st.data())
def test_a_lost_channel_leaves_nothing_lost_or_claimed_that_is_not_so(
    lists: list[list[tuple[str, int]]], data: st.DataObject
) -> None:
    """Every call ends; what it calls stored, the broker confirmed; the rest it was told."""
    stored: Counter[str] = Counter()
    whole = [[(f"here{at}", number) for _, number in each] for at, each in enumerate(lists)]

    async def main() -> None:
        async with bench() as b:
            calls = [asyncio.create_task(b.publisher.publish(each)) for each in built(whole)]
            b.calls = calls
            await turns()
            for _ in range(data.draw(st.integers(1, 3))):
                answers = Answers(b.broker.now)
                answers.look()
                for _ in range(data.draw(st.integers(0, 12))):
                    if answers.unconfirmed:
                        answers.say(data)
                        await turns()
                        answers.look()
                confirmed = set(range(1, answers.seen + 1)) - set(answers.unconfirmed)
                stored.update(b.broker.now.written[n - 1].queue for n in confirmed)
                b.broker.now.lose("gone")
                await turns()
            answers = Answers(b.broker.now)
            while not all(call.done() for call in calls):
                answers.look()
                stored.update(b.broker.now.written[n - 1].queue for n in answers.unconfirmed)
                b.broker.now.ack(answers.seen, multiple=True)
                answers.unconfirmed.clear()
                await turns()
        for at, (call, each) in enumerate(zip(calls, whole, strict=True)):
            assert outcome(call) in {"stored", "PublishUnknown"}
            if outcome(call) == "stored":
                assert stored[f"app.here{at}"] == len(each)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "PIECE", PIECE)
        patch.setattr(publishing, "WINDOW", WINDOW)
        run(main())
