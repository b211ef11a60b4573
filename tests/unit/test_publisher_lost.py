"""Publishing when the line is slow, blocked or lost."""

from __future__ import annotations

import asyncio

import pytest

from rolekit.errors import Unavailable
from rolekit.transport.rabbitmq import publisher as publishing
from tests.unit.fakes_rabbitmq import Bench, ids, outcome, packets, turns
from tests.unit.test_publisher import scenario

CONFIRM_S = publishing.CONFIRM_S


@scenario
async def test_no_confirm_in_time_means_unknown_and_a_new_channel(b: Bench) -> None:
    began_s = asyncio.get_running_loop().time()
    call = await b.publish(*packets(1))

    end = await b.outcome(call)
    took_s = asyncio.get_running_loop().time() - began_s
    await turns()

    assert end == "PublishUnknown"
    assert CONFIRM_S <= took_s <= CONFIRM_S + 3
    assert (len(b.broker.channels), b.broker.channels[0].is_closed) == (2, True)


@scenario
async def test_a_long_list_has_as_long_again_for_each_piece(b: Bench) -> None:
    call = await b.publish(*packets(publishing.WINDOW + 1))

    await asyncio.sleep(CONFIRM_S - 2)
    b.broker.now.ack(publishing.PIECE, multiple=True)
    await asyncio.sleep(CONFIRM_S - 2)
    b.broker.now.ack(publishing.WINDOW + 1, multiple=True)

    assert await b.outcome(call) == "stored"


@scenario
async def test_a_long_list_has_as_long_again_for_what_is_not_yet_sent(b: Bench) -> None:
    call = await b.publish(*packets(publishing.WINDOW + 1))
    b.broker.can_write = False

    await asyncio.sleep(CONFIRM_S - 2)
    b.broker.now.ack(publishing.WINDOW, multiple=True)
    await asyncio.sleep(CONFIRM_S - 2)
    b.broker.can_write = True
    b.broker.resume()
    b.broker.now.ack(publishing.WINDOW + 1)

    assert await b.outcome(call) == "stored"


@scenario
async def test_what_could_not_be_sent_in_time_was_not_sent(b: Bench) -> None:
    b.broker.is_away = True
    b.broker.now.lose("gone")
    await turns()
    call = await b.publish(*packets(1))

    with pytest.raises(Unavailable, match="cannot be reached; nothing was sent"):
        await call


@scenario
async def test_a_list_that_is_sent_in_part_in_time_is_unknown(b: Bench) -> None:
    call = await b.publish(*packets(publishing.WINDOW + publishing.PIECE))
    b.broker.can_write = False
    b.broker.now.ack(publishing.WINDOW, multiple=True)

    assert await b.outcome(call) == "PublishUnknown"
    assert len(b.broker.channels) == 1


@scenario
async def test_a_lost_channel_makes_unknown_what_was_in_flight_and_nothing_else(
    b: Bench,
) -> None:
    many = publishing.WINDOW
    flying = await b.publish(*packets(many))
    waiting = await b.publish(*packets(2, first=many + 1))

    b.broker.now.lose("gone")
    end = await b.outcome(flying)
    await turns()
    b.broker.now.ack(2, multiple=True)

    assert end == "PublishUnknown"
    assert await b.outcome(waiting) == "stored"
    assert ids(b.broker.now.written) == [many + 1, many + 2]
    assert b.publisher.unknown == many


@scenario
async def test_what_is_published_when_the_channel_is_just_lost_goes_out_on_the_next(
    b: Bench,
) -> None:
    call = asyncio.create_task(b.publisher.publish(packets(1)))
    b.calls.append(call)
    await asyncio.sleep(0)  # it waits for its turn

    b.broker.now.lose("gone")
    await turns()
    b.broker.now.ack(1)

    assert await b.outcome(call) == "stored"
    assert len(b.broker.channels) == 2


@scenario
async def test_a_list_goes_on_where_it_was_confirmed_when_the_channel_is_lost(
    b: Bench,
) -> None:
    call = await b.publish(*packets(publishing.WINDOW + 1))
    b.broker.can_write = False
    b.broker.now.ack(publishing.WINDOW, multiple=True)
    await turns()

    b.broker.can_write = True
    b.broker.now.lose("gone")
    await turns()
    b.broker.now.ack(1)

    assert await b.outcome(call) == "stored"
    assert ids(b.broker.now.written) == [publishing.WINDOW + 1]


