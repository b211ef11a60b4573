"""Keys in a store: who owns which partition, which key is held, what waits behind it.

A role's partitions are divided among its members, which are instances that say so again and
again. A partition is owned under an epoch, raised by each new owner; a step of a keyed
message names the epoch it began under, and a commit under an older one is refused.

A message that failed holds its key: until one of its later generations is done, or it is
dropped, its followers are set aside into the key's waiting list, in order.

Source: DESIGN 4.8 and "Order (b)".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from rolekit.errors import CodecError, ConfigError, FenceLost
from rolekit.model.envelope import (
    Attempts,
    KeyedHead,
    Kind,
    Packet,
    decode_head,
    encode_head,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Fence(NamedTuple):
    """A partition under one of its owners."""

    role: str
    partition: int
    epoch: int


@dataclass(slots=True, kw_only=True)
class KeyedStep:
    """What a step means to the key of its message.

    Attributes:
        fence: Must be the partition's newest, or the step is refused.
        key: Of the message.
        holds: The message failed: the key is held by it from now on.
        frees: The key is held by this message; unless it holds it again, no more.
        listed: Row of the waiting list that this step ends.
        took_effect: Set when the outcome is known: whether the inbox row was free.
    """

    fence: Fence
    key: str
    holds: bool = False
    frees: bool = False
    listed: int | None = None
    took_effect: bool | None = None

    @property
    def leaves_alone(self) -> bool:
        """Whether the key and its waiting list stay as they are."""
        return not (self.holds or self.frees or self.listed is not None)


class Hold(NamedTuple):
    """What keeps a key from going on.

    Attributes:
        by: Id of the message that holds it; empty: none does.
        has_list: Whether messages wait behind it.
    """

    by: str = ""
    has_list: bool = False


class Aside(NamedTuple):
    """A message in a key's waiting list; `n` is its row."""

    n: int
    packet: Packet


class Owned(NamedTuple):
    """A partition as its row says; the owner is None where that is no member any more."""

    epoch: int
    owner: int | None


@dataclass(frozen=True, slots=True)
class Roll:
    """A role's members and partitions at one moment.

    Attributes:
        members: Owner numbers of its instances, the asker's included.
        partitions: By number.
    """

    members: Sequence[int]
    partitions: Mapping[int, Owned]


class KeyStore(Protocol):
    """What a keyed role asks of the store."""

    async def enrol(self, role: str, partitions: int) -> None:
        """Make a role's partitions if they are not there.

        Raises:
            ConfigError: They are there, but another number of them.
        """

    async def attend(self, role: str) -> Roll:
        """Be a member of a role for the next seconds, and see who else is."""
        ...

    async def leave(self, role: str) -> None:
        """Be a member no more; partitions that are still owned become free."""

    async def take(self, role: str, numbers: Sequence[int]) -> list[Fence]:
        """Own these partitions, as far as no other member does, under new epochs."""
        ...

    async def give(self, fence: Fence) -> None:
        """Own a partition no more; does nothing when somebody else does already."""

    async def holds(self, fence: Fence) -> Mapping[str, Hold]:
        """List the keys of a partition that cannot simply go on."""
        ...

    async def hold_of(self, fence: Fence, key: str) -> Hold:
        """Say what keeps a key from going on."""
        ...

    async def set_aside(
        self, fence: Fence, key: str, packets: Sequence[Packet], claims: Sequence[int]
    ) -> None:
        """Append messages to a key's waiting list, and end their claims; those in it stay.

        Raises:
            FenceLost: The partition has a newer epoch; nothing was changed.
        """

    async def next_aside(self, fence: Fence, key: str, limit: int) -> list[Aside]:
        """Read the first messages of a key's waiting list."""
        ...

    async def strike(self, fence: Fence, n: int) -> None:
        """Take a message out of its waiting list that had its outcome elsewhere."""

    async def count_aside(self) -> Mapping[str, int]:
        """Count what waits in waiting lists, by queue."""
        ...


def freeing(dropped: Iterable[Packet]) -> list[Packet]:
    """Make what frees the keys that dropped messages hold: a generation that does nothing.

    It comes to the partition's owner in its turn, as a replay would, and ends like any
    message that was handled.
    """
    packets: list[Packet] = []
    for packet in dropped:
        try:
            head = decode_head(packet.head)
        except CodecError:
            continue
        if isinstance(head, KeyedHead):
            nothing = msgspec.structs.replace(
                head, kind=Kind.TOMBSTONE, type="", frames=(), reply_to="", attempts=Attempts()
            )
            packets.append(
                Packet(
                    queue=packet.queue,
                    id=packet.id,
                    generation=packet.generation + 1,
                    head=encode_head(nothing),
                )
            )
    return packets


def lost(fence: Fence) -> FenceLost:
    """Build the error of a partition that has another owner."""
    return FenceLost(
        f"Partition {fence.partition} of {fence.role} has another owner since epoch "
        f"{fence.epoch}; what was done is discarded."
    )


def other_number(role: str, there: int, wanted: int) -> ConfigError:
    """Build the error of a role whose keys are divided otherwise."""
    return ConfigError(
        f"{role} has partitions = {wanted}, but its keys are divided into {there}.",
        fix=f"Set partitions = {there} again; to change it, see that nothing is left in its "
        "queues, stop the app on every host, and start it with the new number.",
    )
