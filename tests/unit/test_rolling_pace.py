"""A rolling restart starts and ends instances one after another, and not at one instant."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekit.supervisor.rolling import AT_MOST_S, NotReady, Pace, replace
from rolekit.supervisor.wire import RoleSummary

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
    """A fleet that only notes when it was told what, seconds."""

    refused: str = ""
    started: list[float] = field(default_factory=list[float])
    handed: list[tuple[float, Place, Place]] = field(
        default_factory=list[tuple[float, Place, Place]]
    )
    given_up: list[Place] = field(default_factory=list[Place])

    def succeed(self, old: Place, _version: object, _ready_s: float) -> Place:
        self.started.append(asyncio.get_running_loop().time())
        return Place(old.role, f"{old.name} again", refused=self.refused)

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


async def replaced(fleet: Noting, old: list[Place], apart_s: float) -> None:
    await replace(
        cast("Fleet", fleet),
        cast("list[Slot]", old),
        cast("Version", None),
        ready_s=60,
        apart_s=apart_s,
    )


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


async def test_starts_and_ends_come_apart_and_each_place_gets_its_own() -> None:
    fleet, old = Noting(), places(4)

    await replaced(fleet, old, APART_S)

    times = [at for at, _, _ in fleet.handed]
    assert min(gaps(fleet.started)) > APART_S / 2
    assert min(gaps(times)) > APART_S / 2
    assert max(fleet.started) < min(times)  # all are ready before the first old one ends
    assert [one for _, one, _ in fleet.handed] == old
    assert [new.name for _, _, new in fleet.handed] == [f"{one.name} again" for one in old]


async def test_nobody_hands_over_when_one_refuses_to_start() -> None:
    fleet = Noting(refused="no such setting")

    with pytest.raises(NotReady, match="no such setting"):
        await replaced(fleet, places(3), APART_S)

    assert fleet.handed == []
    assert len(fleet.given_up) == 3


@given(st.integers(0, 5000))
def test_waiting_takes_no_more_than_is_said_however_many_there_are(count: int) -> None:
    apart_s = Pace().apart(count)

    assert apart_s > 0
    assert 2 * count * apart_s <= AT_MOST_S * 1.001


def test_few_are_as_far_apart_as_the_pace_says() -> None:
    assert Pace(apart_s=0.1).apart(20) == 0.1
    assert Pace(domains=1, apart_s=0).apart(20) == 0
