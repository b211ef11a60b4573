"""Replaces instances one by one: those that are old, have done much, or are asked to go.

The new one is ready before the old one drains. When it is not ready in time the old one
stays, and another try is made after a while. A rolling restart goes before.
"""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import structlog

from rolekit.model import recycling
from rolekit.supervisor.rolling import NotReady, replace
from rolekit.supervisor.usage import own_mb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rolekit.model.recycling import Limits
    from rolekit.supervisor.fleet import Fleet
    from rolekit.supervisor.instance import Instance
    from rolekit.supervisor.slot import Slot
    from rolekit.supervisor.wire import RoleSummary

_log = structlog.get_logger("rolekit.supervisor")

_LOOK_S = 1.0
_AGAIN_S = 30.0


class Recycling:
    """Looks after the age of a fleet's instances.

    Args:
        fleet: The fleet.

    Raises:
        ConfigError: A limit that the settings name cannot be used.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._draws: WeakKeyDictionary[Instance, float] = WeakKeyDictionary()
        self._asked: dict[Slot, str] = {}
        self._under_way: dict[Slot, asyncio.Task[None]] = {}
        self._not_before_s: dict[str, float] = {}
        for role in fleet.roles.values():
            fleet.limits(role)

    def check(self, role: RoleSummary, settings: Mapping[str, str]) -> None:
        """Refuse limits that cannot be used.

        Raises:
            ConfigError: They cannot.
        """
        said = {name: value for name, value in settings.items() if name in recycling.LIMITS}
        recycling.limits(role.name, role.limits | said)

    def ask(self, slot: Slot, why: str) -> None:
        """Have the instance of a place replaced soon."""
        self._asked[slot] = why

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            for role in self._fleet.roles.values():
                if role.name not in self._fleet.notes:  # no restart is at it
                    self._look(role)

    def _look(self, role: RoleSummary) -> None:
        if asyncio.get_running_loop().time() < self._not_before_s.get(role.name, 0):
            return
        slots = self._fleet.slots(role.name)
        at_once = math.ceil(len(slots) / recycling.DOMAINS)
        at_once -= sum(slot in self._under_way for slot in slots)
        limits = self._fleet.limits(role)
        for slot in slots if limits.are_any else [one for one in slots if one in self._asked]:
            if at_once <= 0:
                return
            if slot not in self._under_way and (why := self._why(slot, limits)):
                at_once -= 1
                self._asked.pop(slot, None)
                self._under_way[slot] = self._fleet.own(self._recycle(slot, why))

    def _why(self, slot: Slot, limits: Limits) -> str:
        instance = slot.instance
        if instance is None or instance.ready_at is None:
            return self._asked.get(slot, "")
        draw = self._draws.setdefault(instance, random.random())  # noqa: S311 - spread
        reached = limits.reached(
            age_s=instance.lived_s,
            handled=instance.handled,
            draw=draw,
            memory_mb=0 if limits.memory_mb is None else own_mb(instance.pid),
        )
        return self._asked.get(slot, "") or reached

    async def _recycle(self, slot: Slot, why: str) -> None:
        role = slot.role.name
        _log.info("recycling: another is ready before it goes", instance=slot.name, why=why)
        self._fleet.reasons.add(role, f"{slot.name} recycled: {why}")
        try:
            await replace(self._fleet, [slot], self._fleet.version(role))
        except NotReady as problem:
            _log.error("not recycled", instance=slot.name, why=str(problem), again_s=_AGAIN_S)
            self._fleet.reasons.add(role, f"{slot.name} not recycled: {problem}")
            self._not_before_s[role] = asyncio.get_running_loop().time() + _AGAIN_S
        finally:
            del self._under_way[slot]