@scenario
async def test_numbers_begin_anew_with_a_channel(b: Bench) -> None:
    lost = await b.publish(*packets(3))
    b.broker.now.send_back(3)
    b.broker.now.nack(3)
    b.broker.now.ack(2)
    b.broker.now.lose("gone")
    await b.outcome(lost)
    await turns()

    calls = [await b.publish(*packets(1)) for _ in range(3)]
    b.broker.now.ack(1)
    await turns()
    first = [outcome(call) for call in calls]
    b.broker.now.send_back(2)
    b.broker.now.ack(3, multiple=True)

    assert first == ["stored", "open", "open"]
    assert [await b.outcome(call) for call in calls[1:]] == ["Unroutable", "stored"]


@scenario
async def test_what_a_lost_channel_still_says_is_ignored(b: Bench) -> None:
    lost = await b.publish(*packets(1))
    old = b.broker.now
    old.lose("gone")
    await b.outcome(lost)
    await turns()
    call = await b.publish(*packets(1))

    old.ack(1)
    await turns()
    between = outcome(call)
    b.broker.now.ack(1)

    assert between == "open"
    assert await b.outcome(call) == "stored"


# -- blocked and paused ---------------------------------------------------------------------


@scenario
async def test_a_blocked_broker_is_written_nothing_until_it_takes_messages_again(
    b: Bench,
) -> None:
    b.broker.block(is_blocked=True)
    call = await b.publish(*packets(1))
    before = len(b.broker.now.written)

    await asyncio.sleep(CONFIRM_S / 2)
    b.broker.block(is_blocked=False)
    b.broker.now.ack(1)

    assert before == 0
    assert await b.outcome(call) == "stored"


@scenario
async def test_a_broker_that_stays_blocked_is_named_as_the_reason(b: Bench) -> None:
    b.broker.block(is_blocked=True)
    call = await b.publish(*packets(1))

    with pytest.raises(Unavailable, match="short of memory or disk"):
        await call
    assert b.broker.now.written == []
    assert len(b.broker.channels) == 1


@scenario
async def test_what_flies_when_the_broker_blocks_is_unknown_on_the_same_channel(
    b: Bench,
) -> None:
    call = await b.publish(*packets(1))
    b.broker.block(is_blocked=True)

    end = await b.outcome(call)
    await turns()
    b.broker.block(is_blocked=False)
    later = await b.publish(*packets(1))
    b.broker.now.ack(2, multiple=True)

    assert end == "PublishUnknown"
    assert await b.outcome(later) == "stored"
    assert len(b.broker.channels) == 1


@scenario
async def test_what_waited_long_has_its_time_for_a_confirm_all_the_same(b: Bench) -> None:
    b.broker.block(is_blocked=True)
    call = await b.publish(*packets(1))
    await asyncio.sleep(CONFIRM_S - 1.5)
    b.broker.block(is_blocked=False)

    await asyncio.sleep(CONFIRM_S / 2)
    b.broker.now.ack(1)

    assert await b.outcome(call) == "stored"
    assert len(b.broker.channels) == 1


@scenario
async def test_a_full_socket_is_written_nothing_until_it_takes_more(b: Bench) -> None:
    b.broker.can_write = False
    call = await b.publish(*packets(1))
    before = len(b.broker.now.written)

    b.broker.can_write = True
    b.broker.resume()
    b.broker.now.ack(1)

    assert before == 0
    assert await b.outcome(call) == "stored"


# -- starting and stopping ------------------------------------------------------------------


@scenario
async def test_stopping_leaves_unknown_what_flies_and_unsent_what_waits(b: Bench) -> None:
    flying = await b.publish(*packets(publishing.WINDOW))
    waiting = await b.publish(*packets(1))

    await b.publisher.stop()

    assert await b.outcome(flying) == "PublishUnknown"
    assert await b.outcome(waiting) == "Unavailable"
    assert b.broker.now.is_closed
    assert not b.broker.now.lost.cancelled()


@scenario
async def test_a_packet_without_a_birth_is_born_when_it_is_written(b: Bench) -> None:
    b.broker.can_write = False
    one, two = packets(2)
    one.birth_ms = 5
    call = await b.publish(one, two)
    await asyncio.sleep(3)

    b.broker.can_write = True
    b.broker.resume()
    b.broker.now.ack(2, multiple=True)
    await b.outcome(call)

    assert (one.birth_ms, two.birth_ms) == (5, 1_800_000_003_000)
