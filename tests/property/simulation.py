"""A fleet in one process: real instances, on a broker and a store that fail by seed.

Instances are killed, stopped, paused, put to sleep and started, and lose their connections;
publishes and commits are repeated, lost and left unknown; everything is delivered in any
order and more than once. What was recorded is kept apart, commit by commit, so that a test
can compare it with what should be.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from rolekit.model.codec import Codec
from rolekit.model.envelope import Packet, decode_head
from rolekit.model.ids import keyed
from rolekit.model.keys import partition_of
from rolekit.store.base import Outcome
from rolekit.store.memory_tables import MemoryTables
from tests.property.jumping import PROCESS, LoopClock
from tests.property.simulated_app import APPS, ROLES
from tests.property.simulated_broker import ModelBroker
from tests.property.simulated_copy import Copy
from tests.property.simulated_fate import Fate, Fated
from tests.property.simulated_faults import COPIES, Faults
from tests.property.simulated_host import Host, Leases
from tests.property.simulated_record import Record

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from rolekit import Message
    from rolekit.model.plan import AppPlan
    from tests.property.simulated_store import Members

LIMIT_S = 3_000


@cache
def _described(name: str) -> tuple[AppPlan, Codec]:
    plan = APPS[name].plan()
    return plan, Codec(plan.types, plan.wire_names, plan.codec)


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
        self.plan, self.codec = _described(name)
        self.tables = MemoryTables(clock=LoopClock())
        self.members: Members = {}
        self.leases = Leases()
        self.broker = ModelBroker(self.fate, self.leases)
        self.record = Record()
        self.broker.watch = self.record.sent
        self.fate.on_turn = self._turn
        self.roots: list[str] = []
        self.overlaps: list[str] = []
        self.ahead: list[str] = []
        self._turns: set[tuple[object, str]] = set()
        self.copies: list[Copy] = []
        self.hosts: list[Host] = []
        self.faults = Faults(self)

    async def live(self) -> None:
        """Send, disturb for a while, then leave everybody in peace until all is done."""
        random.seed(self.fate.seed)
        try:
            await self._live()
        finally:
            for copy in self.copies:
                copy.process.go_on()
            for host in self.hosts:
                host.end()

    async def _live(self) -> None:
        for _ in range(COPIES):
            await self.add(self.new_host())
        sending = asyncio.create_task(self._send())
        for _ in range(self.fate.random.choice((0, 4, 10))):
            await asyncio.sleep(self.fate.random.random() * 0.4)
            await self.faults.disturb()
        await sending
        await self.faults.over()
        self.fate.chance = 0
        await self.faults.over()
        await self._settle()
        while await self._look_after_dead_letters():
            await self._settle()
        for copy in self.copies:
            copy.check()
            await copy.stop(5)

    async def carry(self, topics: Iterable[str]) -> None:
        """Ring for other instances, if it gets through to them."""
        for copy in self.copies:
            if not self.fate.happens():
                copy.later(copy.runtime.bell.heard, list(topics))

    def new_host(self) -> Host:
        """Add a host without instances."""
        host = Host(len(self.leases.rows) + 1, self.leases)
        self.hosts.append(host)
        host.start()
        return host

    async def add(self, host: Host) -> None:
        """Start one more instance on a host."""
        owner = len(self.leases.host_of) + 1
        self.leases.host_of[owner] = host.number
        copy = Copy(self, owner, host)
        await copy.start()
        self.copies.append(copy)
        host.copies.append(copy)

    def remove(self, copy: Copy) -> None:
        """Forget an instance that is about to end."""
        self.copies.remove(copy)
        copy.host.copies.remove(copy)

    # -- what is sent --------------------------------------------------------------------------

    async def _send(self) -> None:
        for n, message in enumerate(self.role.roots()):
            if self.role.pause_s:
                await asyncio.sleep(self.fate.random.random() * self.role.pause_s)
            root = keyed(str(self.fate.seed), str(n))
            if self.plan.streams:
                copy = self.fate.random.choice(self.copies)
                await copy.send(message, root)
            else:
                self.roots.append(root)
                await self._publish(message, root)

    async def _publish(self, message: Message, root: str) -> None:
        packets = self.copies[0].intake.build(message, root)
        await self.faults.is_whole.wait()
        self.broker.store(packets)
        if self.fate.happens():  # its sender did not learn of it
            self.broker.store(packets)

    # -- until all is done ---------------------------------------------------------------------

    async def _settle(self) -> None:
        """Wait until nothing is under way."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + LIMIT_S
        while self._is_busy():
            await asyncio.sleep(1)
            for copy in self.copies:
                copy.check()
            assert loop.time() < until_s, f"stuck: {self.under_way()}"

    def _is_busy(self) -> bool:
        tables = self.tables
        if (
            tables.outbox
            or tables.schedule
            or tables.of_keys.lists.keys() - tables.of_keys.held
        ):
            return True
        depths = map(self.broker.depth, self.plan.queues())
        return any(depth.waiting or depth.in_hand for depth in depths)

    def under_way(self) -> list[str]:
        """Say what is still to be done."""
        depths = {name: self.broker.depth(name) for name in self.plan.queues()}
        found = [f"{name}: {d}" for name, d in depths.items() if d.waiting or d.in_hand]
        keys = self.tables.of_keys
        found += [f"list: {at}" for at in keys.lists if at not in keys.held]
        found += [f"outbox: {row}" for row in self.tables.outbox.values()]
        return found + [f"schedule: {due}" for due in self.tables.schedule.values()]

    async def _look_after_dead_letters(self) -> bool:
        """Replay or drop those that are open; say whether there were any."""
        open_ones = [row.id for row in self.tables.dead.values() if not row.is_closed]
        if not open_ones or self.role.dead == "stay":
            return False
        store = self.copies[0].store
        if self.role.dead == "replayed or dropped":
            dropped = [id_ for id_ in open_ones if self.fate.happens(0.3)]
            await store.drop(dropped)
            open_ones = [id_ for id_ in open_ones if id_ not in dropped]
        await store.replay(open_ones, force=False)
        for row in self.tables.outbox.values():
            row.owner = 0  # a command that ended sent it
        return True

    # -- what is seen --------------------------------------------------------------------------

    @contextmanager
    def _turn(self, key: str, id_: str) -> Generator[None]:
        """See that a turn of a key begins after those before it, and none beside it."""
        process = PROCESS.get()
        if (process, key) in self._turns:
            self.overlaps.append(id_)
        copy = next((copy for copy in self.copies if copy.process is process), None)
        if copy is not None and self._owns(copy, key):
            self.ahead += [one[0] for one in self.before(key, id_) if not self._is_over(one)]
            if self.fate.happens(self.fate.chance / 4):
                self.faults.nap(copy)
        self._turns.add((process, key))
        try:
            yield
        finally:
            self._turns.discard((process, key))

    def _owns(self, copy: Copy, key: str) -> bool:
        role = self.role.__name__
        number = partition_of(key, self.plan.partitions[role])
        return self.tables.of_keys.owned[role][number].owner == copy.owner

    def before(self, key: str, id_: str) -> list[tuple[str, int]]:
        """List what arrived for a key before a message did."""
        found: list[tuple[str, int]] = []
        for packet in self.record.of_key.get(key, ()):
            if packet.id == id_:
                break
            found.append((packet.id, packet.generation))
        return found

    def arrived(self, key: str) -> list[str]:
        """List what came for a key in order; what had its outcome before its key did not."""
        own = self.record.keyed
        packets = self.record.of_key.get(key, ())
        return list(dict.fromkeys(p.id for p in packets if (p.id, p.generation) in own))

    def _is_over(self, one: tuple[str, int]) -> bool:
        """Whether the key may go on after a message."""
        last = self.record.last_keyed.get(one[0], Outcome.DONE)
        ends = {Outcome.DONE} if self.role.dead != "stay" else {Outcome.DONE, Outcome.DEAD}
        return one in self.record.outcomes and last in ends

    def is_message(self, packet: Packet) -> bool:
        """Whether a packet is a message, and no token."""
        return not decode_head(packet.head).is_release
