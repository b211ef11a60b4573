"""A load as a real fleet met it, played to a simulated one: it moves as the real one did.

The record is from `python -m benchmarks.own.burst --messages 12000 --record FILE`.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from benchmarks.own.burst import Record
from benchmarks.own.burst_app import WAIT_S, Deliverer
from rolekit.model.policy import Scale
from tests.property.scaled_role import Simulated, Work

if TYPE_CHECKING:
    from collections.abc import Callable

FILE = Path(__file__).parent / "recorded" / "burst.json"
AFTER_S = 120.0
"""Long enough to calm down."""


@pytest.fixture(scope="module")
def record() -> Record:
    return msgspec.json.decode(FILE.read_bytes(), type=Record)


def arriving(record: Record) -> Callable[[float], float]:
    """Return how many arrived a second at each time: by as much as more were there.

    What was done in the meantime is missing, which in a burst is little.
    """
    samples = record.samples
    rates: list[tuple[float, float]] = []
    for before, after in pairwise(samples):
        passed_s = after.at_s - before.at_s
        more = after.waiting + after.in_hand - before.waiting - before.in_hand
        rates.append((before.at_s, max(more, 0) / passed_s))
    rates.insert(0, (0, 0))
    times = [at_s for at_s, _ in rates]

    def at(at_s: float) -> float:
        return rates[bisect_right(times, at_s) - 1][1] if at_s < samples[-1].at_s else 0

    return at


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("is_told", [True, False])
def test_a_recorded_burst_moves_a_role_as_it_did(
    record: Record, seed: int, *, is_told: bool
) -> None:
    assert Deliverer.scale is not None
    scale = Scale(min=1, max=16, target_age_s=Deliverer.scale.target_age_s)
    work = Work(takes_s=WAIT_S, places=Deliverer.concurrency)
    role = Simulated(scale, work, arriving(record), seed=seed, is_told=is_told)

    story = role.run(record.samples[-1].at_s + AFTER_S)

    counts = [count for _, count in story.counts]
    moved = [counts[0], *(after for before, after in pairwise(counts) if before != after)]
    assert story.handled == pytest.approx(record.messages, rel=0.1)
    assert (moved[0], max(moved), moved[-1]) == (1, max(record.counts), 1)
    assert story.turns() == 1 + record.flaps() == 1
    assert story.left == 0
