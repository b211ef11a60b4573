"""The numbers of a fleet: what instances counted, and what their supervisor sees.

Each instance says what it counted since it began. What one that ended had counted is kept,
so that sums never fall.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

from rolekit.errors import RolekitError
from rolekit.model.conventions import Naming
from rolekit.model.sample import METRICS, Sample, added_up, prometheus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rolekit.supervisor.host import LookAt, OpenSequences
    from rolekit.supervisor.status import FleetStatus

HOLES_EVERY_S = 5.0
FROM_THE_START = (
    "messaging.client.sent.messages",
    "messaging.client.consumed.messages",
    "rolekit.inbox.conflicts",
    "rolekit.restarts",
)
"""Counters of a role that are said while they are 0, so that the first of them is a rise."""
_OF_ALL = frozenset(
    {"rolekit.pool.connections", "rolekit.unaccounted", "rolekit.broker.blocked"}
)
"""Of these the instances of a role have so many together."""


class Numbers:
    """Collects numbers of instances.

    Args:
        look_at: Says which sequences are in flight.
        gathers: Names of the app's gathers.
        lost: Says what is missing of traces, by names of numbers.
        naming: How messages travel.
        clock: Seconds, never going backwards.
    """

    def __init__(
        self,
        look_at: LookAt,
        gathers: Sequence[str],
        lost: Callable[[], Mapping[str, int]],
        naming: Naming | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._naming = naming or Naming()
        self._clock = clock
        self._look_at = look_at
        self._gathers = list(gathers)
        self._lost = lost
        self._latest: dict[str, tuple[Sample, ...]] = {}
        self._before: dict[str, tuple[Sample, ...]] = {}
        self._lags: dict[str, float] = {}
        self._restarts = Counter[str]()
        self._open: Mapping[str, OpenSequences] = {}
        self._looked_s = -HOLES_EVERY_S
        self._looking = asyncio.Lock()

    def take(self, source: str, samples: Sequence[Sample]) -> None:
        """Take what an instance counted since it began."""
        self._latest[source] = tuple(one for one in samples if one.name in METRICS)

    def gone(self, source: str) -> None:
        """Keep what an instance had counted that ended."""
        role = _role(source)
        self._lags.pop(source, None)
        counted = (one for one in self._latest.pop(source, ()) if _adds_up(one))
        self._before[role] = tuple(added_up(self._before.get(role, ()), tuple(counted)))

    def lags(self, source: str, lag_s: float) -> None:
        """Note how late the loop of an instance runs now."""
        self._lags[source] = lag_s

    def restarted(self, role: str) -> None:
        """Count an instance that takes the place of one that ended."""
        self._restarts[role] += 1

    async def read(self, status: FleetStatus) -> list[Sample]:
        """Return all numbers, by role, in order of names."""
        parts = [
            *(_labelled(role, samples) for role, samples in self._before.items()),
            *(
                _labelled(_role(source), (one for one in samples if _adds_up(one)))
                for source, samples in self._latest.items()
            ),
        ]
        parts += (
            _labelled(_role(source), (one for one in samples if one.name in _OF_ALL))
            for source, samples in self._latest.items()
        )
        parts.append(tuple(self._seen_here()))
        parts.append(tuple(_seen(status)))
        parts.append(tuple(Sample(name, (), float(n)) for name, n in self._lost().items()))
        for name, held in (await self._holes()).items():
            labels = (("gather", name),)
            parts.append(
                (
                    Sample("rolekit.sequences.holes", labels, held.count),
                    Sample("rolekit.sequences.hole.age", labels, held.stood_s),
                )
            )
        named = self._naming.named
        return added_up(*(tuple(named(one) for one in part) for part in parts))

    def _seen_here(self) -> Iterable[Sample]:
        """Say what is known of processes besides what they count."""
        worst: dict[str, float] = {}
        for source, lag_s in self._lags.items():
            worst[_role(source)] = max(worst.get(_role(source), 0.0), lag_s)
        for role, lag_s in worst.items():
            yield _of(role, "rolekit.loop.lag", lag_s)
        for role, count in self._restarts.items():
            yield _of(role, "rolekit.restarts", count)

    async def text(self, status: FleetStatus) -> str:
        """Return all numbers as Prometheus wants them."""
        return prometheus(await self.read(status), {"app": status.app})

    async def _holes(self) -> Mapping[str, OpenSequences]:
        """Say what is in flight; a database that is away says nothing."""
        async with self._looking:
            now_s = self._clock()
            if self._gathers and now_s - self._looked_s >= HOLES_EVERY_S:
                self._looked_s = now_s
                try:
                    self._open = await self._look_at(self._gathers)
                except RolekitError:
                    self._open = {}
        return self._open


def _seen(status: FleetStatus) -> Iterable[Sample]:
    """Say what the supervisor sees of each role."""
    for role in status.roles:
        yield _of(role.role, "rolekit.in_hand", role.in_hand)
        if role.waiting is not None:
            yield _of(role.role, "rolekit.waiting", role.waiting)
        if role.oldest_s is not None:
            yield _of(role.role, "rolekit.oldest.age", role.oldest_s)
        if role.dead is not None:
            yield _of(role.role, "rolekit.dead_letters", role.dead)
        yield from (_of(role.role, name, 0) for name in FROM_THE_START)
        for state, count in (("wanted", role.instances), ("ready", role.ready)):
            labels = (("role", role.role), ("state", state))
            yield Sample("rolekit.instances", labels, count)


def _of(role: str, name: str, value: float) -> Sample:
    return Sample(name, (("role", role),), value)


def _labelled(role: str, samples: Iterable[Sample]) -> tuple[Sample, ...]:
    return tuple(
        Sample(one.name, tuple(sorted((*one.labels, ("role", role)))), one.value, one.counts)
        for one in samples
    )


def _adds_up(sample: Sample) -> bool:
    return METRICS[sample.name].kind != "gauge"


def _role(source: str) -> str:
    return source.partition("/")[0]
