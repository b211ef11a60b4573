"""The hosts of the simulated fleet: each keeps a lease for its instances, by rolekit's loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolekit.errors import Unavailable
from rolekit.store.lease import LEASE_S, Lease

if TYPE_CHECKING:
    from tests.property.simulated_copy import Copy

SURE_AFTER_S = 15.0
"""A host judges others when it has held its own lease for so long."""


@dataclass(slots=True)
class Held:
    """A lease, or a membership, as its row says, by the time of the loop."""

    since_s: float
    until_s: float

    def renew(self, for_s: float) -> None:
        """Hold it for so long from now; anew, if it ran out."""
        now_s = asyncio.get_running_loop().time()
        if self.until_s < now_s:
            self.since_s = now_s
        self.until_s = now_s + for_s


@dataclass
class Leases:
    """The leases of all hosts.

    Attributes:
        rows: By host.
        host_of: The host of each instance.
    """

    rows: dict[int, Held] = field(default_factory=dict[int, Held])
    host_of: dict[int, int] = field(default_factory=dict[int, int])

    def holds(self, owner: int) -> bool:
        """Whether an instance's host holds its lease."""
        return self.rows[self.host_of[owner]].until_s > asyncio.get_running_loop().time()

    def may_take_over(self, asker: int, owner: int) -> bool:
        """Whether an instance may take what another one left: only from a lost host."""
        if not owner or self.holds(owner) or not self.holds(asker):
            return False
        now_s = asyncio.get_running_loop().time()
        return self.rows[self.host_of[asker]].since_s < now_s - SURE_AFTER_S


class Host:
    """One host, and the instances on it.

    Args:
        number: Names it.
        leases: Of all.

    Attributes:
        is_away: Nothing of its supervisor gets through to the store, and nothing comes back.
    """

    def __init__(self, number: int, leases: Leases) -> None:
        self.number = number
        self.copies: list[Copy] = []
        self.is_away = False
        self._leases = leases
        self._lease = Lease(self._renew, self._nothing)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Take the lease, and keep it."""
        now_s = asyncio.get_running_loop().time()
        self._leases.rows[self.number] = Held(now_s, now_s + LEASE_S)
        self._tasks = [
            asyncio.create_task(self._lease.keep()), asyncio.create_task(self._tell()),
        ]  # fmt: skip

    def end(self) -> None:
        """Renew no more."""
        for task in self._tasks:
            task.cancel()

    async def _renew(self) -> None:
        if self.is_away:
            await asyncio.sleep(self.number % 2 * LEASE_S)  # some refuse, some say nothing
            raise Unavailable("drawn: it was not reached")
        self._leases.rows[self.number].renew(LEASE_S)

    async def _nothing(self) -> None:
        """Have nothing to hand back."""

    async def _tell(self) -> None:
        """Tell instances, over their pipes, whether to go on."""
        async for held in self._lease.changes():
            for copy in self.copies:
                copy.later(copy.instance.pause, not held, "lease")
