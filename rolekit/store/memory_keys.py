"""Keys in the store in memory: members, partitions, held keys, waiting lists."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolekit.errors import Unavailable
from rolekit.model.keys import partition_of
from rolekit.store.keys import Aside, Fence, Hold, Owned, Roll, lost, other_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rolekit.model.envelope import Packet
    from rolekit.store.base import Step

Key = tuple[str, str]
"""Role and key."""


@dataclass(slots=True)
class KeyTables:
    """What is kept of keys.

    Attributes:
        members: Role and owner of each instance; one that crashed is none.
        owned: Of each role, its partitions.
        held: By whose id a key is held.
        lists: Of each key, its waiting list, in order.
    """

    members: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    owned: dict[str, dict[int, Owned]] = field(default_factory=dict[str, dict[int, Owned]])
    held: dict[Key, str] = field(default_factory=dict[Key, str])
    lists: dict[Key, list[Aside]] = field(default_factory=dict[Key, list[Aside]])
    rows: int = 0

    def check(self, fences: Iterable[Fence]) -> None:
        """Refuse fences that are not the newest of their partitions.

        Raises:
            FenceLost: One is not.
        """
        for fence in fences:
            if self.owned[fence.role][fence.partition].epoch != fence.epoch:
                raise lost(fence)

    def settle(self, steps: Iterable[Step], fresh: set[tuple[str, int]]) -> None:
        """Hold and free keys as steps say, and strike from their lists what had its outcome."""
        for step in steps:
            keyed = step.keyed
            if keyed is None:
                continue
            at = (keyed.fence.role, keyed.key)
            if keyed.listed is not None:
                self.strike(at, keyed.listed)
            if step.key not in fresh:
                continue
            if keyed.holds:
                self.held[at] = step.id
            elif keyed.frees and self.held.get(at) == step.id:
                del self.held[at]

    def strike(self, at: Key, n: int) -> None:
        """Take a row out of a waiting list."""
        left = [aside for aside in self.lists.get(at, ()) if aside.n != n]
        if left:
            self.lists[at] = left
        else:
            self.lists.pop(at, None)

    def crash(self, owner: int) -> None:
        """Forget a member that died, and free what it owned."""
        self.members = {each for each in self.members if each[1] != owner}
        for partitions in self.owned.values():
            for number, row in partitions.items():
                if row.owner == owner:
                    partitions[number] = row._replace(owner=None)


class MemoryKeyStore:
    """Keeps the contract of `store.keys.KeyStore`."""

    keys: KeyTables
    owner: int
    is_dead: bool

    async def enrol(self, role: str, partitions: int) -> None:
        """Make a role's partitions if they are not there."""
        there = self.keys.owned.setdefault(
            role, dict.fromkeys(range(partitions), Owned(0, None))
        )
        if len(there) != partitions:
            raise other_number(role, len(there), partitions)

    async def attend(self, role: str) -> Roll:
        """Be a member of a role, and see who else is."""
        self._check_life()
        self.keys.members.add((role, self.owner))
        members = sorted(owner for name, owner in self.keys.members if name == role)
        return Roll(members, dict(self.keys.owned[role]))

    async def leave(self, role: str) -> None:
        """Be a member no more."""
        self._check_life()
        self.keys.members.discard((role, self.owner))
        for number, row in self.keys.owned.get(role, {}).items():
            if row.owner == self.owner:
                self.keys.owned[role][number] = row._replace(owner=None)

    async def take(self, role: str, numbers: Sequence[int]) -> list[Fence]:
        """Own these partitions, as far as no other member does."""
        self._check_life()
        taken: list[Fence] = []
        there = self.keys.owned[role]
        for number in numbers:
            row = there[number]
            if row.owner is None or row.owner == self.owner:
                there[number] = Owned(row.epoch + 1, self.owner)
                taken.append(Fence(role, number, row.epoch + 1))
        return taken

    async def give(self, fence: Fence) -> None:
        """Own a partition no more."""
        self._check_life()
        there = self.keys.owned[fence.role]
        if there[fence.partition] == Owned(fence.epoch, self.owner):
            there[fence.partition] = Owned(fence.epoch, None)

    async def holds(self, fence: Fence) -> dict[str, Hold]:
        """List the keys of a partition that cannot simply go on."""
        count = len(self.keys.owned[fence.role])
        keys = {key for role, key in (*self.keys.held, *self.keys.lists) if role == fence.role}
        mine = [key for key in keys if partition_of(key, count) == fence.partition]
        return {key: await self.hold_of(fence, key) for key in sorted(mine)}

    async def hold_of(self, fence: Fence, key: str) -> Hold:
        """Say what keeps a key from going on."""
        at = (fence.role, key)
        return Hold(self.keys.held.get(at, ""), at in self.keys.lists)

    async def set_aside(
        self, fence: Fence, key: str, packets: Sequence[Packet], claims: Sequence[int]
    ) -> None:
        """Append messages to a key's waiting list; those in it stay."""
        del claims  # no transport shares this store
        self._check_life()
        self.keys.check([fence])
        waiting = self.keys.lists.setdefault((fence.role, key), [])
        there = {(aside.packet.id, aside.packet.generation) for aside in waiting}
        for packet in packets:
            if (packet.id, packet.generation) not in there:
                there.add((packet.id, packet.generation))
                self.keys.rows += 1
                waiting.append(Aside(self.keys.rows, packet))

    async def next_aside(self, fence: Fence, key: str, limit: int) -> list[Aside]:
        """Read the first messages of a key's waiting list."""
        return self.keys.lists.get((fence.role, key), [])[:limit]

    async def strike(self, fence: Fence, n: int) -> None:
        """Take a message out of its waiting list."""
        self._check_life()
        for at in [at for at in self.keys.lists if at[0] == fence.role]:
            self.keys.strike(at, n)

    async def count_aside(self) -> dict[str, int]:
        """Count what waits in waiting lists, by queue."""
        counts: dict[str, int] = {}
        for aside in (aside for waiting in self.keys.lists.values() for aside in waiting):
            counts[aside.packet.queue] = counts.get(aside.packet.queue, 0) + 1
        return counts

    def _check_life(self) -> None:
        if self.is_dead:
            raise Unavailable("This connection to the store in memory has crashed.")
