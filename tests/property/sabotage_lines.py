"""Protections of keys, streams, batches and deadlines, taken away one by one."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING, Any

from rolekit.errors import Unroutable
from rolekit.flow.gathering import Job
from rolekit.flow.in_order import InOrder
from rolekit.flow.keyed.consumer import KeyedConsumer
from rolekit.flow.keyed.pipeline import KeyedPipeline
from rolekit.flow.keyed.turn import Turn
from rolekit.model.parts import Batch
from rolekit.store import memory_sequences
from rolekit.store.base import Commit
from rolekit.store.memory import MemoryStore
from rolekit.store.memory_keys import KeyTables, MemoryKeyStore
from rolekit.store.memory_sending import MemorySending
from rolekit.store.memory_sequences import Sequences
from tests.property.simulated_broker import ModelBroker, Wire
from tests.property.simulated_store import ShakyStore

STOLEN = 0.2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest

    from rolekit.flow.keyed.lane import Lane, Partition
    from rolekit.flow.runtime import Arrival
    from rolekit.model.envelope import Packet
    from rolekit.model.plan import HandlerPlan
    from rolekit.store.base import Outgoing, Release, Step, Streamed
    from rolekit.store.keys import Aside, Fence, Hold


def _nothing(*_: object) -> None:
    """Do nothing, and say nothing."""


def two_relays_of_one_row(patch: pytest.MonkeyPatch) -> None:
    """Z6. What must leave in order is sent side by side."""

    async def apart(self: InOrder, row: list[Outgoing]) -> None:
        publish: Any = vars(InOrder)["_publish"]

        async def send(one: Outgoing) -> None:
            while not await publish(self, [one]):
                pass

        await asyncio.gather(*map(send, row))

    patch.setattr(InOrder, "_send", apart)


def mandatory_off(patch: pytest.MonkeyPatch) -> None:
    """Z7. What has no queue is confirmed, and gone."""
    store: Any = vars(ModelBroker)["store"]

    def each(self: ModelBroker, packets: Sequence[Packet]) -> None:
        for packet in packets:
            try:
                store(self, [packet])
            except Unroutable:
                continue

    patch.setattr(ModelBroker, "store", each)


def no_epoch_in_a_commit(patch: pytest.MonkeyPatch) -> None:
    """Z8. A former owner that wakes up takes effect beside the new one."""
    patch.setattr(KeyTables, "check", _nothing)


def timers_in_memory(patch: pytest.MonkeyPatch) -> None:
    """Z12. Who opened a sequence knows of its deadline, and takes that with him."""
    commit: Any = vars(MemoryStore)["commit"]
    expire: Any = vars(Sequences)["expire"]
    known: dict[int, set[str]] = {}

    async def notes(self: MemoryStore, steps: Sequence[Step]) -> Commit:
        mine = known.setdefault(id(self), set())
        mine.update(step.opening.id for step in steps if step.opening is not None)
        done: Commit = await commit(self, steps)
        return done

    async def own(self: MemoryStore, now_ms: int, limit: int) -> Commit:
        rows, found = self.tables.sequences.rows, Commit()
        mine = known.get(id(self), set())
        alone = Sequences()
        alone.rows = {id_: row for id_, row in rows.items() if id_ in mine}
        sends: Any = vars(MemorySending)["_send"]
        sends(self, expire(alone, now_ms, limit), found)
        return found

    patch.setattr(MemoryStore, "commit", notes)
    patch.setattr(MemoryStore, "expire", own)


def stolen_partitions(patch: pytest.MonkeyPatch) -> None:
    """No harm: epochs keep two owners apart, whoever is a member."""
    alive: Any = vars(ShakyStore)["_alive"]

    def at_times(self: ShakyStore, role: str) -> set[int]:
        everybody: set[int] = alive(self, role)
        return everybody if random.random() > STOLEN else {self.owner}  # noqa: S311 - a draw

    patch.setattr(ShakyStore, "_alive", at_times)


def back_to_the_queue(patch: pytest.MonkeyPatch) -> None:
    """Z9. What fails is handed back: its followers, which are in hand, overtake it."""

    async def hands_back(self: KeyedPipeline, arrival: Arrival, error: Exception) -> None:
        del self, error
        await asyncio.sleep(0.01)
        arrival.subscription.hand_back([arrival.delivery])

    patch.setattr(KeyedPipeline, "_fail", hands_back)


def hand_over_by_cancelling(patch: pytest.MonkeyPatch) -> None:
    """Z10. The next owner begins while this one has what came before in hand."""

    async def cancels(self: KeyedConsumer, mine: Partition, cancelled: Sequence[Lane]) -> None:
        wire = mine.consumed
        assert isinstance(wire, Wire)
        wire.cancel()
        for lane in cancelled:
            if lane.task is not None:
                lane.task.cancel()
        del vars(self)["_partitions"][mine.fence]
        asyncio.get_running_loop().call_later(1, wire.end)

    patch.setattr(KeyedConsumer, "_end", cancels)


def holds_forgotten_at_hand_over(patch: pytest.MonkeyPatch) -> None:
    """A new owner goes on with a key whose message has not come again yet."""

    async def nothing(self: MemoryKeyStore, fence: Fence) -> Mapping[str, Hold]:
        del self, fence
        return {}

    patch.setattr(MemoryKeyStore, "holds", nothing)


def keys_not_held(patch: pytest.MonkeyPatch) -> None:
    """The followers of a message that failed go on before it."""
    mark: Any = vars(Turn)["mark"]

    def lets_go(self: Turn, step: Step, plan: HandlerPlan) -> None:
        mark(self, step, plan)
        assert step.keyed is not None
        step.keyed.holds = False

    patch.setattr(Turn, "mark", lets_go)


def waiting_lists_backwards(patch: pytest.MonkeyPatch) -> None:
    """Who came last goes first."""
    next_aside: Any = vars(MemoryKeyStore)["next_aside"]

    async def backwards(
        self: MemoryKeyStore, fence: Fence, key: str, limit: int
    ) -> list[Aside]:
        found: list[Aside] = await next_aside(self, fence, key, limit)
        return found[::-1]

    patch.setattr(MemoryKeyStore, "next_aside", backwards)


def next_turn_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """A turn begins when the handler before it returned."""
    process: Any = vars(KeyedPipeline.__mro__[1])["process"]

    async def not_to_the_end(
        self: KeyedPipeline, arrival: Arrival, *, to_the_end: bool = False
    ) -> None:
        del to_the_end
        await process(self, arrival)

    patch.setattr(KeyedPipeline, "process", not_to_the_end)


def tokens_before_outputs(patch: pytest.MonkeyPatch) -> None:
    """The next run of a stream does not wait until what this one gave has left."""
    moved: Any = vars(Job)["moved"]

    def at_once(self: Job, emitted: int, *, follows: bool) -> Release:
        del follows
        release: Release = moved(self, emitted, follows=False)
        return release

    patch.setattr(Job, "moved", at_once)


def positions_out_of_order(patch: pytest.MonkeyPatch) -> None:
    """Two that send at once swap their places in a stream."""
    placed: Any = vars(memory_sequences)["placed"]

    def swapped(streamed: Streamed, number: int) -> Packet:
        packet: Packet = placed(streamed, number ^ 1)
        return packet

    patch.setattr(memory_sequences, "placed", swapped)


def items_settled_together(patch: pytest.MonkeyPatch) -> None:
    """What was to be retried or rejected alone is done, as the others are."""
    patch.setattr(Batch, "steered", _nothing)


def batches_committed_in_part(patch: pytest.MonkeyPatch) -> None:
    """Where some items had their outcome, what the batch did is kept for the others."""

    async def in_part(self: MemoryStore, steps: Sequence[Step]) -> Commit:
        return await MemoryStore.commit(self, steps)

    patch.setattr(MemoryStore, "commit_whole", in_part)


def half_of_what_a_batch_wrote(patch: pytest.MonkeyPatch) -> None:
    """Each item in a commit of its own: a crash between them leaves the rest undone."""
    whole: Any = vars(MemoryStore)["commit_whole"]
    turns = itertools.count()

    async def apart(self: MemoryStore, steps: Sequence[Step]) -> Commit:
        if len(steps) > 1 and next(turns) % 3 == 0:
            await whole(self, steps[:1])
        done: Commit = await whole(self, steps)
        return done

    patch.setattr(MemoryStore, "commit_whole", apart)
