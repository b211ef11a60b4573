"""Which partitions this instance owns: a turn each second, or when somebody rings.

Each turn renews the membership, reads who else is there, and compares what this instance
has with its share. Too much of it is given: nothing more begins, what runs is finished, the
channel is closed, and only then the row is free for the next one. What is free and ours is
taken under a new epoch before anything of it is read.

A member that does not say so again in time is none, and others take what it had. So nothing
begins here when the last turn is too long ago, and the epoch refuses what began before.

Source: DESIGN "Order (b)", 4.8.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog

from rolekit.errors import ConfigError, RolekitError
from rolekit.model.shares import shares
from rolekit.store.keys import Fence

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from rolekit.flow.runtime import Runtime
    from rolekit.store.keys import Roll

log = structlog.get_logger("rolekit.keys")

EVERY_S = 1.0
VALID_S = 3.0
"""So long after a turn began, what it found may be acted upon."""
LEAVE_S = 2.0


class Holder(Protocol):
    """What is told of partitions that come and go."""

    async def gain(self, fence: Fence) -> None:
        """Begin to consume a partition."""

    async def finish(self, fence: Fence) -> None:
        """Let nothing more begin, finish what runs, and stop consuming."""

    async def drop(self, fence: Fence) -> None:
        """Give up at once what is done for a partition that somebody else has."""


class Shares:
    """The partitions of one role that this instance owns.

    Args:
        runtime: Of this process.
        role: Class name.
        holder: Is told.
    """

    def __init__(self, runtime: Runtime, role: str, holder: Holder) -> None:
        self._store = runtime.store
        self._bell = runtime.bell
        self._me = runtime.owner
        self._role = role
        self._partitions = runtime.plan.partitions[role]
        self._holder = holder
        self._topic = f"~keys.{role}"
        self._wake = asyncio.Event()
        self._off = self._bell.on([self._topic], self._wake.set)
        self._running: asyncio.Task[None] | None = None
        self._leaving: dict[int, asyncio.Task[None]] = {}
        self._members: tuple[int, ...] = ()
        self._valid_until_s = 0.0
        self._is_renewed = asyncio.Event()
        self._is_paused = False
        self._is_member = False
        self.held: dict[int, Fence] = {}

    async def start(self) -> None:
        """Make the first turn, and go on with one each second.

        Raises:
            ConfigError: The keys of this role are divided otherwise.
        """
        try:
            await self._store.enrol(self._role, self._partitions)
            await self._turn()
        except ConfigError:
            raise
        except RolekitError as error:
            log.warning("no partitions yet", role=self._role, error=str(error))
        # Owned by stop(), which ends it.
        self._running = asyncio.create_task(self._run(), name=f"shares of {self._role}")

    def pause(self, *, paused: bool) -> None:
        """Be no member while paused: others do the work."""
        self._is_paused = paused
        self._wake.set()

    def look(self) -> None:
        """Make a turn soon."""
        self._wake.set()

    def begin_again(self, fence: Fence) -> None:
        """Give a partition, so that whoever takes it then begins anew."""
        if self.held.get(fence.partition) == fence:
            self._give([fence.partition])

    async def valid(self) -> None:
        """Wait until what is known of the partitions may be acted upon."""
        while asyncio.get_running_loop().time() > self._valid_until_s:
            self._is_renewed.clear()
            await self._is_renewed.wait()

    async def stop(self) -> None:
        """Give everything, and be a member no more."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        self._off()
        self._give(list(self.held))
        await asyncio.gather(*self._leaving.values(), return_exceptions=True)
        await self._leave()

    async def _run(self) -> None:
        enrolled = False
        while True:
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                if not enrolled:
                    await self._store.enrol(self._role, self._partitions)
                    enrolled = True
                await self._turn()
            except RolekitError as error:
                log.warning("cannot look after partitions", role=self._role, error=str(error))
            except Exception:
                log.exception("a turn failed; trying again", role=self._role)

    async def _turn(self) -> None:
        if self._is_paused:
            self._give(list(self.held))
            if not self.held and self._is_member:
                await self._leave()
            return
        began_s = asyncio.get_running_loop().time()
        roll = await self._store.attend(self._role)
        self._is_member = True
        if self._members != tuple(roll.members):
            self._members = tuple(roll.members)
            self._bell.ring([self._topic])
        await self._drop_lost(roll)
        self._valid_until_s = began_s + VALID_S
        self._is_renewed.set()
        owners = {number: row.owner for number, row in roll.partitions.items()}
        mine = shares(owners, roll.members)[self._me]
        self._give(self.held.keys() - mine)
        for number, row in roll.partitions.items():
            if row.owner == self._me and number not in self.held.keys() | mine:
                # What could not be given when it was finished, or was taken without an answer.
                await self._freed(Fence(self._role, number, row.epoch))
        free = [n for n in sorted(mine - self.held.keys()) if owners[n] in (None, self._me)]
        if free:
            for fence in await self._store.take(self._role, free):
                await self._gain(fence)

    async def _drop_lost(self, roll: Roll) -> None:
        for number, fence in list(self.held.items()):
            row = roll.partitions[number]
            is_given = number not in self.held  # while another one was dropped
            if not is_given and (row.epoch, row.owner) != (fence.epoch, self._me):
                log.warning(
                    "a partition has another owner by now",
                    role=self._role, partition=number, epoch=fence.epoch,
                )  # fmt: skip
                del self.held[number]
                await self._holder.drop(fence)

    async def _gain(self, fence: Fence) -> None:
        try:
            await self._holder.gain(fence)
        except BaseException:
            await self._freed(fence)
            raise
        self.held[fence.partition] = fence
        log.info("partition taken", role=self._role, partition=fence.partition)

    def _give(self, numbers: Iterable[int]) -> None:
        for number in sorted(numbers):
            if number not in self._leaving:
                giving = self._give_one(self.held[number])
                self._leaving[number] = asyncio.create_task(giving)

    async def _give_one(self, fence: Fence) -> None:
        try:
            await self._holder.finish(fence)
            await self._freed(fence)
        finally:
            self._leaving.pop(fence.partition, None)
            if self.held.get(fence.partition) == fence:
                del self.held[fence.partition]
            self._wake.set()

    async def _freed(self, fence: Fence) -> None:
        """Let others take it; where that cannot be said, they see it when we are no member."""
        await self._quietly(self._store.give(fence))
        self._bell.ring([self._topic])
        log.info("partition given", role=self._role, partition=fence.partition)

    async def _leave(self) -> None:
        self._is_member = False
        self._members = ()
        await self._quietly(self._store.leave(self._role))
        self._bell.ring([self._topic])

    async def _quietly(self, doing: Coroutine[object, object, None]) -> None:
        try:
            async with asyncio.timeout(LEAVE_S):
                await doing
        except (RolekitError, TimeoutError) as error:
            log.info("partitions not given back yet", role=self._role, error=str(error))
