"""Which delivery runs next: turns, kept places, suspects alone."""

from __future__ import annotations

from rolekit.flow.lanes import Lanes
from rolekit.model.envelope import Packet
from rolekit.transport.base import Delivery


def delivery(queue: str, tag: int = 0, *, is_suspect: bool = False) -> Delivery:
    packet = Packet(queue=queue, id=f"{queue}{tag}", head=b"", body=b"")
    return Delivery(packet, tag, is_suspect=is_suspect)


def lanes_of(queues: str, limit: int, waiting: str) -> Lanes:
    """Make lanes, with one delivery waiting for each letter of `waiting`."""
    lanes = Lanes(queues, limit)
    for tag, queue in enumerate(waiting):
        lanes.add(delivery(queue, tag))
    return lanes


def begun(lanes: Lanes) -> list[Delivery]:
    """Begin whatever may begin."""
    found: list[Delivery] = []
    while (one := lanes.next()) is not None:
        found.append(one)
    return found


def queues_of(deliveries: list[Delivery]) -> str:
    return "".join(one.packet.queue for one in deliveries)


def test_queues_take_turns() -> None:
    lanes = lanes_of("ab", 4, "aaabb")

    assert queues_of(begun(lanes)) == "abab"


def test_a_backlog_leaves_one_place_to_each_other_queue() -> None:
    lanes = lanes_of("abc", 6, "a" * 10)

    assert queues_of(begun(lanes)) == "aaaa"
    assert not lanes.may_begin


def test_what_comes_of_another_queue_begins_beside_a_backlog_one_at_a_time() -> None:
    lanes = lanes_of("ab", 4, "a" * 10)
    begun(lanes)
    lanes.add(delivery("b", 1))
    lanes.add(delivery("b", 2))

    first = begun(lanes)
    lanes.done(first[0])
    second = begun(lanes)

    assert [one.tag for one in (*first, *second)] == [1, 2]


def test_the_place_of_a_queue_stays_kept_when_its_delivery_is_done() -> None:
    lanes = lanes_of("ba", 4, "baaaaaa")
    first = begun(lanes)

    lanes.done(first[0])

    assert queues_of(first) == "baaa"
    assert not lanes.may_begin


def test_a_place_that_a_backlog_gives_up_is_taken_by_it_again() -> None:
    lanes = lanes_of("ab", 4, "aaaaaa")
    first = begun(lanes)

    lanes.done(first[0])

    assert queues_of(begun(lanes)) == "a"


def test_no_more_run_than_the_limit_says() -> None:
    lanes = lanes_of("abc", 6, "abc" * 10)

    assert queues_of(begun(lanes)) == "abcabc"
    assert not lanes.may_begin


def test_with_fewer_than_two_places_a_queue_none_is_kept() -> None:
    lanes = lanes_of("ab", 3, "aaaa")

    assert queues_of(begun(lanes)) == "aaa"


def test_the_only_queue_has_every_place() -> None:
    lanes = lanes_of("a", 4, "aaaaa")

    assert queues_of(begun(lanes)) == "aaaa"


def test_a_suspect_runs_alone_and_others_go_on_after_it() -> None:
    lanes = lanes_of("ab", 4, "a")
    first = begun(lanes)
    suspect = delivery("b", is_suspect=True)
    lanes.add(suspect)
    lanes.add(delivery("a", 1))

    assert begun(lanes) == []
    lanes.done(first[0])
    assert begun(lanes) == [suspect]
    lanes.done(suspect)
    assert queues_of(begun(lanes)) == "a"


def test_after_a_suspect_places_are_kept_as_before() -> None:
    lanes = lanes_of("ab", 4, "")
    suspect = delivery("a", is_suspect=True)
    lanes.add(suspect)
    begun(lanes)
    lanes.done(suspect)

    for tag in range(10):
        lanes.add(delivery("a", tag))

    assert queues_of(begun(lanes)) == "aaa"


def test_surplus_is_what_came_last_and_leaves_kept_places_alone() -> None:
    lanes = lanes_of("ab", 4, "aaaaaa")
    begun(lanes)

    taken = lanes.surplus("a", 1)

    assert [one.tag for one in taken] == [5, 4]
    assert lanes.waiting == 1
    lanes.add(delivery("b", 9))
    assert queues_of(begun(lanes)) == "b"


def test_nothing_begins_once_they_are_closed() -> None:
    lanes = lanes_of("ab", 4, "ab")

    lanes.close()

    assert begun(lanes) == []
