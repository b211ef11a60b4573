"""Which delivery runs next: queues take turns, and a suspect runs alone."""

from __future__ import annotations

import random

import pytest

from rolekit.flow.lanes import Lanes
from rolekit.model.envelope import Packet
from rolekit.transport.base import Delivery


def delivery(queue: str, number: int = 0, *, is_suspect: bool = False) -> Delivery:
    packet = Packet(queue=queue, id=f"{queue}{number}", head=b"")
    return Delivery(packet, number, is_suspect=is_suspect)


def begun(lanes: Lanes) -> list[str]:
    """Begin as much as may begin."""
    found: list[str] = []
    while (one := lanes.next()) is not None:
        found.append(one.packet.id)
    return found


def test_no_more_run_at_once_than_the_limit_says() -> None:
    lanes = Lanes(["a"], 2)
    held = [delivery("a", n) for n in range(4)]
    for one in held:
        lanes.add(one)

    first = begun(lanes)
    lanes.done(held[0])
    second = begun(lanes)

    assert (first, second, lanes.waiting) == (["a0", "a1"], ["a2"], 1)


def test_a_full_queue_does_not_keep_the_others_waiting() -> None:
    lanes = Lanes(["a", "b", "c"], 100)
    for n in range(5):
        lanes.add(delivery("a", n))
    lanes.add(delivery("b"))
    lanes.add(delivery("c"))

    assert begun(lanes) == ["a0", "b0", "c0", "a1", "a2", "a3", "a4"]


def test_a_suspect_begins_when_nothing_else_runs_and_nothing_begins_beside_it() -> None:
    lanes = Lanes(["a"], 10)
    busy, suspect, later = delivery("a", 1), delivery("a", 2, is_suspect=True), delivery("a", 3)
    lanes.add(busy)
    assert begun(lanes) == ["a1"]

    lanes.add(suspect)
    lanes.add(later)
    beside = begun(lanes)
    lanes.done(busy)
    alone = begun(lanes)
    lanes.done(suspect)
    after = begun(lanes)

    assert (beside, alone, after) == ([], ["a2"], ["a3"])


def test_suspects_run_one_after_the_other_then_the_rest() -> None:
    lanes = Lanes(["a"], 10)
    suspects = [delivery("a", n, is_suspect=True) for n in range(3)]
    lanes.add(delivery("a", 9))
    for one in suspects:
        lanes.add(one)

    order: list[str] = []
    for one in suspects:
        order += begun(lanes)
        lanes.done(one)
    order += begun(lanes)

    assert order == ["a0", "a1", "a2", "a9"]


def test_once_closed_nothing_begins_and_what_waits_is_still_counted() -> None:
    lanes = Lanes(["a"], 10)
    lanes.add(delivery("a"))

    lanes.close()

    assert (begun(lanes), lanes.waiting) == ([], 1)


@pytest.mark.parametrize("seed", range(200))
def test_every_delivery_runs_once_in_the_order_of_its_queue_and_suspects_alone(
    seed: int,
) -> None:
    draw = random.Random(seed)  # noqa: S311 - what is drawn is no secret
    limit, queues = draw.randint(1, 4), ["a", "b", "c"]
    lanes = Lanes(queues, limit)
    coming = [
        delivery(draw.choice(queues), n, is_suspect=draw.random() < 0.2) for n in range(30)
    ]
    left, running, order = list(coming), list[Delivery](), list[Delivery]()
    held = 0

    while left or running or lanes.waiting:
        if left and draw.random() < 0.5:
            lanes.add(left.pop(0))
        elif running and draw.random() < 0.5:
            lanes.done(running.pop(draw.randrange(len(running))))
        if (one := lanes.next()) is not None:
            running.append(one)
            order.append(one)
        elif lanes.waiting and not running:
            held += 1
        assert len(running) <= limit
        assert len(running) <= 1 or not any(each.is_suspect for each in running)

    assert held == 0  # it never waits for nothing
    assert sorted(each.tag for each in order) == list(range(30))
    for queue in queues:
        fresh = [e.tag for e in order if e.packet.queue == queue and not e.is_suspect]
        assert fresh == sorted(fresh)
    suspects = [each.tag for each in order if each.is_suspect]
    assert suspects == sorted(suspects)


def test_a_suspect_does_not_wait_for_ever_where_work_never_ends() -> None:
    lanes = Lanes(["a"], 2)
    running = [delivery("a", n) for n in (1, 2)]
    for one in running:
        lanes.add(one)
    begun(lanes)
    lanes.add(delivery("a", 0, is_suspect=True))

    started: list[str] = []
    for n in range(3, 6):  # more comes than ends
        lanes.add(delivery("a", n))
        lanes.add(delivery("a", n + 10))
        if running:
            lanes.done(running.pop())
        started = begun(lanes)
        if started:
            break

    assert started == ["a0"]
