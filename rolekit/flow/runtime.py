"""What every part of the flow is given: the app as data, and where things are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolekit.flow.blobs import Blobs

if TYPE_CHECKING:
    from rolekit.bell import Bell
    from rolekit.clock import Clock
    from rolekit.model.codec import Codec
    from rolekit.model.envelope import Head, Packet
    from rolekit.model.plan import AppPlan, HandlerPlan
    from rolekit.store.base import Store
    from rolekit.transport.base import Delivery, Subscription, Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """One process's view of an app.

    Attributes:
        plan: The app.
        codec: For its messages.
        store: Where state is kept.
        transport: Where queues are.
        bell: Rings when something came.
        clock: The time.
        owner: Names this process in claims; also its reply queue.
        blobs: Bytes that travel as references.
        unknown_s: How long a type that nobody knows may come again.
    """

    plan: AppPlan
    codec: Codec
    store: Store
    transport: Transport
    bell: Bell
    clock: Clock
    owner: int
    unknown_s: float = 600
    blobs: Blobs = field(init=False)

    def __post_init__(self) -> None:
        """Make what hangs on the rest."""
        object.__setattr__(self, "blobs", Blobs(self.store))

    @property
    def reply_queue(self) -> str:
        """Where answers for this process go."""
        return f"~reply.{self.owner}"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A delivery whose head was read.

    Attributes:
        delivery: As the transport gave it.
        subscription: Where it is settled.
        head: Decoded.
        plan: Of the handler it came to.
    """

    delivery: Delivery
    subscription: Subscription
    head: Head
    plan: HandlerPlan

    @property
    def packet(self) -> Packet:
        """What came."""
        return self.delivery.packet
