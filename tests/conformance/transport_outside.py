"""What every transport must do with packets for other apps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from rolekit.transport.base import Depth, outside_queue
from tests.conformance.transport import Inbox, bodies, consume, packets, settled

if TYPE_CHECKING:
    from rolekit.transport.base import Transport


class TwoApps(Protocol):
    """Where two apps are tried."""

    async def connect(self) -> Transport:
        """Open one more connection of the app that sends."""
        ...

    async def other(self) -> tuple[Transport, str, str]:
        """Open a connection of another app; return its name, and how it calls its way in."""
        ...


class HandingOver:
    """They arrive at the other app's way in: each once, in order, whoever hands them over."""

    async def test_what_is_for_another_app_arrives_there_in_order(
        self, two_apps: TwoApps
    ) -> None:
        theirs, name, way_in = await two_apps.other()
        ours, came = await two_apps.connect(), Inbox()
        subscription = await consume(theirs, came, way_in)
        await ours.declare([outside_queue(name)])

        await ours.publish(packets(20, outside_queue(name)))
        await ours.hand_over()

        got = await came.count(20)
        assert came.bodies == bodies(20)
        assert [one.packet.id for one in got] == [one.id for one in packets(20)]
        subscription.ack(got)
        await settled(theirs, Depth(), way_in)

    async def test_who_hands_over_beside_another_hands_over_nothing_twice(
        self, two_apps: TwoApps
    ) -> None:
        theirs, name, way_in = await two_apps.other()
        relays = [await two_apps.connect() for _ in range(3)]
        await theirs.declare([way_in])
        for relay in relays:
            await relay.declare([outside_queue(name)])
        await relays[0].publish(packets(1200, outside_queue(name)))

        await asyncio.gather(*(relay.hand_over() for relay in relays))
        await relays[1].hand_over()

        await settled(theirs, Depth(waiting=1200), way_in)
        assert (await theirs.depths([way_in]))[way_in].waiting == 1200
