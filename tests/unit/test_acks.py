"""Acks against a broker that closes the channel for a tag it does not wait for."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)
from pamqp import commands, frame

from rolekit.transport.rabbitmq.acks import Acks

CHANNEL = 7
QUICK = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]  # explaining is slow


class Broker:
    """What RabbitMQ makes of acks on one channel.

    Source: rabbit_channel.erl, collect_acks: a tag that is not outstanding is
    PRECONDITION_FAILED, "unknown delivery tag", with `multiple` as without.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.outstanding: set[int] = set()
        self.acked: set[int] = set()
        self.requeued: set[int] = set()
        self.frames = 0

    def deliver(self) -> int:
        self.sent += 1
        self.outstanding.add(self.sent)
        return self.sent

    def read(self, data: bytes) -> None:
        while data:
            size, channel, method = frame.unmarshal(data)
            data = data[size:]
            self.frames += 1
            assert channel == CHANNEL
            assert isinstance(method, (commands.Basic.Ack, commands.Basic.Nack))
            tag = method.delivery_tag
            assert tag in self.outstanding, f"unknown delivery tag {tag}"
            covered = {n for n in self.outstanding if n <= tag} if method.multiple else {tag}
            self.outstanding -= covered
            if isinstance(method, commands.Basic.Nack):
                assert method.requeue
                self.requeued |= covered
            else:
                self.acked |= covered


class Settling(RuleBasedStateMachine):
    """Acks, requeues and flushes in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker()
        self.acks = Acks(CHANNEL)
        self.in_hand: list[int] = []
        self.finished: set[int] = set()
        self.given_back: set[int] = set()

    @rule(count=st.integers(1, 5))
    def deliver(self, count: int) -> None:
        self.in_hand += [self.broker.deliver() for _ in range(count)]

    @precondition(lambda self: bool(self.in_hand))
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        tag = self._one(data)
        self.finished.add(tag)
        self.acks.ack(tag)

    @precondition(lambda self: bool(self.in_hand))
    @rule()
    def finish_the_oldest(self) -> None:
        tag = self.in_hand.pop(0)
        self.finished.add(tag)
        self.acks.ack(tag)

    @precondition(lambda self: bool(self.in_hand))
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        tag = self._one(data)
        self.given_back.add(tag)
        self.broker.read(self.acks.requeue(tag))

    @precondition(lambda self: bool(self.finished or self.given_back))
    @rule(data=st.data(), is_ack=st.booleans())
    def settle_once_more(self, data: st.DataObject, *, is_ack: bool) -> None:
        tag = data.draw(st.sampled_from(sorted(self.finished | self.given_back)))
        if is_ack:
            self.acks.ack(tag)
        else:
            self.broker.read(self.acks.requeue(tag))

    @rule()
    def flush(self) -> None:
        self.broker.read(self.acks.prefix())

    @rule()
    def flush_all(self) -> None:
        self.broker.read(self.acks.prefix() + self.acks.rest())

    def _one(self, data: st.DataObject) -> int:
        tag = data.draw(st.sampled_from(self.in_hand))
        self.in_hand.remove(tag)
        return tag

    @invariant()
    def nothing_is_acked_that_is_not_finished(self) -> None:
        assert self.broker.acked <= self.finished
        assert self.broker.requeued == self.given_back

    def teardown(self) -> None:
        self.flush_all()
        assert self.broker.acked == self.finished
        assert self.broker.outstanding == set(self.in_hand)
        assert not self.acks.beyond_gap
        self.nothing_is_acked_that_is_not_finished()


TestSettling = Settling.TestCase
TestSettling.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, phases=QUICK
)


@settings(max_examples=100, deadline=None)
@given(st.permutations(range(1, 13)))
def test_any_order_of_finishing_is_told_in_one_frame_at_the_end(order: list[int]) -> None:
    broker, acks = Broker(), Acks(CHANNEL)
    for tag in order:
        broker.deliver()
        acks.ack(tag)

    broker.read(acks.prefix())

    assert (broker.frames, broker.outstanding) == (1, set())


@pytest.mark.parametrize("slow", [1, 2, 4])
def test_one_slow_delivery_holds_up_no_other(slow: int) -> None:
    broker, acks = Broker(), Acks(CHANNEL)
    for tag in [broker.deliver() for _ in range(4)]:
        if tag != slow:
            acks.ack(tag)

    broker.read(acks.prefix())
    told_at_once = set(broker.acked)
    broker.read(acks.rest())

    assert told_at_once == set(range(1, slow))
    assert broker.outstanding == {slow}


def test_a_gap_is_known_until_it_is_told() -> None:
    broker, acks = Broker(), Acks(CHANNEL)
    broker.deliver()
    broker.deliver()

    acks.ack(2)
    known = acks.beyond_gap
    broker.read(acks.rest())

    assert known
    assert not acks.beyond_gap
    assert acks.prefix() == b""


def test_nothing_finished_is_nothing_written() -> None:
    acks = Acks(CHANNEL)

    assert acks.prefix() + acks.rest() == b""


def test_one_delivery_is_not_acked_with_multiple() -> None:
    acks = Acks(CHANNEL)
    acks.ack(1)

    (_, _, method) = frame.unmarshal(acks.prefix())

    assert isinstance(method, commands.Basic.Ack)
    assert not method.multiple
