"""Roles that scale by themselves: look at what waits and what is done, decide, resize, say why.

Nothing is asked of anybody while no role has a rule. Looking takes a small share of the time,
however long it takes: a deep queue in a database is counted less often.

Each supervisor decides for its host. Several that run a role share its load: what others
settle does not arrive, as far as one can see, and each takes its part of what waits as its own.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import structlog

from rolekit.model.gauging import Ages, Counted, Gauge, Look
from rolekit.model.policy import Scale
from rolekit.model.scaling import Damping, Load, Past, decide
from rolekit.supervisor.control import AUTO
from rolekit.supervisor.counts import has_rule
from rolekit.supervisor.host import is_told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rolekit.model.scaling import Decision
    from rolekit.supervisor.host import Backlog, Measure
    from rolekit.supervisor.reasons import Reasons
    from rolekit.supervisor.wire import RoleSummary

_log = structlog.get_logger("rolekit.supervisor")

LOOK_S = 1.0
SHARE = 0.05
"""Looking takes at most this share of the time."""
PATIENCE_S = 10.0
SHOWN_S = 15.0
"""`rolekit ps` shows a decision for so long."""
STILL = 4
"""A sequence that has stood still for so many targets is not held up by a long queue."""


class Member(Protocol):
    """An instance, as far as it is measured; see `Instance`."""

    pid: int
    handled: int
    in_hand: int
    cpu_s: float
    age_s: float | None

    @property
    def is_ready(self) -> bool:
        """Whether it takes messages."""
        ...


class Place(Protocol):
    """A place for an instance."""

    @property
    def instance(self) -> Member | None:
        """Who fills it."""
        ...


class Scalable(Protocol):
    """A fleet, as far as it is scaled; see `Fleet`."""

    reasons: Reasons

    @property
    def roles(self) -> Mapping[str, RoleSummary]:
        """All by name."""
        ...

    @property
    def is_stopping(self) -> bool:
        """Whether a stop was asked for."""
        ...

    def slots(self, role: str) -> Sequence[Place]:
        """Places it should have."""
        ...

    def leaving(self, role: str) -> Sequence[Place]:
        """Places that are being given up."""
        ...

    def known(self, name: str) -> RoleSummary:
        """Return a role that somebody wants to change; raises `ConfigError`."""
        ...

    def is_drained(self, role: str) -> bool:
        """Whether somebody drained it: then its rule rests."""
        ...

    def drain(self, name: str, *, undo: bool = False) -> int:
        """Drain it, or take it up again."""
        ...

    def setting(self, role: str, name: str) -> str | None:
        """Return what a setting of a role says."""
        ...

    def scale(self, name: str, change: str) -> int:
        """Do what somebody says; raises `ConfigError`."""
        ...

    def resize(self, name: str, count: int) -> None:
        """Let a role have so many instances."""
        ...


@dataclass(slots=True)
class _Watched:
    """One role that has a rule.

    Attributes:
        by_hand: Somebody said how many it should have.
        now: What was decided last.
        said: What `rolekit ps` shows, and until when.
    """

    gauge: Gauge
    ages: Ages
    past: Past
    by_hand: bool = False
    now: str = ""
    said: tuple[str, float] = ("", 0)


class Autoscaler:
    """Applies the rules of a fleet's roles.

    Args:
        fleet: Whose.
        measure: Says what waits.
        damping: How eagerly.
        clock: Monotonic, seconds.
    """

    def __init__(
        self,
        fleet: Scalable,
        measure: Measure,
        damping: Damping,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._fleet = fleet
        self._measure = measure
        self._damping = damping
        self._watched: dict[str, _Watched] = {}
        self._is_blind = False

    async def run(self) -> None:
        """Look and decide, again and again, until cancelled."""
        while True:
            began_s = self._clock()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self.look()
            except Exception as error:  # noqa: BLE001 - an outage of any kind: numbers stay
                self._note_outage(error)
            took_s = self._clock() - began_s
            await asyncio.sleep(max(LOOK_S - took_s, took_s / SHARE))

    def scale(self, name: str, change: str) -> int:
        """Do what somebody says about a role; return how many instances it should have.

        A number holds until `auto` is said, which lets the role's rule decide again.

        Raises:
            ConfigError: There is no such role, it may not have so many, or has no rule.
        """
        if change.strip() == AUTO and has_rule(role := self._fleet.known(name)):
            watched = self._watch(role)
            watched.by_hand = False
            if self._fleet.is_drained(name):
                self._fleet.drain(name, undo=True)
            watched.past = replace(watched.past, changed_s=self._clock())
            self._fleet.reasons.add(name, "its rule decides again")
            return len(self._fleet.slots(name))
        before = len(self._fleet.slots(name))
        count = self._fleet.scale(name, change)
        self._fleet.reasons.add(name, f"{_arrow(before, count)} by hand")
        if has_rule(role := self._fleet.known(name)):
            self._watch(role).by_hand = True
        return count

    def now(self, role: str) -> str:
        """Say what the rule of a role decides now, and why; empty: it has none."""
        one = self._watched.get(role)
        if one is None:
            return ""
        if one.by_hand:
            return f"set by hand until `rolekit scale {role}={AUTO}`; its rule says: {one.now}"
        return one.now

    def note(self, role: str) -> str:
        """Say what belongs into a line about a role; empty: nothing happens."""
        one = self._watched.get(role)
        if one is None:
            return ""
        if one.by_hand:
            return f"by hand until {role}={AUTO}"
        said, until_s = one.said
        return said if self._clock() < until_s else ""

    async def look(self) -> None:
        """Look once, decide and resize."""
        roles = [role for role in self._fleet.roles.values() if has_rule(role)]
        for name in self._watched.keys() - {role.name for role in roles}:
            del self._watched[name]
        if not roles or self._fleet.is_stopping:
            return
        queues = list(dict.fromkeys(queue for role in roles for queue in role.queues))
        still_s = {
            gather: STILL * role.scale.target_age_s
            for role in roles
            for gather in role.feeds
            if role.scale is not None
        }
        backlog = await self._measure(queues, still_s)
        self._is_blind = False
        for role in roles:
            if not self._fleet.is_drained(role.name):
                self._decide(role, backlog)

    def _note_outage(self, error: Exception) -> None:
        if not self._is_blind:
            self._is_blind = True
            why = str(error) or type(error).__name__
            _log.warning("no role is scaled while queues cannot be read", error=why)
        for one in self._watched.values():
            one.now = "queues cannot be read, so it stays as it is"

    def _watch(self, role: RoleSummary) -> _Watched:
        one = self._watched.get(role.name)
        if one is None:
            past = Past(changed_s=self._clock())
            one = _Watched(Gauge(self._places(role)), Ages(), past)
            self._watched[role.name] = one
        return one

    def _places(self, role: RoleSummary) -> int:
        said = self._fleet.setting(role.name, "concurrency") or ""
        return max(int(said) if said.isascii() and said.isdigit() else role.concurrency, 1)

    def _decide(self, role: RoleSummary, backlog: Backlog) -> None:
        assert role.scale is not None  # noqa: S101 - it has a rule
        watched, now_s = self._watch(role), self._clock()
        if not self._is_told(role, backlog):
            watched.now = "the broker is too busy to say how long queues are; it stays as it is"
            return
        load = self._load(role, watched, backlog, now_s)
        scale = Scale(
            min=role.scale.min, max=role.scale.max, target_age_s=role.scale.target_age_s
        )
        decision = decide(scale, self._damping, load, watched.past, now_s)
        hosts = backlog.hosts.get(role.name, 1)
        shared = f"; one of {hosts} hosts, which share what waits" if hosts > 1 else ""
        watched.now = f"{decision.count}: {decision.why}{shared}"
        if watched.by_hand:
            return
        watched.past = decision.past
        if decision.move != "stay":
            self._apply(role.name, watched, load.wanted, decision)
        elif decision.is_capped and now_s >= watched.said[1]:
            watched.said = (decision.why, now_s + SHOWN_S)

    def _apply(self, name: str, watched: _Watched, before: int, decision: Decision) -> None:
        self._fleet.resize(name, decision.count)
        self._fleet.reasons.add(name, f"{_arrow(before, decision.count)}: {decision.why}")
        short = decision.why.partition(" (")[0]
        watched.said = (f"scaling {decision.move}: {short}", self._clock() + SHOWN_S)
        _log.info(f"scaling {decision.move}: {decision.why}", role=name, before=before)

    def _is_told(self, role: RoleSummary, backlog: Backlog) -> bool:
        places = self._fleet.slots(role.name)
        ready = sum(one.instance is not None and one.instance.is_ready for one in places)
        return all(
            is_told(backlog.depths[queue], ready)
            for queue in role.queues
            if queue in backlog.depths
        )

    def _load(
        self, role: RoleSummary, watched: _Watched, backlog: Backlog, now_s: float
    ) -> Load:
        kept, leaving = self._fleet.slots(role.name), self._fleet.leaving(role.name)
        instances = [slot.instance for slot in (*kept, *leaving) if slot.instance is not None]
        ready = [slot.instance for slot in kept if slot.instance and slot.instance.is_ready]
        standing = [backlog.depths[queue] for queue in role.queues if queue in backlog.depths]
        hosts = max(backlog.hosts.get(role.name, 1), 1)
        waiting = math.ceil(sum(one.waiting for one in standing) / hosts)
        # A broker may not tell what is in hand; a beat may be a second old.
        in_hand = max(
            sum(one.in_hand for one in standing) // hosts,
            sum(one.in_hand for one in instances),
        )
        counts = {
            one.pid: Counted(settled=one.handled, in_hand=one.in_hand, cpu_s=one.cpu_s)
            for one in ready
        }
        watched.gauge.note(Look(at_s=now_s, waiting=waiting, in_hand=in_hand, counts=counts))
        told_s = max((one.oldest_s for one in standing if one.oldest_s), default=None)
        came_s = max((one.age_s for one in instances if one.age_s is not None), default=None)
        return Load(
            wanted=len(kept),
            ready=len(ready),
            places=self._places(role),
            waiting=waiting,
            in_hand=in_hand,
            oldest_s=watched.ages.note(now_s, waiting, came_s if told_s is None else told_s),
            blocked_s=max((backlog.stood_s.get(name, 0) for name in role.feeds), default=0),
            arriving=watched.gauge.arriving,
            drain=watched.gauge.drain,
        )


def _arrow(before: int, after: int) -> str:
    return f"{before} \N{RIGHTWARDS ARROW} {after}"
