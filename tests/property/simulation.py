"""A fleet in one process: the real pipeline, on a broker and a store that fail by seed.

Instances are killed, stopped, paused and started; publishes and commits are repeated, lost
and left unknown; everything is delivered in any order and more than once. What was recorded
is kept apart, commit by commit, so that a test can compare it with what should be.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from rolekit.bell import Bell
from rolekit.errors import PublishUnknown, Unavailable
from rolekit.flow.call import Handler
from rolekit.flow.commit import Committer
from rolekit.flow.consume import Consumer
from rolekit.flow.outbox import Forwarder, Outbox
from rolekit.flow.pipeline import Pipeline
from rolekit.flow.relay import Relay
from rolekit.flow.runtime import Runtime
from rolekit.model.codec import Codec
from rolekit.model.envelope import Head, Kind, Packet, decode_head, encode_head
from rolekit.model.ids import keyed
from rolekit.store.base import Commit, Outcome, Step
from rolekit.store.memory import MemoryStore
from rolekit.store.memory_tables import MemoryTables
from rolekit.transport.memory import Faults, MemoryBroker, MemoryTransport
from tests.property.jumping import LoopClock
from tests.property.simulated_app import APPS, ROLES, Fate, Fated, Start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.plan import AppPlan
    from rolekit.model.position import Path
    from rolekit.model.reassembly import Closing
    from rolekit.store.base import Outgoing, SequenceView

LIMIT_S = 3_000
FAULTS: tuple[Faults, ...] = ("none", "repeat", "shuffle")
ROOTS = 3


@dataclass
class Record:
    """What was committed.

    Attributes:
        outcomes: Of each generation of each id.
        order: The generations of each id in the order of their commits.
        steps: Every step that took effect, in order.
        seen: Every packet that a queue took, in order.
        early: Generations that were sent before the one before them was recorded.
    """

    outcomes: dict[tuple[str, int], Outcome] = field(
        default_factory=dict[tuple[str, int], Outcome]
    )
    steps: list[Step] = field(default_factory=list[Step])
    seen: list[Packet] = field(default_factory=list[Packet])
    twice: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    early: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])

    def commit(self, steps: Sequence[Step], commit: Commit) -> None:
        """Note the steps that took effect: of copies in one batch, the first."""
        left = set(commit.fresh)
        for step in steps:
            if step.key in left:
                left.discard(step.key)
                if step.key in self.outcomes:
                    self.twice.append(step.key)
                self.outcomes[step.key] = step.outcome
                self.steps.append(step)

    def sent(self, packet: Packet) -> None:
        """Note a packet that a queue took."""
        self.seen.append(packet)
        before = (packet.id, packet.generation - 1)
        if packet.generation and before not in self.outcomes:
            self.early.append((packet.id, packet.generation))


class ShakyStore(MemoryStore):
    """Commits fail, before they happen or after."""

    def __init__(self, tables: MemoryTables, owner: int, fate: Fate, record: Record) -> None:
        super().__init__(tables, owner=owner)
        self._fate = fate
        self._record = record

    async def commit(self, steps: Sequence[Step]) -> Commit:
        await asyncio.sleep(self._fate.random.random() * 0.01)
        if self._fate.happens():
            raise Unavailable("drawn: before the commit")
        commit = await super().commit(steps)
        self._record.commit(steps, commit)
        if self._fate.happens():
            raise Unavailable("drawn: after the commit")
        await asyncio.sleep(self._fate.random.random() * 0.01)
        return commit

    async def view(self, sequence: str, limit: int, *, whole: bool) -> SequenceView | None:
        view = await super().view(sequence, limit, whole=whole)
        await asyncio.sleep(self._fate.random.random() * 0.02)  # it is old when it arrives
        return view

    async def seal(
        self, sequence: str, before: Path, end: Path, closings: Sequence[Closing]
    ) -> Path | None:
        await asyncio.sleep(self._fate.random.random() * 0.02)
        return await super().seal(sequence, before, end, closings)

    async def forget(self, sent: Sequence[int]) -> None:
        if self._fate.happens():
            raise Unavailable("drawn")
        await super().forget(sent)


class ShakyTransport(MemoryTransport):
    """Publishes are lost, repeated, or happen and say nothing."""

    def __init__(self, broker: MemoryBroker, fate: Fate) -> None:
        super().__init__(broker)
        self._fate = fate

    async def publish(self, packets: Sequence[Packet]) -> None:
        await asyncio.sleep(self._fate.random.random() * 0.01)
        if self._fate.happens():
            raise PublishUnknown("drawn: nothing was stored")
        await super().publish(packets)
        if self._fate.happens():
            raise PublishUnknown("drawn: everything was stored")


class Copy:
    """One instance, which can be killed."""

    def __init__(self, world: World, owner: int) -> None:
        plan, role = world.plan, world.role()
        self.store = ShakyStore(world.tables, owner, world.fate, world.record)
        self.transport = ShakyTransport(world.broker, world.fate)
        self._runtime = Runtime(
            plan=plan,
            codec=Codec(plan.types, plan.wire_names, plan.codec),
            store=self.store,
            transport=self.transport,
            bell=Bell(),
            clock=LoopClock(),
            owner=owner,
        )
        handlers = {
            one.name: Handler(one, getattr(role, one.method)) for one in plan.handlers.values()
        }
        self._outbox = Outbox(self.transport, self.store)
        committer = Committer(self.store, self._runtime.bell, self._outbox)
        forwarder = Forwarder(self.transport)
        pipeline = Pipeline(self._runtime, handlers, committer, forwarder, lambda _: None)
        self.consumer = Consumer(self._runtime, handlers, pipeline, committer, 5)
        relay = Relay(
            self.store, self.transport, self._runtime.bell, LoopClock(), self._outbox.leave
        )
        self._loops = [committer.run, forwarder.run, self._outbox.run, relay.run]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to take messages."""
        await self.transport.declare(self._runtime.plan.handlers)
        self._tasks = [asyncio.create_task(loop()) for loop in self._loops]
        await self.consumer.start()

    async def kill(self) -> None:
        """Die, in the middle of whatever it does."""
        self.store.crash()
        self.transport.crash()
        await self._end()
        await self.consumer.stop(0)

    async def stop(self, grace_s: float) -> None:
        """Finish what is in hand within a time, hand back the rest."""
        await self.consumer.stop(grace_s)
        await self.transport.stop()
        await self._end()
        self.store.crash()  # what it had not sent may be adopted

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    def check(self) -> None:
        """Raise what ended one of its loops."""
        for task in self._tasks:
            if task.done():
                task.result()


