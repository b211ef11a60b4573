"""One key of a partition: what came of it, and what keeps it from going on."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from rolekit.model.envelope import Head
    from rolekit.store.keys import Aside, Fence
    from rolekit.transport.base import Delivery, Subscription


@dataclass(slots=True, eq=False)
class Item:
    """A message of a key.

    Attributes:
        delivery: As it came; of one from the waiting list, made for it.
        head: Decoded.
        came_s: When, by the loop's clock.
        listed: Row of the waiting list that it came from.
    """

    delivery: Delivery
    head: Head
    came_s: float
    listed: int | None = None


@dataclass(slots=True, eq=False)
class Lane:
    """The messages of one key in this instance, in order.

    What is in the waiting list comes before what arrived. While a message holds the key,
    only generations of it run, and whatever else arrives goes into the list.

    Attributes:
        key: Whose.
        arrived: From the queue, in its order.
        listed: Read from the waiting list, in its order; there may be more.
        has_list: Whether there may be a waiting list.
        holder: Id of the message that holds the key, or empty.
        task: Works through it; None while there is nothing to do.
        has_begun: A message of it is with its handler, or being committed.
        came: Set when something arrives, while a message of it waits for a limit.
    """

    key: str
    arrived: deque[Item] = field(default_factory=deque[Item])
    listed: deque[Aside] = field(default_factory=deque["Aside"])
    has_list: bool = False
    holder: str = ""
    task: asyncio.Task[None] | None = None
    has_begun: bool = False
    came: asyncio.Event | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing need be known of it."""
        return not (self.arrived or self.listed or self.has_list or self.holder)

    def others(self, first: str = "") -> list[Item]:
        """Take out what arrived and must wait behind a message: the one that holds the key."""
        first = first or self.holder
        others = [it for it in self.arrived if it.delivery.packet.id != first]
        if others:
            own = [it for it in self.arrived if it.delivery.packet.id == first]
            self.arrived.clear()
            self.arrived.extend(own)
        return others


@dataclass(slots=True, eq=False)
class Partition:
    """A partition that this instance owns.

    Attributes:
        fence: Names it, under this owner.
        queue: Where its messages come from.
        valid: Waits until it may be acted upon that this instance owns it.
        lanes: By key.
        subscription: Set when it begins to be consumed.
        is_leaving: Nothing more begins; it is given to somebody else.
    """

    fence: Fence
    queue: str
    valid: Callable[[], Awaitable[None]]
    lanes: dict[str, Lane] = field(default_factory=dict[str, Lane])
    subscription: Subscription | None = None
    is_leaving: bool = False

    def lane(self, key: str) -> Lane:
        """Return the lane of a key."""
        found = self.lanes.get(key)
        if found is None:
            found = self.lanes[key] = Lane(key)
        return found

    @property
    def consumed(self) -> Subscription:
        """The subscription its messages come from."""
        assert self.subscription is not None  # noqa: S101 - messages come from it
        return self.subscription


class NoSubscription:
    """Where messages of a waiting list are settled: their commit strikes them from it."""

    def ack(self, deliveries: object) -> None:
        """Do nothing."""

    def release(self, deliveries: object) -> None:
        """Do nothing."""

    def hand_back(self, deliveries: object) -> None:
        """Do nothing."""

    async def run_alone(self, delivery: object) -> None:
        """Do nothing."""

    def widen(self, queue: str, window: int) -> None:
        """Do nothing."""

    def pause(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""

    async def flush(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""
