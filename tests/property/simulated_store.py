"""The model store: commits fail before they happen or after, and members run out of time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rolekit.errors import Unavailable
from rolekit.store.keys import Fence, Owned, Roll
from rolekit.store.memory import MemoryStore
from rolekit.store.memory_tables import ORPHAN
from rolekit.store.postgres.keys import JUDGE_AFTER_S, MEMBER_S
from tests.property.simulated_host import Held

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.envelope import Packet
    from rolekit.model.position import Path
    from rolekit.model.reassembly import Closing
    from rolekit.store.base import (
        Accept,
        Commit,
        Due,
        KeyRow,
        Outgoing,
        SequenceView,
        Step,
        Streamed,
    )
    from rolekit.store.keys import Aside, Hold
    from rolekit.store.memory_tables import MemoryTables
    from tests.property.simulated_fate import Fate
    from tests.property.simulated_host import Leases
    from tests.property.simulated_record import Record


Members = dict[tuple[str, int], Held]
"""By role and owner."""


class ShakyStore(MemoryStore):
    """One process's connection to the model store.

    Args:
        tables: Shared.
        owner: Names the process.
        fate: Draws what fails.
        record: Notes what took effect.
        members: Shared.
        leases: Shared.

    Attributes:
        is_away: Nothing gets through to it.
    """

    def __init__(
        self,
        tables: MemoryTables,
        owner: int,
        fate: Fate,
        record: Record,
        members: Members,
        leases: Leases,
    ) -> None:
        super().__init__(tables, owner=owner)
        self._fate = fate
        self._record = record
        self._members = members
        self._leases = leases
        self.is_away = False

    async def _go(self, within_s: float = 0.01) -> None:
        """Reach the server, or not."""
        if within_s and self._fate.happens(0.5):
            await asyncio.sleep(self._fate.random.random() * within_s)
        if self.is_dead or self.is_away or self._fate.happens():
            raise Unavailable("drawn: it was not reached")

    async def _come_back(self) -> None:
        if self.is_away or self._fate.happens():
            raise Unavailable("drawn: the answer was lost")
        if self._fate.happens(0.5):
            await asyncio.sleep(self._fate.random.random() * 0.01)

    # -- commits -------------------------------------------------------------------------------

    async def commit(self, steps: Sequence[Step]) -> Commit:
        await self._go()
        commit = await super().commit(steps)
        self._record.commit(steps, commit)
        await self._come_back()
        return commit

    async def commit_whole(self, steps: Sequence[Step]) -> Commit:
        await self._go()
        commit = await super().commit_whole(steps)
        self._record.together.append(self._record.commit(steps, commit))
        await self._come_back()
        return commit

    async def accept(
        self,
        packets: Sequence[Packet],
        later: Sequence[Due],
        key: KeyRow | None,
        streamed: Sequence[Streamed] = (),
    ) -> tuple[Commit, KeyRow | None]:
        await self._go()
        done = await super().accept(packets, later, key, streamed)
        self._record.stream(streamed)
        await self._come_back()
        return done

    async def accept_all(
        self, requests: Sequence[Accept]
    ) -> tuple[Commit, list[KeyRow | None]]:
        await self._go()
        done = await super().accept_all(requests)
        await self._come_back()
        return done

    async def forget(self, sent: Sequence[int]) -> None:
        await self._go(0)
        await super().forget(sent)

    # -- the relay -----------------------------------------------------------------------------

    async def move_due(self, now_ms: int, limit: int) -> Commit:
        await self._go(0)
        return await super().move_due(now_ms, limit)

    async def expire(self, now_ms: int, limit: int) -> Commit:
        await self._go(0)
        return await super().expire(now_ms, limit)

    async def adopt(self, limit: int) -> list[Outgoing]:
        await self._go(0)
        for row in self.tables.outbox.values():
            if self._leases.may_take_over(self.owner, row.owner):
                row.owner = ORPHAN
        found = await super().adopt(limit)
        await self._come_back()
        return found

    async def unsent(self, known: Sequence[int], limit: int) -> list[Outgoing]:
        await self._go(0)
        return await super().unsent(known, limit)

    # -- what is read --------------------------------------------------------------------------

    async def view(self, sequence: str, limit: int, *, whole: bool) -> SequenceView | None:
        view = await super().view(sequence, limit, whole=whole)
        await asyncio.sleep(self._fate.random.random() * 0.02)  # it is old when it arrives
        return view

    async def seal(
        self, sequence: str, before: Path, end: Path, closings: Sequence[Closing]
    ) -> Path | None:
        await asyncio.sleep(self._fate.random.random() * 0.02)
        return await super().seal(sequence, before, end, closings)

    async def seen(self, keys: Sequence[tuple[str, int, int]]) -> set[tuple[str, int]]:
        await self._go()
        return await super().seen(keys)

    # -- keys ----------------------------------------------------------------------------------

    async def enrol(self, role: str, partitions: int) -> None:
        await self._go()
        await super().enrol(role, partitions)

    async def attend(self, role: str) -> Roll:
        await self._go()
        self._check_life()
        now_s = asyncio.get_running_loop().time()
        self._members.setdefault((role, self.owner), Held(now_s, 0)).renew(MEMBER_S)
        alive = self._alive(role)
        there = {
            number: row if row.owner in alive else row._replace(owner=None)
            for number, row in self.keys.owned[role].items()
        }
        await self._come_back()
        return Roll(sorted(alive), there)

    def _alive(self, role: str) -> set[int]:
        """Say who is a member, as this one may judge: not while it was away itself."""
        now_s = asyncio.get_running_loop().time()
        me = self._members.get((role, self.owner))
        may_judge = me is not None and me.since_s < now_s - JUDGE_AFTER_S
        return {
            owner
            for (of, owner), member in self._members.items()
            if of == role and (member.until_s > now_s or not may_judge)
        }

    async def leave(self, role: str) -> None:
        await self._go()
        await super().leave(role)
        self._members.pop((role, self.owner), None)
        await self._come_back()

    async def take(self, role: str, numbers: Sequence[int]) -> list[Fence]:
        await self._go()
        self._check_life()
        alive, there = self._alive(role), self.keys.owned[role]
        taken: list[Fence] = []
        for number in numbers:
            epoch, owner = there[number]
            if owner is None or owner == self.owner or owner not in alive:
                there[number] = Owned(epoch + 1, self.owner)
                taken.append(Fence(role, number, epoch + 1))
        self._record.take(taken)
        await self._come_back()
        return taken

    async def give(self, fence: Fence) -> None:
        await self._go()
        await super().give(fence)
        await self._come_back()

    async def holds(self, fence: Fence) -> dict[str, Hold]:
        await self._go()
        return await super().holds(fence)

    async def next_aside(self, fence: Fence, key: str, limit: int) -> list[Aside]:
        await self._go()
        found = await super().next_aside(fence, key, limit)
        await self._come_back()
        return found

    async def set_aside(
        self, fence: Fence, key: str, packets: Sequence[Packet], claims: Sequence[int]
    ) -> None:
        await self._go()
        await super().set_aside(fence, key, packets, claims)
        self._record.owned([fence])
        await self._come_back()

    def crash(self) -> None:
        super().crash()
        for at in [at for at in self._members if at[1] == self.owner]:
            del self._members[at]
