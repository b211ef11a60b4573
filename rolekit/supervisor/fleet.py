"""All instances of an app on this host: how many there are, and in which order they stop."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from rolekit import link
from rolekit.config import nearest
from rolekit.errors import ConfigError
from rolekit.model.recycling import LIMITS, limits
from rolekit.supervisor.budget import Budgets
from rolekit.supervisor.counts import count_at_start, count_of
from rolekit.supervisor.pumping import keep_pumping
from rolekit.supervisor.reasons import Reasons
from rolekit.supervisor.slot import Crew, Slot
from rolekit.supervisor.wire import RELAY, RoleSummary

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping

    from rolekit.model.recycling import Limits
    from rolekit.supervisor.host import Ground, QueueDepth
    from rolekit.supervisor.orders import Orders
    from rolekit.supervisor.version import Version

_log = structlog.get_logger("rolekit.supervisor")

_TEND_AGAIN_S = 5.0


class Fleet:
    """Keeps every role at the number of instances it should have.

    Attributes:
        notes: What is done with a role just now, for people.
        reasons: What was done with it lately, and why.
    """

    def __init__(self, orders: Orders, ground: Ground, version: Version) -> None:
        self._orders = orders
        self._ground = ground
        self.notes: dict[str, str] = {}
        self.settings = dict(orders.settings)
        self.reasons = Reasons()
        self._drained: dict[str, int] = {}
        self._is_leased = True
        self._counter = 0
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._slots: dict[str, list[Slot]] = {}
        self._tasks: dict[Slot, asyncio.Task[None]] = {}
        self._changes: set[asyncio.Task[None]] = set()
        self._versions = dict.fromkeys(version.roles, version)
        self._crew = Crew(
            forker=version.forker,
            host=ground.host,
            spec=partial(self._spec, version.target),
            is_leased=lambda: self._is_leased,
            hurry=self._hurry,
            policy=orders.policy,
            budgets=Budgets(orders.policy, self.reasons.add),
            patience=orders.patience,
            hear=orders.hear,
            tell=self.reasons.add,
            spans=orders.spans,
        )

    @property
    def roles(self) -> Mapping[str, RoleSummary]:
        """All roles by name, the built-in one included."""
        return {name: version.roles[name] for name, version in self._versions.items()}

    def version(self, role: str) -> Version:
        """What instances of a role run that start now."""
        return self._versions[role]

    def slots(self, role: str) -> list[Slot]:
        """The places of a role that are not being given up."""
        return self._slots.get(role, [])

    def leaving(self, role: str) -> list[Slot]:
        """The places of a role that are being given up."""
        kept = self.slots(role)
        return [slot for slot in self._tasks if slot.role.name == role and slot not in kept]

    @property
    def is_stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self._stopping.is_set()

    @property
    def refusals(self) -> list[tuple[str, str]]:
        """Role and reason of each that cannot start."""
        found = {slot.role.name: slot.refused for slot in self._tasks if slot.refused}
        return sorted(found.items())

    @property
    def is_complete(self) -> bool:
        """Whether every place has an instance that is ready."""
        return all(slot.state == "ready" for slots in self._slots.values() for slot in slots)

    @property
    def is_crash_looping(self) -> bool:
        """Whether any place's instances keep dying, even if one of them is ready just now."""
        return any(slot.is_crash_looping for slots in self._slots.values() for slot in slots)

    def ask_to_stop(self, *, hard: bool = False) -> None:
        """Begin to stop; `hard` does not wait for what is in hand. May be called again."""
        self._stopping.set()
        if hard:
            self._hurry.set()

    async def run(self) -> None:
        """Start everything; return when everything has stopped."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for role in self.roles.values():
                self._resize(role, self._wanted_at_start(role))
            pumps = [
                group.create_task(keep_pumping(pump, "wake-ups" if i else "lease"))
                for i, pump in enumerate((self._pump_lease, self._pump_topics))
            ]
            await self._stopping.wait()
            await self._stop_in_order()
            for pump in pumps:
                pump.cancel()

    def scale(self, name: str, change: str) -> int:
        """Set how many instances a role has; return that number.

        Args:
            name: Of the role.
            change: "5", or "+2" or "-2" from what it is.

        Raises:
            ConfigError: There is no such role, or it may not have so many.
        """
        role = self.known(name)
        count = count_of(role, change, self.wanted(name))
        self._drained.pop(name, None)
        self.resize(name, count)
        return count

    def resize(self, name: str, count: int) -> None:
        """Let a role have so many instances."""
        if count != len(self.slots(name)):
            _log.info("scaled", role=name, instances=count)
            self._resize(self._versions[name].roles[name], count)

    def limits(self, role: RoleSummary) -> Limits:
        """Say what an instance of a role may come to, as settings say, or its class.

        Raises:
            ConfigError: They cannot be used.
        """
        said = {name: self.setting(role.name, name) for name in LIMITS}
        return limits(role.name, role.limits | {n: v for n, v in said.items() if v is not None})

    def start_s(self, role: RoleSummary) -> float:
        """Say how long an instance may take until it is ready, seconds."""
        return self.limits(role).start_s or self._orders.patience.start_s

    def setting(self, role: str, name: str) -> str | None:
        """Return what a setting of a role says; None: nothing."""
        return self.settings.get(role, {}).get(name)

    def drain(self, name: str, *, undo: bool = False) -> int:
        """Let the instances of a role finish and end; return how many come back with `undo`.

        They stay away until `undo` or `scale`, or until the fleet is started again.

        Raises:
            ConfigError: There is no such role, or the fleet is stopping.
        """
        role = self.known(name)
        count = self.wanted(name)
        if undo == self.is_drained(name):
            if undo:
                del self._drained[name]
            else:
                self._drained[name] = count
            self._resize(role, count if undo else 0)
            self.reasons.add(name, "taken up again by hand" if undo else "drained by hand")
            _log.info("taken up again" if undo else "drained", role=name, instances=count)
        return count

    def is_drained(self, role: str) -> bool:
        """Whether a role has no instances because somebody drained it."""
        return role in self._drained

    def wanted(self, role: str) -> int:
        """How many instances a role should have, or will have when it is not drained."""
        return self._drained.get(role, len(self.slots(role)))

    def known(self, name: str) -> RoleSummary:
        """Return the role of this name, which somebody wants to change.

        Raises:
            ConfigError: There is none, or the fleet is stopping.
        """
        role = self.named(name)
        if self.is_stopping:
            raise ConfigError(
                "The fleet is stopping; it takes no changes.", fix="Start it again."
            )
        return role

    def named(self, name: str) -> RoleSummary:
        """Return the role of this name.

        Raises:
            ConfigError: There is none.
        """
        known = [one for one in self._versions if one != RELAY]
        if name not in known:
            raise ConfigError(
                f"There is no role {name}.{nearest(name, known)}",
                fix=f"The roles are {', '.join(known)}.",
            )
        return self._versions[name].roles[name]

    def adopt(self, role: str, version: Version) -> None:
        """Have instances of a role that start from now on run this version."""
        is_new = role not in self._versions
        self._versions[role] = version
        if is_new:
            self._resize(version.roles[role], self._wanted_at_start(version.roles[role]))

    def drop(self, role: str) -> None:
        """Give up a role that the app does not have any more."""
        self._resize(self._versions[role].roles[role], 0)
        del self._versions[role]
        self._drained.pop(role, None)

    def succeed(self, slot: Slot, version: Version, start_s: float | None = None) -> Slot:
        """Start an instance beside the one of this place; `hand_over` gives it the place.

        Args:
            slot: The place.
            version: That the instance runs.
            start_s: So long it may take until it is ready; None: as its role says.
        """
        return self._start(version, slot.role.name, slot.number, start_s)

    def hand_over(self, slot: Slot, successor: Slot) -> bool:
        """Let a successor have a place and the old instance drain; False: it is given up."""
        slots = self.slots(slot.role.name)
        if slot not in slots:
            self.give_up(successor)
            return False
        slots[slots.index(slot)] = successor
        self.give_up(slot)
        return True

    def give_up(self, slot: Slot) -> None:
        """Let the instance of a place drain, and start no other there."""
        stay = [one for one in self.slots(slot.role.name) if one is not slot]
        is_last = all(one.state != "ready" for one in stay)
        slot.leave(self._orders.grace_s, is_last=is_last)
        if slot.refused:
            self._tasks.pop(slot, None)

    async def gone(self, slots: Iterable[Slot]) -> None:
        """Wait until these places, which were given up, are empty."""
        tasks = [self._tasks[slot] for slot in slots if slot in self._tasks]
        if tasks:
            await asyncio.wait(tasks)

    def runs(self, version: Version) -> bool:
        """Say whether anything runs this version, or would if it started now."""
        return version in self._versions.values() or any(
            slot.version == version.number for slot in self._tasks
        )

    def own(self, task: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run a change of the fleet beside it, until the fleet stops."""
        if self._group is None:
            raise RuntimeError("a change before run")
        owned = self._group.create_task(task)
        self._changes.add(owned)
        owned.add_done_callback(self._changes.discard)
        return owned

    async def depths(self, *, within_s: float = 2) -> Mapping[str, QueueDepth] | None:
        """Say what stands in each handler's queue; None while the database is away."""
        try:
            async with asyncio.timeout(within_s):
                return await self._ground.host.depths()
        except Exception as error:  # noqa: BLE001 - an outage of any kind: this is a display
            _log.debug("queues cannot be read", error=str(error))
            return None

    def _wanted_at_start(self, role: RoleSummary) -> int:
        return count_at_start(role, self.setting(role.name, "instances"))

    def _resize(self, role: RoleSummary, count: int) -> None:
        slots = self._slots.setdefault(role.name, [])
        while len(slots) > count:
            self.give_up(slots.pop())
        while len(slots) < count:
            slots.append(self._start(self._versions[role.name], role.name, len(slots)))

    def _start(
        self, version: Version, role: str, number: int, start_s: float | None = None
    ) -> Slot:
        if self._group is None:
            raise RuntimeError("an instance before run")
        start_s = start_s or self.start_s(version.roles[role])
        crew = replace(
            self._crew,
            forker=version.forker,
            version=version.number,
            spec=partial(self._spec, version.target),
            patience=replace(self._orders.patience, start_s=start_s),
        )
        shared = self._orders.sockets.get(role, ())
        if version.roles[role].containers:
            shared = (*shared, self._orders.doors[role])
        slot = Slot(version.roles[role], number, crew, shared)
        self._tasks[slot] = self._group.create_task(self._tend(slot))
        return slot

    async def _tend(self, slot: Slot) -> None:
        while True:
            try:
                await slot.run()
                break
            except Exception:  # noqa: BLE001 - the edge of one instance: the others go on
                _log.exception(
                    "rolekit failed to look after an instance; trying again",
                    instance=slot.name,
                    delay_s=_TEND_AGAIN_S,
                )
                await asyncio.sleep(_TEND_AGAIN_S)
        if not slot.refused:
            self._tasks.pop(slot, None)

    async def _stop_in_order(self) -> None:
        """What lets work in first, then what does it, then what moves its results."""
        for change in self._changes:
            change.cancel()
        loop = asyncio.get_running_loop()
        until = loop.time() + self._orders.grace_s
        for turn in range(3):
            group = {s: task for s, task in self._tasks.items() if _stops_at(s.role) == turn}
            grace_s = max(until - loop.time(), min(1.0, self._orders.grace_s))
            for slot in group:
                slot.leave(grace_s)
            if group:
                await asyncio.wait(group.values())

    def _spec(self, app: str, role: RoleSummary, slot: int) -> link.InstanceSpec:
        self._counter += 1
        return link.InstanceSpec(
            app=app,
            role=role.name,
            slot=slot,
            owner=(self._ground.host.epoch << link.OWNER_BITS) | self._counter,
            broker=self._ground.broker,
            database=self._ground.database,
            pooler="" if role.name == RELAY else self._ground.pooler,
            settings=dict(self.settings.get(role.name, {})),
            has_launcher=bool(role.containers),
        )

    async def _pump_topics(self) -> None:
        async for topics in self._ground.host.topics():
            self.say_to_all(link.Wake(topics))

    async def _pump_lease(self) -> None:
        async for held in self._ground.host.lease():
            if held != self._is_leased:
                _log.log(
                    20 if held else 40,
                    "lease held again; work goes on"
                    if held
                    else "lease lost: instances take no new work until the database is back",
                )
            self._is_leased = held
            self.say_to_all(link.Lease(held))

    def say_to_all(self, message: link.ToInstance) -> None:
        """Say something to every instance that is there."""
        for slot in self._tasks:
            if slot.instance is not None:
                slot.instance.say(message)


def _stops_at(role: RoleSummary) -> int:
    """Say in which turn a role stops: the ways in first, the relay last."""
    return 2 if role.name == RELAY else 0 if role.is_web else 1
