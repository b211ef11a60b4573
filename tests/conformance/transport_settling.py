"""What every transport must do with what is in hand: settle it, hand it back, save it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rolekit.clock import SystemClock
from rolekit.errors import Unroutable
from rolekit.transport.base import Depth
from tests.conformance.transport import (
    QUIET_S,
    Inbox,
    bodies,
    consume,
    flags,
    packet,
    packets,
    settled,
    told,
    two,
)

if TYPE_CHECKING:
    from tests.conformance.transport import Ground


class Settling:
    """Each delivery ends as acked, or handed back."""

    async def test_what_was_acked_is_forgotten(self, ground: Ground) -> None:
        transport, inbox = await ground.connect(), Inbox()
        subscription = await consume(transport, inbox)
        await transport.publish(packets(2))

        subscription.ack(await inbox.count(2))
        await subscription.flush()

        await settled(transport, Depth(0, 0))

    async def test_a_flush_means_that_the_acks_were_sent(self, ground: Ground) -> None:
        transport, inbox = await ground.connect(), Inbox()
        subscription = await consume(transport, inbox)
        await transport.publish(packets(2))
        first, second = await inbox.count(2)

        subscription.ack([first])
        subscription.ack([second])
        await subscription.flush()

        await settled(transport, Depth(0, 0))

    async def test_what_was_handed_back_comes_again_flagged(self, ground: Ground) -> None:
        transport, inbox = await ground.connect(), Inbox()
        subscription = await consume(transport, inbox)
        await transport.publish([packet(1)])

        subscription.hand_back(await inbox.count(1))

        first, again = await inbox.count(2)
        assert again.packet == first.packet
        assert flags(again) == (True, False, 0)

    async def test_what_was_handed_back_comes_before_what_was_published_later(
        self, ground: Ground
    ) -> None:
        transport, inbox = await ground.connect(), Inbox()
        subscription = await consume(transport, inbox, window=1)
        await transport.publish(packets(3))

        subscription.hand_back(await inbox.count(1))
        await inbox.count(2)

        assert inbox.bodies == [b"0", b"0"]

    async def test_handing_one_back_keeps_the_others_in_hand(self, ground: Ground) -> None:
        transport, inbox = await ground.connect(), Inbox()
        subscription = await consume(transport, inbox)
        await transport.publish(packets(3))

        subscription.hand_back((await inbox.count(3))[1:2])
        await inbox.count(4)
        await asyncio.sleep(QUIET_S)

        assert inbox.bodies == [b"0", b"1", b"2", b"1"]
        await settled(transport, Depth(0, 3))

    async def test_each_of_many_handed_back_one_after_another_comes_again(
        self, ground: Ground
    ) -> None:
        transport, inbox = await ground.connect(), Inbox()
        subscription = await consume(transport, inbox)
        await transport.publish(packets(60))

        for delivery in (await inbox.count(60))[:60]:
            subscription.hand_back([delivery])
            await asyncio.sleep(0.001)

        await inbox.count(120)
        assert sorted(inbox.bodies[60:]) == sorted(bodies(60))

    async def test_closing_hands_back_what_is_in_hand(self, ground: Ground) -> None:
        transport, inbox, later = await ground.connect(), Inbox(), Inbox()
        subscription = await consume(transport, inbox)
        await transport.publish(packets(3))
        got = await inbox.count(3)
        subscription.ack([got[0]])

        await subscription.close()
        await subscription.close()
        await consume(transport, later)

        again = await later.count(2)
        assert later.bodies == [b"1", b"2"]
        assert [flags(delivery) for delivery in again] == [(True, False, 0)] * 2

    async def test_a_queue_whose_window_is_none_waits_and_others_go_on(
        self, ground: Ground
    ) -> None:
        transport, inbox = await ground.connect(), Inbox()
        subscription = await consume(transport, inbox, "q", "other")
        subscription.widen("q", 0)
        await asyncio.sleep(QUIET_S)

        await transport.publish([*packets(2), packet(7, "other")])
        await inbox.count(1)
        await asyncio.sleep(QUIET_S)
        before = inbox.bodies
        subscription.widen("q", 3)
        await inbox.count(3)

        assert before == [b"7"]
        assert inbox.bodies == [b"7", b"0", b"1"]

    async def test_a_closed_subscription_takes_no_more(self, ground: Ground) -> None:
        transport, inbox = await ground.connect(), Inbox()
        subscription = await consume(transport, inbox)

        await subscription.close()
        await transport.publish(packets(3))
        await asyncio.sleep(QUIET_S)

        assert inbox.got == []
        await settled(transport, Depth(3, 0))

    async def test_stopping_hands_back_and_may_be_repeated(self, ground: Ground) -> None:
        transport, other, inbox = await ground.connect(), await ground.connect(), Inbox()
        await consume(transport, inbox)
        await transport.publish(packets(2))
        await inbox.count(2)

        await transport.stop()
        await transport.stop()

        await settled(other, Depth(2, 0))

    async def test_a_transport_may_be_stopped_before_it_started(self, ground: Ground) -> None:
        transport = ground.unconnected()

        await transport.stop()

    async def test_forwarding_publishes_and_acks(self, ground: Ground) -> None:
        transport, inbox, further = await ground.connect(), Inbox(), Inbox()
        await transport.declare(["next"])
        subscription = await consume(transport, inbox)
        await transport.publish(packets(2))
        got = await inbox.count(2)

        outputs = [packet(number, "next") for number in range(2)]
        await transport.forward(subscription, list(zip(got, outputs, strict=True)))
        await subscription.flush()
        await consume(transport, further, "next")

        await further.count(2)
        assert further.bodies == bodies(2)
        await settled(transport, Depth(0, 0))

    async def test_forwarding_to_nowhere_keeps_the_delivery(self, ground: Ground) -> None:
        transport, inbox = await ground.connect(), Inbox()
        subscription = await consume(transport, inbox)
        await transport.publish([packet(1)])
        (got,) = await inbox.count(1)

        with pytest.raises(Unroutable):
            await transport.forward(subscription, [(got, packet(1, "nowhere"))])

        await settled(transport, Depth(0, 1))

    async def test_depths_tell_what_waits_what_is_in_hand_and_for_how_long(
        self, ground: Ground
    ) -> None:
        transport, inbox = await ground.connect(), Inbox()
        await consume(transport, inbox, window=1)
        long_ago_ms = SystemClock().now_ms() - 60_000
        old = [packet(number) for number in range(3)]
        for one in old:
            one.birth_ms = long_ago_ms

        await transport.publish(old)
        await inbox.count(1)
        await settled(transport, Depth(2, 1))
        depths = await transport.depths(["q", "empty"])

        assert depths["q"].waiting == 2
        empty = depths["empty"]
        assert (empty.waiting, empty.in_hand, empty.oldest_s) == (0, 0, 0)
        if transport.features.sees_holders:
            assert depths["q"].in_hand == 1
            assert 59 < depths["q"].oldest_s < 70

    async def test_where_depths_tell_no_age_the_oldest_that_came_does(
        self, ground: Ground
    ) -> None:
        transport, inbox = await ground.connect(), Inbox()
        await consume(transport, inbox)
        old = packets(3)
        for one, age_ms in zip(old, (60_000, 1000, 0), strict=True):
            one.birth_ms = SystemClock().now_ms() - age_ms

        before = transport.delivered_age_s()
        await transport.publish(old)
        await inbox.count(3)
        came, again = transport.delivered_age_s(), transport.delivered_age_s()

        assert before is None
        assert again is None
        if transport.features.sees_holders:
            assert came is None
        else:
            assert came is not None
            assert 59 < came < 70


class Dying:
    """What an instance that died had in hand."""

    async def test_it_comes_back_suspected(self, ground: Ground) -> None:
        dying, other, inbox, later = *await two(ground), Inbox(), Inbox()
        await consume(dying, inbox)
        await dying.publish(packets(2))
        await inbox.count(2)

        await ground.die(dying)
        await consume(other, later)

        again = await later.count(2)
        assert later.bodies == bodies(2)
        assert [flags(delivery) for delivery in again] == [told(other, (True, True, 0))] * 2

    async def test_a_death_counts_against_what_ran_alone(self, ground: Ground) -> None:
        dying, other, inbox, later = *await two(ground), Inbox(), Inbox()
        subscription = await consume(dying, inbox)
        await dying.publish(packets(2))
        alone, _ = await inbox.count(2)

        await subscription.run_alone(alone)
        await ground.die(dying)
        await consume(other, later)

        again = await later.count(2)
        assert [flags(delivery) for delivery in again] == [
            told(other, (True, True, 1)),
            told(other, (True, True, 0)),
        ]

    async def test_what_others_hold_stays_with_them(self, ground: Ground) -> None:
        dying, other, inbox, later = *await two(ground), Inbox(), Inbox()
        await consume(other, later)
        await other.publish([packet(0)])
        await later.count(1)
        await consume(dying, inbox, "r")
        await dying.publish([packet(1, "r")])
        await inbox.count(1)

        await ground.die(dying)
        await other.recover()
        await asyncio.sleep(QUIET_S)

        assert later.bodies == [b"0"]
        await settled(other, Depth(0, 1))

    async def test_what_it_had_settled_does_not_come_back(self, ground: Ground) -> None:
        dying, other, inbox = *await two(ground), Inbox()
        subscription = await consume(dying, inbox)
        await dying.publish(packets(2))
        subscription.ack((await inbox.count(2))[:1])
        await subscription.flush()

        await ground.die(dying)

        await settled(other, Depth(1, 0))

    async def test_a_suspect_that_was_handed_back_is_no_longer_alone(
        self, ground: Ground
    ) -> None:
        first, second, third = [await ground.connect() for _ in range(3)]
        inbox, again, later = Inbox(), Inbox(), Inbox()
        subscription = await consume(first, inbox)
        await first.publish([packet(1)])
        await subscription.run_alone((await inbox.count(1))[0])
        await subscription.close()
        await consume(second, again)
        await again.count(1)

        await ground.die(second)
        await consume(third, later)

        (got,) = await later.count(1)
        assert flags(got) == told(third, (True, True, 0))
