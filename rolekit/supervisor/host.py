"""What a supervisor needs from the databases, as Protocols; `wiring.py` implements them.

Each of these bears an outage: it waits, tries again, or says less, and never ends the fleet.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from rolekit.observe.recalls import Recalls

if TYPE_CHECKING:
    from rolekit.model.span import Span
    from rolekit.supervisor.wire import Described


class Standing(Protocol):
    """What stands in one queue."""

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
    def consumers(self) -> int | None:
        """Who takes from it, on any host; None: nobody tells."""
        ...


class QueueDepth(Standing, Protocol):
    """What stands in the queue of one handler, and what died there."""

    @property
    def dead(self) -> int:
        """Dead letters of this handler that are open."""
        ...


def is_told(standing: Standing, ready: int) -> bool:
    """Whether a broker said what stands in a queue, from which so many instances here take.

    One that is too busy to look says that nothing is there, and nobody takes from it.

    Source: RabbitMQ 3.10, `rabbit_quorum_queue:stat/2`.
    """
    return not (ready and standing.consumers == 0 and standing.waiting == 0)


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


@dataclass(frozen=True, slots=True)
class Backlog:
    """What roles that scale by themselves are measured by.

    Attributes:
        depths: By queue.
        stood_s: By gather: how long the sequence that stood still longest has, seconds.
        hosts: By role: how many supervisors run it; those that none is known of are missing.
    """

    depths: Mapping[str, Standing]
    stood_s: Mapping[str, float]
    hosts: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class OpenSequences:
    """The sequences of a gather that are in flight: each waits for a position, its hole.

    Attributes:
        count: How many, up to 10,000.
        stood_s: How long the one that stood still longest has, seconds.
    """

    count: int
    stood_s: float


class TraceKeeper(Recalls, Protocol):
    """Keeps recent traces, and which of them are asked for."""

    async def keep(self, spans: Sequence[Span]) -> None:
        """Keep spans; one that ended replaces itself as it began."""
        ...

    async def tidy(self) -> None:
        """Drop what is too old."""
        ...


Measure = Callable[[Sequence[str], Mapping[str, float]], Awaitable[Backlog]]
"""`measure(queues, gathers)` says what stands in queues, and how long sequences stood still.

Gathers come with the age from which on a sequence is not looked at: what holds it up so long
is not that a queue is long.
"""


LookAt = Callable[[Sequence[str]], Awaitable[Mapping[str, OpenSequences]]]
"""`look_at(gathers)` says which of their sequences are in flight."""


async def none_open(_gathers: Sequence[str]) -> Mapping[str, OpenSequences]:
    """Say that no sequence is."""
    return {}


async def nothing_waits(_queues: Sequence[str], _gathers: Mapping[str, float]) -> Backlog:
    """Say that nothing waits anywhere."""
    return Backlog({}, {})


async def needs_nothing(_version: Described) -> None:
    """Be content with what is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the fleet stands on, once databases are there.

    Attributes:
        host: The link to them.
        broker: URL that instances get; empty: the database itself.
        database: URL that instances get.
        pooler: URL that all instances but relays connect to instead; empty: there is none.
        measure: For roles that scale by themselves.
        sequences: For whoever reads numbers.
        adopt: Makes what another version of the app needs besides; raises a `RolekitError`
            when it cannot be had.
        traces: Keeps them; None: nobody does.
    """

    host: HostLink
    broker: str
    database: str
    pooler: str = ""
    measure: Measure = nothing_waits
    sequences: LookAt = none_open
    adopt: Callable[[Described], Awaitable[None]] = needs_nothing
    traces: TraceKeeper | None = None
