"""What a supervisor needs from the databases, as Protocols; `wiring.py` implements them.

Each of these bears an outage: it waits, tries again, or says less, and never ends the fleet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from rolekit.supervisor.wire import Described


class QueueDepth(Protocol):
    """What stands in the queue of one handler."""

    @property
    def waiting(self) -> int:
        """Messages nobody holds."""
        ...

    @property
    def in_hand(self) -> int:
        """Messages delivered and not yet settled."""
        ...

    @property
    def oldest_s(self) -> float:
        """Age of the oldest waiting message, seconds; 0 when none waits."""
        ...

    @property
    def dead(self) -> int:
        """Dead letters of this handler that are open."""
        ...


class HostLink(Protocol):
    """This host's lease, and what its instances hold."""

    @property
    def epoch(self) -> int:
        """Of the lease; higher than that of any supervisor before."""
        ...

    async def release(self, owner: int, *, crashed: bool = True) -> None:
        """Give back what an instance held that ended. Tries until it is done.

        Args:
            owner: The instance.
            crashed: It died, rather than ended in good order.
        """
        ...

    def topics(self) -> AsyncIterator[list[str]]:
        """Say for which topics something arrived, again and again."""
        ...

    def lease(self) -> AsyncIterator[bool]:
        """Say whether the lease is held, now and at each change."""
        ...

    async def depths(self) -> Mapping[str, QueueDepth]:
        """Say what stands in the queue of each handler, by its name."""
        ...


async def needs_nothing(_version: Described) -> None:
    """Be content with what is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the fleet stands on, once databases are there.

    Attributes:
        host: The link to them.
        broker: URL that instances get; empty: the database itself.
        database: URL that instances get.
        adopt: Makes what another version of the app needs besides; raises a `RolekitError`
            when it cannot be had.
    """

    host: HostLink
    broker: str
    database: str
    adopt: Callable[[Described], Awaitable[None]] = needs_nothing