class World:
    """Everything that one seed makes.

    Args:
        name: Of the app.
        seed: Of everything.
    """

    def __init__(self, name: str, seed: int) -> None:
        self.fate = Fate(seed, chance=random.Random(seed).choice((0.03, 0.1, 0.25)))  # noqa: S311
        self.app = APPS[name]
        self.role: type[Fated] = ROLES[name]
        self.role.fate = self.fate
        self.plan: AppPlan = self.app.plan()
        self.tables = MemoryTables(clock=LoopClock())
        faults = self.fate.random.choice(FAULTS)
        self.broker = MemoryBroker(LoopClock(), faults=faults, seed=seed)
        self.record = Record()
        self.broker.watch = self.record.sent
        self.roots = [keyed(str(seed), str(number)) for number in range(ROOTS)]
        self._copies: list[Copy] = []
        self._owners = 0

    async def live(self) -> None:
        """Send, disturb for a while, then leave everybody in peace until all is done."""
        random.seed(self.fate.seed)
        for _ in range(2):
            self._copies.append(await self._started())
        await self._send()
        for _ in range(self.fate.random.choice((0, 4, 12))):
            await asyncio.sleep(self.fate.random.random() * 0.4)
            await self._disturb()
        self.fate.chance = 0
        await self._settle()
        while open_ones := [row.id for row in self.tables.dead.values() if not row.is_closed]:
            if self.app.name != "Waits":
                break
            commit = await self._copies[0].store.replay(open_ones, force=False)
            self._leave(commit.leaving)
            await self._settle()
        for copy in self._copies:
            copy.check()
            await copy.stop(5)

    def _leave(self, rows: Sequence[Outgoing]) -> None:
        for row in rows:
            self.tables.outbox[row.n].owner = 0

    async def _started(self) -> Copy:
        self._owners += 1
        copy = Copy(self, self._owners)
        await copy.start()
        return copy

    async def _send(self) -> None:
        name, version, body = "Start", 1, msgspec.json.encode(Start(name="s", at="0"))
        queue = f"{self.app.name}.split"
        for id_ in self.roots:
            head = encode_head(Head(type=name, type_version=version, root=id_))
            packet = Packet(queue=queue, id=id_, head=head, body=body)
            self.broker.store([packet])

    async def _disturb(self) -> None:
        index = self.fate.random.randrange(len(self._copies))
        copy = self._copies[index]
        match self.fate.random.choice(("kill", "kill", "stop", "pause")):
            case "kill":
                await copy.kill()
                self._copies[index] = await self._started()
            case "stop":
                await copy.stop(self.fate.random.choice((0, 0.05, 2)))
                self._copies[index] = await self._started()
            case _:
                copy.consumer.pause()
                await asyncio.sleep(self.fate.random.random() * 0.1)
                copy.consumer.resume()

    async def _settle(self) -> None:
        """Wait until nothing is under way."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + LIMIT_S
        while self.under_way():
            await asyncio.sleep(0.5)
            for copy in self._copies:
                copy.check()
            assert loop.time() < until_s, f"stuck: {self.under_way()}"

    def under_way(self) -> list[str]:
        """Say what is still to be done."""
        busy = [f"{name}: {depth}" for name, depth in self.broker.busy().items()]
        rows = [f"outbox: {row}" for row in self.tables.outbox.values()]
        return busy + rows + [f"schedule: {due}" for due in self.tables.schedule.values()]

    def is_message(self, packet: Packet) -> bool:
        """Whether a packet is a message, and no token."""
        return decode_head(packet.head).kind is not Kind.RELEASE
