"""A rolling restart: domain after domain, new instances ready before old ones drain.

    for each role, whoever reads before whoever writes:
        for each domain, a part of its places:
            start a successor for each place ──one is not ready in time──> back
            all are ready: they take the places, the old ones drain
            wait until those are gone        ──a new one died meanwhile──> back

    back: the places that were given to the new version are given to the old one again, the
    same way. Its zygote is still there, so that needs neither import nor disk.

Those of a domain start and end one after another, a moment apart. A new instance and the end
of an old one take 60 ms of CPU, 25 of them at the database, where each opens a connection;
four of them at once had requests wait five to ten times as long as else, on two cores that
were two thirds busy. Where the cores are busier than that the next one waits longer, see `Gap`.

Two versions work side by side meanwhile. A new one may send what an old one cannot read;
such a message comes again later, see `flow/failure.py`. The order of roles makes that rare.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from rolekit.model.recycling import DOMAINS
from rolekit.supervisor.wire import RELAY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rolekit.supervisor.fleet import Fleet
    from rolekit.supervisor.slot import Slot
    from rolekit.supervisor.version import Version

_log = structlog.get_logger("rolekit.supervisor")

APART_S = 0.15
AT_MOST_S = 10.0
"""So much longer a role takes at most because its instances do not start and end at once,"""
BUSY_AT_MOST_S = 40.0
"""and so much where the cores are busy all the time."""
REST = 2.0
"""How much longer the next one waits than this process had to wait for a core meanwhile."""
LONGEST_S = 1.0
"""From one to the next, of however few."""
_LOOK_S = 0.02  # how often it looks whether successors are ready, and it is late itself
_WAKES_S = 0.002  # a sleep may take so much longer on cores that nobody else wants
_DEATHS = 3  # of a successor that never was ready: it will not be


class NotReady(Exception):
    """A new instance did not become ready, or died soon after; says which, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast to go.

    Attributes:
        domains: Into how many parts the places of a role are divided, one after another.
        ready_s: So long a new instance may take until it is ready; None: as its role says.
        apart_s: So long after one start or end comes the next, but see `gap`.
    """

    domains: int = DOMAINS
    ready_s: float | None = None
    apart_s: float = APART_S

    def gap(self, places: int) -> Gap:
        """Say how long after one start or end the next comes, of so many.

        All together wait no longer than `AT_MOST_S`, or on a busy machine `BUSY_AT_MOST_S`:
        many need more CPU for themselves, and each of them is less of what serves.
        """
        ends = 2 * max(1, places)
        least_s = min(self.apart_s, AT_MOST_S / ends)
        return Gap(least_s, min(LONGEST_S, BUSY_AT_MOST_S / ends) if least_s else 0)


@dataclass(frozen=True, slots=True)
class Gap:
    """How long after one start or end the next comes.

    How busy the cores are shows in how late this process wakes from a sleep: then others wait
    for a core as well, those who serve among them. So it goes on sleeping until what passed is
    `least_s` and `REST` times as long as it was late.

    Attributes:
        least_s: At least, seconds; 0: all start and end at once.
        most_s: At most.
    """

    least_s: float = 0
    most_s: float = 0

    def until(self, late_s: float) -> float:
        """Say how long it is where this process was late by so much since it began, seconds."""
        return min(self.least_s + REST * late_s, max(self.least_s, self.most_s))

    async def rest(self, look: Callable[[], None] = lambda: None) -> None:
        """Wait for so long.

        Args:
            look: Called every now and then meanwhile; what it raises ends the wait.
        """
        begun_s = woke_s = time.monotonic()
        step_s, late_s = min(_LOOK_S, self.least_s / 2), 0.0
        while woke_s - begun_s < self.until(late_s):
            await asyncio.sleep(step_s)
            late_s += max(0.0, time.monotonic() - woke_s - step_s - _WAKES_S)
            woke_s = time.monotonic()
            look()


class Roll:
    """One rolling restart.

    Args:
        fleet: Whose places are given to another version.
        version: That they are given to.
        roles: Names, as `in_order` gives them; all are in `version`.
        pace: How fast.
        say: Told of each thing done, in a sentence.
    """

    def __init__(
        self,
        fleet: Fleet,
        version: Version,
        roles: Sequence[str],
        pace: Pace,
        say: Callable[[str], None],
    ) -> None:
        self._fleet = fleet
        self._version = version
        self._roles = roles
        self._pace = pace
        self._say = say
        self._before: dict[str, Version | None] = {}

    async def run(self) -> bool:
        """Roll; False when it went back to the version before."""
        try:
            for role in self._roles:
                await self._renew(role)
        except NotReady as why:
            self._say(f"Aborted: {why}")
            await self._back()
            return False
        return True

    async def _renew(self, role: str) -> None:
        old = self._fleet.version(role) if role in self._fleet.roles else None
        self._before[role] = old
        if old is None:
            self._fleet.adopt(role, self._version)
            await _until_ready(self._fleet.slots(role), self._ready_s(role))
            self._say(f"{role}: started, it is new.")
            return
        await self._move(role, self._version)
        self._fleet.adopt(role, self._version)

    async def _back(self) -> None:
        for role, before in reversed(self._before.items()):
            if before is None:
                self._fleet.drop(role)
                continue
            self._fleet.adopt(role, before)
            try:
                await self._move(role, before)
            except NotReady as why:
                _log.error("the old version does not start either", role=role, why=str(why))
                self._say(f"{role}: not rolled back, the old version fails too: {why}")
        self._say("Rolled back: what ran before runs again.")

    async def _move(self, role: str, to: Version) -> None:
        """Give all places of a role to a version, also those that are added meanwhile."""
        done = 0
        total = len(self._others(role, to))
        size = max(1, math.ceil(total / self._pace.domains))
        while domain := self._others(role, to)[:size]:
            self._fleet.notes[role] = f"restarting: {done} of {total} run version {to.number}"
            try:
                await replace(
                    self._fleet,
                    domain,
                    to,
                    ready_s=self._pace.ready_s,
                    gap=self._pace.gap(total),
                )
            finally:
                del self._fleet.notes[role]
            done += len(domain)
            total = max(total, done)
            self._say(f"{role}: {done} of {total} run version {to.number}.")

    def _ready_s(self, role: str) -> float:
        return self._pace.ready_s or self._fleet.start_s(self._version.roles[role])

    def _others(self, role: str, than: Version) -> list[Slot]:
        return [one for one in self._fleet.slots(role) if one.version != than.number]


async def replace(
    fleet: Fleet,
    places: Sequence[Slot],
    to: Version,
    *,
    ready_s: float | None = None,
    gap: Gap = Gap(),
) -> None:
    """Give places of a role to new instances; each is ready before an old one drains.

    Args:
        fleet: Whose.
        places: Not none.
        to: What they run from then on.
        ready_s: So long each may take until it is ready; None: as the role says.
        gap: So long after one the next starts, and when all are ready takes its place.

    Raises:
        NotReady: One is not in time, and the old ones go on; or one died soon after, and the
            places are given.
    """
    role = places[0].role.name
    ready_s = ready_s or fleet.start_s(to.roles[role])
    pairs: dict[Slot, Slot] = {}

    def look() -> None:
        for new in pairs.values():
            _is_ready(new)  # raises where it never will be

    try:
        for old in places:
            if old in fleet.slots(role):  # it may have been given up meanwhile
                pairs[old] = fleet.succeed(old, to, ready_s)
                await gap.rest(look)
        await _until_ready(pairs.values(), ready_s)
    except BaseException:
        for new in pairs.values():  # they hold no place yet; the old ones never noticed
            fleet.give_up(new)
        await fleet.gone(pairs.values())
        raise
    taken: list[Slot] = []
    for old, new in pairs.items():
        if fleet.hand_over(old, new):
            taken.append(new)
            await gap.rest()
    await fleet.gone(places)
    if dead := next((one for one in taken if one.restarts), None):
        raise NotReady(f"{dead.name} died soon after it was ready; its log says why.")


async def _until_ready(slots: Iterable[Slot], ready_s: float) -> None:
    waiting = list(slots)
    try:
        async with asyncio.timeout(ready_s):
            while True:
                waiting = [one for one in waiting if not _is_ready(one)]
                if not waiting:
                    return
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise NotReady(f"{waiting[0].name} was not ready in {ready_s:g} s.") from None


def _is_ready(slot: Slot) -> bool:
    if slot.refused:
        raise NotReady(f"{slot.name} refused to start: {slot.refused}")
    if slot.restarts >= _DEATHS:
        raise NotReady(
            f"{slot.name} died {slot.restarts} times before it was ready; its log says why."
        )
    return slot.state in ("ready", "stopping", "gone")  # given up meanwhile: none to wait for


def in_order(version: Version, names: Iterable[str]) -> list[str]:
    """Put who reads before who writes, so that new messages find somebody who knows them."""

    def rank(name: str) -> int:
        return 0 if name == RELAY else 2 if version.roles[name].is_web else 1

    return sorted(names, key=rank)
