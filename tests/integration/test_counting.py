"""Counting what stands in queues, on one channel that is kept, with a real broker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import Unavailable
from rolekit.model.envelope import Packet
from rolekit.transport.rabbitmq import RabbitTransport
from rolekit.transport.rabbitmq.counting import NOTHING, Counting, Counts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.transport.rabbitmq.session import Channel, Session

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(90)]

ONE = Counts(messages=1)


class Opens:
    """A session that counts the channels it opens."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.opened: list[Channel] = []

    async def channel(self) -> Channel:
        self.opened.append(await self._session.channel())
        return self.opened[-1]


@pytest.fixture
async def transport(broker_url: str) -> AsyncGenerator[RabbitTransport]:
    """Queues `none` and `one`, by what stands in them."""
    made = RabbitTransport(broker_url, app="c")
    try:
        await made.start()
        await made.declare(["none", "one"])
        await made.publish([Packet(queue="one", id="1" * 32, head=b"", body=b"")])
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def session(transport: RabbitTransport) -> Opens:
    return Opens(await transport.consuming())


async def test_what_is_asked_again_and_again_is_asked_on_one_channel(session: Opens) -> None:
    counting = Counting()

    for _ in range(3):
        assert await counting.count(session, ["c.none", "c.one"]) == {  # type: ignore[arg-type]
            "c.none": NOTHING,
            "c.one": ONE,
        }

    assert len(session.opened) == 1


async def test_a_queue_that_is_gone_takes_no_other_question_with_it(session: Opens) -> None:
    counting = Counting()

    answers = await asyncio.gather(
        *(counting.count(session, names) for names in (["c.gone", "c.one"], ["c.one"]) * 5)  # type: ignore[arg-type]
    )

    assert answers == [{"c.one": ONE}] * 10
    assert [one.lost.done() for one in session.opened].count(False) == 1


async def test_a_connection_that_was_lost_makes_no_question_fail(
    transport: RabbitTransport,
) -> None:
    assert (await transport.depths(["one"]))["one"].waiting == 1
    lost = await transport.consuming()
    lost.abort()
    await lost.lost

    assert (await transport.depths(["one"]))["one"].waiting == 1


async def test_who_asks_on_a_session_that_was_closed_is_told_that_the_broker_is_away(
    transport: RabbitTransport,
) -> None:
    session = await transport.consuming()
    await session.close()

    with pytest.raises(ConnectionError, match="closed"):
        await Counting().count(session, ["c.one"])


async def test_many_who_ask_when_the_connection_is_lost_have_an_answer_or_an_error_of_ours(
    transport: RabbitTransport,
) -> None:
    session = await transport.consuming()
    asking = [asyncio.create_task(transport.depths(["one", "none"])) for _ in range(20)]
    await asyncio.sleep(0.002)
    session.abort()

    for answer in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(answer, dict | Unavailable)
