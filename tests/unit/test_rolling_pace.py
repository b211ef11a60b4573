"""A rolling restart starts and ends instances one after another, and not at one instant."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekit.supervisor.rolling import (
    AT_MOST_S,
    BUSY_AT_MOST_S,
    Gap,
    NotReady,
    Pace,
    replace,
)
from rolekit.supervisor.wire import RoleSummary
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rolekit.supervisor.fleet import Fleet
    from rolekit.supervisor.slot import Slot
    from rolekit.supervisor.version import Version

pytestmark = pytest.mark.anyio

APART_S = 0.02


@dataclass(eq=False)
class Place:
    """A slot, as far as a restart looks at it."""

    role: RoleSummary
    name: str = ""
    state: str = "ready"
    refused: str = ""
    restarts: int = 0


@dataclass
class Noting:
    """A fleet that only notes when it was told what, seconds.

    Attributes:
        starts_s: So long its instances take until they are ready.
        places: That it has, and nobody gave up.
    """

    refused: str = ""
    starts_s: float = 0
    places: list[Place] = field(default_factory=list["Place"])
    started: list[float] = field(default_factory=list[float])
    handed: list[tuple[float, Place, Place]] = field(
        default_factory=list[tuple[float, Place, Place]]
    )
    new: list[Place] = field(default_factory=list["Place"])
    given_up: list[Place] = field(default_factory=list[Place])

    def slots(self, _role: str) -> list[Place]:
        return self.places

    def succeed(self, old: Place, _version: object, _ready_s: float) -> Place:
        loop = asyncio.get_running_loop()
        self.started.append(loop.time())
        new = Place(old.role, f"{old.name} again", "starting", refused=self.refused)
        loop.call_later(self.starts_s, setattr, new, "state", "ready")
        self.new.append(new)
        return new

    def hand_over(self, old: Place, new: Place) -> bool:
        self.handed.append((asyncio.get_running_loop().time(), old, new))
        return True

    def give_up(self, place: Place) -> None:
        self.given_up.append(place)

    async def gone(self, places: Iterable[Place]) -> None:
        """Come to the end of them."""


def places(count: int) -> list[Place]:
    role = RoleSummary(name="Clerk", instances=count)
    return [Place(role, f"Clerk/{number}") for number in range(count)]


async def replaced(fleet: Noting, old: list[Place], gap: Gap, ready_s: float = 60) -> None:
    fleet.places = fleet.places or old
    await replace(
        cast("Fleet", fleet),
        cast("list[Slot]", old),
        cast("Version", None),
        ready_s=ready_s,
        gap=gap,
    )


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


async def test_starts_and_ends_come_apart_and_each_place_gets_its_own() -> None:
    fleet, old = Noting(), places(4)

    await replaced(fleet, old, Gap(APART_S, APART_S))

    times = [at for at, _, _ in fleet.handed]
    assert min(gaps(fleet.started)) > APART_S / 2
    assert min(gaps(times)) > APART_S / 2
    assert max(fleet.started) < min(times)  # all are ready before the first old one ends
    assert [one for _, one, _ in fleet.handed] == old
    assert [new.name for _, _, new in fleet.handed] == [f"{one.name} again" for one in old]


async def test_nobody_hands_over_nor_starts_when_one_refuses_to_start() -> None:
    fleet = Noting(refused="no such setting")

    with pytest.raises(NotReady, match="no such setting"):
        await replaced(fleet, places(3), Gap(APART_S, APART_S))

    assert fleet.handed == []
    assert len(fleet.given_up) == len(fleet.started) == 1


async def test_where_the_cores_are_busy_the_next_waits_longer() -> None:
    fleet, old, takes_s = Noting(), places(3), 0.05
    loop = asyncio.get_running_loop()

    def compute() -> None:
        begun_s = time.monotonic()
        while time.monotonic() - begun_s < takes_s:
            pass

    async def busy() -> None:
        while True:
            await asyncio.sleep(takes_s / 2)
            loop.call_soon(compute)

    keeping = asyncio.create_task(busy())
    try:
        await asyncio.sleep(takes_s)
        await replaced(fleet, old, Gap(APART_S, 0.4))
    finally:
        keeping.cancel()

    ends = [at for at, _, _ in fleet.handed]
    assert min(gaps(fleet.started)) > 3 * APART_S
    assert min(gaps(ends)) > 3 * APART_S
    assert max(gaps(fleet.started)) < patient(0.4 + 4 * takes_s)


async def test_one_that_takes_for_ever_holds_nobody_up() -> None:
    fleet, old = Noting(starts_s=patient(1)), places(3)

    await replaced(fleet, old, Gap(0.001, 0.2))

    assert max(gaps(fleet.started)) < patient(0.5)
    assert len(fleet.handed) == 3


async def test_one_that_refuses_later_is_seen_before_all_have_started() -> None:
    fleet, old = Noting(starts_s=0.1), places(50)

    async def refuse() -> None:
        await asyncio.sleep(0.05)
        fleet.new[0].refused = "no such engine"

    refusing = asyncio.create_task(refuse())
    with pytest.raises(NotReady, match="no such engine"):
        await replaced(fleet, old, Gap(APART_S, APART_S))
    await refusing

    assert len(fleet.given_up) == len(fleet.started) < 50


async def test_nobody_succeeds_a_place_that_was_given_up() -> None:
    old = places(3)
    fleet = Noting(places=[old[0], old[2]])
    old[0].state = "gone"  # for a moment: something failed, and it is tended to again

    await replaced(fleet, old, Gap(APART_S, APART_S))

    assert [one for _, one, _ in fleet.handed] == [old[0], old[2]]


async def test_without_a_gap_all_start_at_once() -> None:
    fleet, old = Noting(starts_s=patient(0.5)), places(5)

    await replaced(fleet, old, Gap())

    assert max(gaps(fleet.started)) < patient(0.25)


@given(st.integers(0, 5000))
def test_waiting_takes_no_more_than_is_said_however_many_there_are(count: int) -> None:
    gap = Pace().gap(count)

    assert gap.least_s > 0
    assert 2 * count * gap.least_s <= AT_MOST_S * 1.001
    assert 2 * count * gap.most_s <= BUSY_AT_MOST_S * 1.001


def test_few_are_as_far_apart_as_the_pace_says() -> None:
    assert Pace(apart_s=0.1).gap(20).until(0) == 0.1
    assert Pace(domains=1, apart_s=0).gap(20).until(0.5) == 0


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 100))
def test_a_gap_stays_within_its_bounds(least_s: float, most_s: float, late_s: float) -> None:
    assert least_s <= Gap(least_s, most_s).until(late_s) <= max(least_s, most_s)
