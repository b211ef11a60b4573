"""Settings that changed while the fleet runs: read again, tried on one instance, then on all.

SIGHUP, or `rolekit reload`
what no instance can follow     ──> said: it takes a restart, or another start
instances                       ──> the role is scaled
other settings of a role        ──> one instance takes them ──cannot──> nothing changes
all take them, `on_change` says whether to go on
who does not is recycled
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import ConfigError
from rolekit.supervisor.counts import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rolekit import link
    from rolekit.config import Config
    from rolekit.supervisor.fleet import Fleet
    from rolekit.supervisor.instance import Instance
    from rolekit.supervisor.recycling import Recycling
    from rolekit.supervisor.slot import Slot

_log = structlog.get_logger("rolekit.supervisor")

_OF_THE_SUPERVISOR = (
    "app",
    "broker",
    "database",
    "pooler",
    "home",
    "grace_s",
    "control",
    "start_method",
    "log",
    "log_format",
    "otlp",
)
_OF_A_VERSION = (
    "horizon_s",
    "results_s",
    "keep_sent",
    "handlers",
    "log",
    "log_format",
    "traces",
    "slow_s",
)
_NOT_INSTANCES = frozenset({"instances", "max_age_s", "max_messages", "start_s"})
"""Settings of a role that only its supervisor reads."""

Settings = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Diff:
    """What is new for one role."""

    role: str
    before: Settings
    now: Settings

    @property
    def names(self) -> list[str]:
        return sorted(
            name
            for name in self.before.keys() | self.now.keys()
            if self.before.get(name) != self.now.get(name)
        )

    @property
    def concerns_instances(self) -> bool:
        return not set(self.names) <= _NOT_INSTANCES


class Reload:
    """Brings a running fleet to the settings as they are now.

    Args:
        fleet: The fleet.
        recycling: Replaces who cannot go on.
        config: As the fleet started with.
        read: Reads them again; raises `ConfigError`.
    """

    def __init__(
        self, fleet: Fleet, recycling: Recycling, config: Config, read: Callable[[], Config]
    ) -> None:
        self._fleet = fleet
        self._recycling = recycling
        self._config = config
        self._read = read
        self._one_at_a_time = asyncio.Lock()

    @property
    def config(self) -> Config:
        """As it was read last."""
        return self._config

    async def run(self) -> list[str]:
        """Read the settings and apply them; return what was done, a sentence each.

        Raises:
            ConfigError: They cannot be read or used. Nothing was changed.
        """
        async with self._one_at_a_time:
            config = self._read()
            said = _only_said(self._config, config)
            diffs = self._diffs(config)
            for diff in diffs:
                self._check(diff)
            await self._try(diffs)
            for diff in diffs:
                said.append(await self._apply(diff))
            self._config = config
            for line in said:
                _log.info(line)
            return said or ["Nothing changed."]

    def _diffs(self, config: Config) -> list[_Diff]:
        fleet = self._fleet
        diffs = [
            _Diff(role, dict(fleet.settings.get(role, {})), config.for_role(role))
            for role in fleet.roles
        ]
        return [diff for diff in diffs if diff.names]

    def _check(self, diff: _Diff) -> None:
        if "bind" in diff.names:
            raise ConfigError(
                f"{diff.role}.bind cannot change while it runs; sockets stay open.",
                fix="Stop the app and start it again: rolekit stop, rolekit up.",
            )
        role = self._fleet.known(diff.role)
        if "instances" in diff.names and "instances" in diff.now:
            count_of(role, diff.now["instances"], len(self._fleet.slots(diff.role)))
        self._recycling.check(role, diff.now)

    async def _try(self, diffs: Sequence[_Diff]) -> None:
        """Give the settings to one instance of each role; take them back if it cannot."""
        tried: list[tuple[Instance, _Diff]] = []
        for diff in diffs:
            instance = next((one for _, one in self._ready(diff)), None)
            if instance is None or not diff.concerns_instances:
                continue
            tried.append((instance, diff))
            answer = await instance.change(diff.now)
            if answer.problem:
                for one, taken in tried[:-1]:
                    await one.change(taken.before)
                raise ConfigError(answer.problem, fix="Nothing was changed.")

    async def _apply(self, diff: _Diff) -> str:
        fleet, role = self._fleet, diff.role
        fleet.settings[role] = diff.now
        done = f"{role}: {', '.join(diff.names)} changed"
        if "instances" in diff.names and "instances" in diff.now:
            fleet.scale(role, diff.now["instances"])
        if not diff.concerns_instances:
            return f"{done}."
        told = self._ready(diff)
        answers = await asyncio.gather(*(one.change(diff.now) for _, one in told))
        kept = self._sort_out(diff, told, answers)
        others = len(fleet.slots(role)) - kept
        return f"{done}; {kept} of {kept + others} took it" + (
            f", {others} {'is' if others == 1 else 'are'} replaced." if others else "."
        )

    def _sort_out(
        self,
        diff: _Diff,
        told: Sequence[tuple[Slot, Instance]],
        answers: Sequence[link.Changed],
    ) -> int:
        """Have those replaced that do not go on; return how many do."""
        keeps = {slot for (slot, _), one in zip(told, answers, strict=True) if one.is_kept}
        for slot in self._fleet.slots(diff.role):
            if slot not in keeps:
                self._recycling.ask(slot, f"{', '.join(diff.names)} changed")
        return len(keeps)

    def _ready(self, diff: _Diff) -> list[tuple[Slot, Instance]]:
        return [
            (slot, slot.instance)
            for slot in self._fleet.slots(diff.role)
            if slot.state == "ready" and slot.instance is not None
        ]


def _only_said(before: Config, now: Config) -> list[str]:
    """Say what changed that running instances cannot take."""
    said = [
        f"{name} changed; it holds from the next start on: rolekit stop, rolekit up."
        for name in _OF_THE_SUPERVISOR
        if getattr(before, name) != getattr(now, name)
    ]
    return said + [
        f"{name} changed; it holds for instances that `rolekit restart` starts."
        for name in _OF_A_VERSION
        if getattr(before, name) != getattr(now, name)
    ]
