"""Publishing against a fake broker: each call ends once, as the broker decided."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import CodecError, ConfigError, Unavailable, Unroutable
from rolekit.transport.rabbitmq import publisher as publishing
from rolekit.transport.rabbitmq.demux import FrameError
from tests.property.jumping import run
from tests.unit.fakes_rabbitmq import Bench, bench, ids, outcome, packets, turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def scenario(steps: Callable[[Bench], Awaitable[None]]) -> Callable[[], None]:
    """Run a test on a loop whose time jumps, before a bench of its own."""

    @functools.wraps(steps)
    def test() -> None:
        async def main() -> None:
            async with bench() as made:
                await steps(made)

        run(main())

    del test.__wrapped__  # pytest would ask for a fixture
    return test


# -- confirms -------------------------------------------------------------------------------


@scenario
async def test_a_publish_ends_when_its_last_message_is_confirmed(b: Bench) -> None:
    call = await b.publish(*packets(3))

    b.broker.now.ack(1)
    b.broker.now.ack(2)
    await turns()
    before = outcome(call)
    b.broker.now.ack(3)

    assert before == "open"
    assert await b.outcome(call) == "stored"
    assert ids(b.broker.now.written) == [1, 2, 3]
    assert b.broker.now.writes == 1


@scenario
async def test_one_confirm_can_end_several_publishes(b: Bench) -> None:
    calls = [await b.publish(*packets(2)) for _ in range(3)]

    b.broker.now.ack(5, multiple=True)
    await turns()
    before = [outcome(call) for call in calls]
    b.broker.now.ack(6)

    assert before == ["stored", "stored", "open"]
    assert await b.outcome(calls[2]) == "stored"


@scenario
async def test_confirms_may_come_in_any_order(b: Bench) -> None:
    calls = [await b.publish(*packets(1)) for _ in range(5)]

    seen: list[list[str]] = []
    for tag, multiple in [(3, False), (5, False), (1, False), (2, True), (4, False)]:
        b.broker.now.ack(tag, multiple=multiple)
        await turns()
        seen.append([outcome(call) for call in calls])

    assert [row.count("stored") for row in seen] == [0, 0, 1, 3, 5]


@scenario
async def test_a_confirm_for_what_was_not_sent_ends_the_connection(b: Bench) -> None:
    await b.publish(*packets(1))

    for tag in (0, 2, 2**63):
        with pytest.raises(FrameError, match=f"confirmed message {tag}; 1 were sent"):
            b.broker.now.ack(tag)


@scenario
async def test_a_confirm_that_comes_again_changes_nothing(b: Bench) -> None:
    for tag in (1, 2):
        await b.publish(*packets(1))
        b.broker.now.ack(tag)

    b.broker.now.ack(1, multiple=True)
    call = await b.publish(*packets(1))
    b.broker.now.ack(3)

    assert await b.outcome(call) == "stored"


# -- refusals and returns -------------------------------------------------------------------


@scenario
async def test_what_is_refused_fails_its_own_publish_alone(b: Bench) -> None:
    one, two, three = [await b.publish(*packets(2)) for _ in range(3)]

    b.broker.now.nack(3)
    b.broker.now.ack(2, multiple=True)
    b.broker.now.ack(6, multiple=True)

    assert await b.outcome(one) == await b.outcome(three) == "stored"
    with pytest.raises(Unavailable, match="refused 1 of 2"):
        await two


@scenario
async def test_a_refusal_of_several_leaves_out_what_was_confirmed(b: Bench) -> None:
    one, two, three = [await b.publish(*packets(1)) for _ in range(3)]

    b.broker.now.ack(2)
    b.broker.now.nack(3, multiple=True)

    assert await b.outcome(one) == await b.outcome(three) == "QueueFull"
    assert await b.outcome(two) == "stored"


@scenario
async def test_a_refusal_in_any_piece_of_a_long_list_fails_it(b: Bench) -> None:
    call = await b.publish(*packets(2 * publishing.PIECE))
    other = await b.publish(*packets(1))

    b.broker.now.nack(1)
    b.broker.now.ack(publishing.PIECE, multiple=True)
    b.broker.now.nack(2 * publishing.PIECE + 1)
    b.broker.now.ack(2 * publishing.PIECE, multiple=True)

    assert await b.outcome(call) == await b.outcome(other) == "QueueFull"


@scenario
async def test_what_has_no_queue_is_named(b: Bench) -> None:
    call = await b.publish(*packets(2), *packets(1, first=7, queue="gone"))
    other = await b.publish(*packets(1))

    b.broker.now.send_back(3)
    b.broker.now.ack(4, multiple=True)

    with pytest.raises(Unroutable, match="no queue gone on the broker; 1 of 3 "):
        await call
    assert await b.outcome(other) == "stored"
    assert b.publisher.returned == 1


@scenario
async def test_two_publishes_with_the_same_id_are_both_told_that_it_came_back(
    b: Bench,
) -> None:
    one, two = [await b.publish(*packets(1)) for _ in range(2)]

    b.broker.now.send_back(1)
    b.broker.now.send_back(2)
    b.broker.now.ack(2, multiple=True)

    assert await b.outcome(one) == await b.outcome(two) == "Unroutable"


@scenario
async def test_what_was_stored_is_not_taken_for_what_came_back(b: Bench) -> None:
    one, two = [await b.publish(*packets(1)) for _ in range(2)]

    b.broker.now.ack(1)  # the queue was there, and then was deleted
    b.broker.now.send_back(2)
    b.broker.now.ack(2)

    assert await b.outcome(one) == "stored"
    assert await b.outcome(two) == "Unroutable"


@scenario
async def test_what_was_confirmed_out_of_turn_is_not_taken_for_what_came_back(
    b: Bench,
) -> None:
    _, one, two = [await b.publish(*packets(1, first=n)) for n in (1, 2, 2)]

    b.broker.now.ack(2)
    b.broker.now.send_back(3)
    b.broker.now.ack(3, multiple=True)

    assert await b.outcome(one) == "stored"
    assert await b.outcome(two) == "Unroutable"


# -- window and turns -----------------------------------------------------------------------


@scenario
async def test_no_more_is_in_flight_than_the_window_has_room_for(b: Bench) -> None:
    call = await b.publish(*packets(publishing.WINDOW + 300))

    first = len(b.broker.now.written)
    b.broker.now.ack(publishing.PIECE, multiple=True)
    await turns()
    then = len(b.broker.now.written)
    b.broker.now.ack(then, multiple=True)
    await turns()
    b.broker.now.ack(publishing.WINDOW + 300, multiple=True)

    assert (first, then) == (publishing.WINDOW, publishing.WINDOW + publishing.PIECE)
    assert await b.outcome(call) == "stored"
    assert ids(b.broker.now.written) == list(range(1, publishing.WINDOW + 301))


@scenario
async def test_no_more_bytes_are_in_flight_than_the_window_has(b: Bench) -> None:
    call = await b.publish(*packets(24, size=1 << 20))

    first = len(b.broker.now.written)
    for tag in range(1, 25):
        b.broker.now.ack(tag)
        await turns()

    assert first == publishing.WINDOW_BYTES >> 20
    assert await b.outcome(call) == "stored"


@scenario
async def test_a_long_list_does_not_keep_a_short_one_waiting(b: Bench) -> None:
    long = asyncio.create_task(b.publisher.publish(packets(10 * publishing.WINDOW)))
    short = asyncio.create_task(b.publisher.publish(packets(1, first=10**6)))
    b.calls += [long, short]
    await turns()

    position = ids(b.broker.now.written).index(10**6)
    b.broker.now.ack(position + 1, multiple=True)

    assert position == publishing.PIECE
    assert await b.outcome(short) == "stored"
    assert outcome(long) == "open"


@scenario
async def test_of_many_at_once_the_first_do_not_wait_for_the_last(b: Bench) -> None:
    count = publishing.EAGER * 5 // 2
    written: list[int] = []
    b.publisher.before_write = lambda: written.append(b.broker.now.writes)

    calls = [
        asyncio.create_task(b.publisher.publish(packets(1, first=number)))
        for number in range(1, count + 1)
    ]
    b.calls += calls
    await turns()
    b.broker.now.ack(count, multiple=True)

    assert b.broker.now.writes == 3
    assert written == [0, 1, 2]
    assert ids(b.broker.now.written) == list(range(1, count + 1))
    assert {await b.outcome(call) for call in calls} == {"stored"}


@scenario
async def test_nothing_is_a_publish_that_ends_at_once(b: Bench) -> None:
    await b.publisher.publish([])

    assert b.broker.now.written == []


# -- what cannot be written -----------------------------------------------------------------


@scenario
async def test_a_packet_that_cannot_be_written_fails_its_own_publish_alone(b: Bench) -> None:
    def name_of(queue: str) -> str:
        if queue == "?":
            raise ConfigError("Queue '?' cannot be made.")
        return queue

    vars(b.publisher)["_name_of"] = name_of
    bad, worse = packets(1), packets(1)
    bad[0].queue, worse[0].generation = "?", 2**32

    publish = b.publisher.publish
    lists = [packets(1), packets(1) + bad, worse, packets(1, first=9)]
    calls = [asyncio.create_task(publish(each)) for each in lists]
    await turns()
    b.broker.now.ack(2, multiple=True)
    results = await asyncio.gather(*calls, return_exceptions=True)

    assert ids(b.broker.now.written) == [1, 9]
    assert list(map(type, results)) == [
        type(None), ConfigError, CodecError, type(None),
    ]  # fmt: skip


# -- callers that go away -------------------------------------------------------------------


@scenario
async def test_what_its_caller_gave_up_before_its_turn_is_not_written(b: Bench) -> None:
    b.broker.can_write = False
    given_up, kept = [await b.publish(*packets(1, first=n)) for n in (1, 2)]

    given_up.cancel()
    b.broker.can_write = True
    b.broker.resume()
    b.broker.now.ack(1)

    assert await b.outcome(kept) == "stored"
    assert ids(b.broker.now.written) == [2]


@scenario
async def test_what_its_caller_gave_up_in_flight_disturbs_no_other(b: Bench) -> None:
    many = publishing.PIECE + 1
    b.broker.can_write = False
    given_up, kept = await b.publish(*packets(many)), await b.publish(*packets(1, first=many))
    b.broker.can_write = True
    b.broker.resume()

    given_up.cancel()
    await turns()
    b.broker.now.nack(2)
    b.broker.now.send_back(3)
    b.broker.now.ack(len(b.broker.now.written), multiple=True)

    assert await b.outcome(given_up) == "cancelled"
    assert await b.outcome(kept) == "stored"
    later = await b.publish(*packets(1))
    b.broker.now.ack(len(b.broker.now.written))
    assert await b.outcome(later) == "stored"
