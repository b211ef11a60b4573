"""Keyed messages, from the queues of partitions to the pipeline: each key's one by one.

A key has a task while there is something to do for it, which takes its messages in order:
first those of its waiting list, then those that arrived. The next one begins when the
commit of the one before is known. While a message holds its key, the task sets aside
whatever else arrives, so that the partition is not held up.

Nothing of a partition is ever handed back alone: it would come again behind its followers.
Closing the channel hands back all of it, in order.

Source: DESIGN "Order (b)".
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import CodecError, FenceLost, RolekitError
from rolekit.flow.handling import HAND_BACK_S
from rolekit.flow.keyed.lane import Item, Lane, Partition
from rolekit.flow.keyed.processing import Processing
from rolekit.flow.keyed.shares import Shares
from rolekit.model.envelope import Head, KeyedHead, decode_head
from rolekit.model.keys import partition_queue
from rolekit.transport.base import Delivery

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.flow.call import Handler
    from rolekit.flow.keyed.pipeline import KeyedPipeline
    from rolekit.flow.runtime import Runtime
    from rolekit.store.keys import Fence

log = structlog.get_logger("rolekit.keys")

LEAST_WINDOW = 32
LISTED_AT_ONCE = 50
PATIENCE = 16
"""So many may arrive for a key whose waiting list is being worked through; more join it."""


class KeyedConsumer:
    """Takes deliveries of the partitions of one role that are this instance's share.

    Args:
        runtime: Of this process.
        role: Class name.
        handlers: The keyed ones of the role, by name.
        pipeline: Processes one.
        concurrency: Handlers running at once.
    """

    def __init__(
        self,
        runtime: Runtime,
        role: str,
        handlers: Mapping[str, Handler],
        pipeline: KeyedPipeline,
        concurrency: int,
    ) -> None:
        self._runtime = runtime
        self._window = max(concurrency, LEAST_WINDOW)
        self._partitions: dict[Fence, Partition] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._processing = Processing(runtime, handlers, pipeline, concurrency)
        self._pipeline = pipeline
        meters, consumed = runtime.meters, "messaging.client.consumed.messages"
        self._consumed = None if meters is None else meters.counter(consumed)
        self.shares = Shares(runtime, role, self)

    @property
    def in_hand(self) -> int:
        """Deliveries taken and not settled."""
        lanes = [lane for one in self._partitions.values() for lane in one.lanes.values()]
        return sum(len(lane.arrived) + lane.has_begun for lane in lanes)

    @property
    def handled(self) -> int:
        """Deliveries settled since the start."""
        return self._processing.handled

    @property
    def notes(self) -> dict[str, str]:
        """What people should know of handlers now, by name."""
        return self._processing.notes

    async def start(self) -> None:
        """Take what is this instance's share, and begin to consume it."""
        await self.shares.start()

    def pause(self) -> None:
        """Leave the work to others until `resume`."""
        self.shares.pause(paused=True)

    def resume(self) -> None:
        """Take a share again."""
        self.shares.pause(paused=False)

    async def idle(self) -> None:
        """Wait until nothing is in hand, but for what waits behind a message that failed."""
        await self._is_idle.wait()

    async def stop(self, grace_s: float) -> None:
        """Finish what runs within the grace period, and give all partitions to others."""
        giving_up = asyncio.get_running_loop().call_later(grace_s, self._cancel_all)
        try:
            await self.shares.stop()
        finally:
            giving_up.cancel()
            self._processing.close()
        await self._pipeline.stop()

    def hurry(self) -> None:
        """Do not wait any longer for what runs."""
        self._cancel_all()

    def _cancel_all(self) -> None:
        for task in self._tasks:
            task.cancel()

    # -- partitions that come and go -----------------------------------------------------------

    async def gain(self, fence: Fence) -> None:
        """Begin to consume a partition, knowing which of its keys cannot simply go on."""
        queue = partition_queue(fence.role, fence.partition)
        mine = Partition(fence, queue, self.shares.valid)
        for key, hold in (await self._runtime.store.holds(fence)).items():
            lane = mine.lane(key)
            lane.holder, lane.has_list = hold.by, hold.has_list
        mine.subscription = await self._runtime.transport.subscribe(
            [queue], window=self._window, sink=partial(self._take, mine), epoch=fence.epoch
        )
        self._partitions[fence] = mine
        for lane in list(mine.lanes.values()):
            self._go_on(mine, lane)

    async def finish(self, fence: Fence) -> None:
        """Let nothing more begin, finish what runs, and stop consuming."""
        mine = self._partitions.get(fence)
        if mine is not None:
            mine.is_leaving = True
            await self._end(mine, [lane for lane in mine.lanes.values() if not lane.has_begun])

    async def drop(self, fence: Fence) -> None:
        """Give up at once what is done for a partition that somebody else has.

        It may be finished already, or about to be.
        """
        mine = self._partitions.get(fence)
        if mine is not None:
            mine.is_leaving = True
            await self._end(mine, list(mine.lanes.values()))

    async def _end(self, mine: Partition, cancelled: Sequence[Lane]) -> None:
        for lane in cancelled:
            if lane.task is not None:
                lane.task.cancel()
        tasks = [lane.task for lane in mine.lanes.values() if lane.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._partitions.pop(mine.fence, None) is not None:
            for lane in mine.lanes.values():
                self._processing.count("returned", lane.arrived)
            await mine.consumed.close()

    # -- keys ----------------------------------------------------------------------------------

    def _take(self, mine: Partition, batch: Sequence[Delivery]) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._consumed is not None:
            self._consumed.value += len(batch)
        for delivery in batch:
            key, head = _read(delivery)
            lane = mine.lane(key)
            lane.arrived.append(Item(delivery, head, now_s))
            if lane.came is not None:
                lane.came.set()
            self._go_on(mine, lane)

    def _go_on(self, mine: Partition, lane: Lane) -> None:
        """See that a key is worked through."""
        if lane.task is None and not mine.is_leaving:
            # Owned by finish(), drop() and stop().
            lane.task = asyncio.create_task(self._work(mine, lane))
            self._tasks.add(lane.task)
            lane.task.add_done_callback(self._ended)
            self._is_idle.clear()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self._is_idle.set()

    async def _work(self, mine: Partition, lane: Lane) -> None:
        """Work through a key until there is nothing left that may run."""
        item: Item | None = None
        try:
            while not mine.is_leaving and (item := await self._next(mine, lane)) is not None:
                if item.listed is not None and self._consumed is not None:
                    self._consumed.value += 1
                await self._processing.process(mine, lane, item)
                item = None
        except FenceLost as error:
            log.warning("discarded", key=lane.key, because=str(error))
            mine.is_leaving = True
            self.shares.look()
        except Exception as error:
            # Nothing but a bug, or an outage, comes here: begin again with the partition.
            partition = mine.fence.partition
            if isinstance(error, RolekitError):
                log.warning("a key waits", key=lane.key, partition=partition, error=str(error))
            else:
                log.exception("a key cannot go on", key=lane.key, partition=partition)
            await asyncio.sleep(HAND_BACK_S)
            mine.is_leaving = True
            self.shares.begin_again(mine.fence)
        finally:
            if item is not None:
                self._processing.count("returned", [item])
            lane.task = None
            if lane.is_idle:
                mine.lanes.pop(lane.key, None)

    async def _next(self, mine: Partition, lane: Lane) -> Item | None:
        """Return what comes next of a key; set aside what has to wait."""
        store, fence = self._runtime.store, mine.fence
        while True:
            if lane.holder:
                others = lane.others()
                if not others:
                    return lane.arrived.popleft() if lane.arrived else None
                await self._processing.set_aside(mine, lane, others)
            elif lane.has_list:
                if len(lane.arrived) > PATIENCE:
                    arrived = list(lane.arrived)
                    lane.arrived.clear()
                    await self._processing.set_aside(mine, lane, arrived)
                if not lane.listed:
                    lane.listed.extend(await store.next_aside(fence, lane.key, LISTED_AT_ONCE))
                if lane.listed:
                    return _listed(lane)
                lane.has_list = False
            else:
                return lane.arrived.popleft() if lane.arrived else None


def _read(delivery: Delivery) -> tuple[str, Head]:
    """Read key and head; what cannot be read has a key that no message can have."""
    try:
        head = decode_head(delivery.packet.head)
    except CodecError:
        return f"\x00{delivery.packet.id}", Head()
    key = head.key if isinstance(head, KeyedHead) else f"\x00{delivery.packet.id}"
    return key, head


def _listed(lane: Lane) -> Item:
    aside = lane.listed.popleft()
    delivery = Delivery(aside.packet, 0, redelivered=True)
    return Item(delivery, decode_head(aside.packet.head), 0, aside.n)
