"""The picture of a burst says what happened, and marks when."""

from __future__ import annotations

from benchmarks.own.burst import Sample
from benchmarks.own.burst_picture import Moments, draw, moments


def sample(at_s: float, instances: int, ready: int, waiting: int, in_hand: int = 0) -> Sample:
    return Sample(
        at_s=at_s, instances=instances, ready=ready, waiting=waiting, in_hand=in_hand,
        oldest_s=0, rate=0,
    )  # fmt: skip


SEEN = [
    sample(0, 1, 1, 0),
    sample(1, 1, 1, 900, 10),
    sample(2, 4, 1, 900, 10),
    sample(4, 4, 4, 500, 40),
    sample(8, 4, 4, 0, 5),
    sample(10, 4, 4, 0),
    sample(13, 1, 3, 0),
    sample(15, 1, 1, 0),
    sample(16, 1, 1, 0),
]


def test_moments_are_when_it_was_ready_with_nothing_left_and_ended() -> None:
    # Not when instances were wanted, when only none waited, or when they were told to end.
    assert moments(SEEN) == Moments(least=1, most=4, up_s=4, empty_s=10, down_s=15)


def test_the_title_is_what_happened_and_each_moment_is_marked() -> None:
    drawn = draw(1000, SEEN, 0)

    assert (
        "1,000 messages at once: 1 → 4 instances in 4 s, empty after 10 s, "
        "back to 1 after 5 s more, no flap" in drawn
    )
    assert "seconds since the burst" in drawn
    assert [f">{name}<" in drawn for name in ("4 ready", "empty", "back to 1")] == [True] * 3
    assert drawn.count("stroke-dasharray") == 3
    assert "2 flaps<" in draw(1000, SEEN, 2)
