"""What every transport must do for the owner of a partition: one reader, in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.conformance.transport import QUIET_S, Inbox, bodies, packets

if TYPE_CHECKING:
    from rolekit.transport.base import Subscription, Transport
    from tests.conformance.transport import Ground

QUEUE = "Role~k03"


async def own(
    transport: Transport, inbox: Inbox, epoch: int, *, window: int = 100
) -> Subscription:
    """Consume the queue of a partition, as its owner does."""
    await transport.declare([QUEUE])
    return await transport.subscribe([QUEUE], window=window, sink=inbox, epoch=epoch)


class Epochs:
    """One owner after the other, and nothing overtakes."""

    async def test_messages_come_in_the_order_in_which_they_were_sent(
        self, ground: Ground
    ) -> None:
        transport, inbox = await ground.connect(), Inbox()
        await own(transport, inbox, 1)

        for each in packets(30, QUEUE):
            await transport.publish([each])

        await inbox.count(30)
        assert inbox.bodies == bodies(30)

    async def test_what_the_owner_before_had_in_hand_comes_first_and_in_order(
        self, ground: Ground
    ) -> None:
        first, second = await ground.connect(), await ground.connect()
        before, after = Inbox(), Inbox()
        subscription = await own(first, before, 1, window=5)
        await first.publish(packets(12, QUEUE))
        await before.count(5)
        subscription.ack([before.got[0], before.got[2]])
        await subscription.flush()

        await subscription.close()
        await own(second, after, 2)

        left = [n for n in range(12) if n not in (0, 2) and n < 5]
        had = before.bodies
        await after.wait(lambda got: len({d.packet.id for d in got}) >= 10)
        expected = [body for n, body in enumerate(bodies(12)) if n not in (0, 2)]
        assert had[:5] == bodies(5)
        assert after.bodies == expected
        flagged = [delivery.redelivered for delivery in after.got[: len(left)]]
        assert flagged == [True] * len(left)

    async def test_what_a_dead_owner_had_in_hand_comes_first_and_in_order(
        self, ground: Ground
    ) -> None:
        first, second = await ground.connect(), await ground.connect()
        before, after = Inbox(), Inbox()
        subscription = await own(first, before, 1, window=4)
        await first.publish(packets(10, QUEUE))
        await before.count(4)
        subscription.ack([before.got[1]])
        await subscription.flush()

        await ground.die(first)
        await own(second, after, 2)

        expected = [body for n, body in enumerate(bodies(10)) if n != 1]
        await after.count(9)
        assert after.bodies == expected

    async def test_a_successor_that_comes_before_the_death_is_known_gets_nothing_early(
        self, ground: Ground
    ) -> None:
        first, second = await ground.connect(), await ground.connect()
        before, after = Inbox(), Inbox()
        await own(first, before, 1, window=4)
        await first.publish(packets(10, QUEUE))
        await before.count(4)

        await own(second, after, 2)
        await asyncio.sleep(QUIET_S)
        early = after.bodies
        await ground.die(first)

        await after.count(10)
        assert early in ([], bodies(10))  # it waits, or has taken over all there was
        assert after.bodies == bodies(10)
