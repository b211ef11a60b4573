"""One keyed message at its turn: asked of the inbox, run, and what its outcome means."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import structlog

from rolekit.errors import FenceLost, RolekitError, UnknownType
from rolekit.flow.handling import HAND_BACK_S
from rolekit.flow.keyed.lane import NoSubscription
from rolekit.flow.keyed.slots import Slot, Slots
from rolekit.flow.keyed.turn import Turn
from rolekit.flow.runtime import Arrival
from rolekit.flow.suspicion import Suspicions
from rolekit.flow.turnstile import NotYet, turnstiles_for
from rolekit.model.envelope import KeyedHead, Kind
from rolekit.model.plan import HandlerPlan
from rolekit.model.retry import CRASHES
from rolekit.observe.current import Hand, in_hand

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence

    from rolekit.flow.call import Handler
    from rolekit.flow.keyed.lane import Item, Lane, Partition
    from rolekit.flow.keyed.pipeline import KeyedPipeline
    from rolekit.flow.runtime import Runtime
    from rolekit.flow.turnstile import Turnstile
    from rolekit.store.keys import Hold
    from rolekit.transport.base import Delivery, Subscription

log = structlog.get_logger("rolekit.keys")

AGAIN_S = 0.2
SHORT_S = 0.25
"""What waits no longer than this for a limit keeps its followers where they are."""
_LIST = cast("Subscription", NoSubscription())


class Processing:
    """Processes messages of keys.

    Args:
        runtime: Of this process.
        handlers: By name.
        pipeline: Processes one.
        concurrency: Handlers running at once.
    """

    def __init__(
        self,
        runtime: Runtime,
        handlers: Mapping[str, Handler],
        pipeline: KeyedPipeline,
        concurrency: int,
    ) -> None:
        self._runtime = runtime
        self._handlers = handlers
        self._pipeline = pipeline
        self._slots = Slots(concurrency)
        self._suspicions = Suspicions(runtime.deaths)
        self._turnstiles = turnstiles_for((one.plan for one in handlers.values()), runtime)
        if self._turnstiles:
            pipeline.on_failed = self._failed
        self.handled = 0

    async def process(self, mine: Partition, lane: Lane, item: Item) -> None:
        """Have a message handled, and learn from its outcome whether the key goes on.

        Raises:
            FenceLost: The partition has another owner by now; nothing was recorded.
        """
        in_hand.set(Hand(item.delivery.packet))
        if item.delivery.redelivered and await self._had_its_outcome(mine, item):
            return
        delivery = item.delivery
        limits, later = self._limits_of(item), None
        try:
            if limits is not None:
                await self._wait(mine, lane, item, limits)
        except NotYet as error:
            later = error
        async with self._slots.one(alone=delivery.is_suspect) as slot:
            await self._pipeline.room()
            await mine.valid()
            if mine.is_leaving:
                return
            lane.has_begun = True
            try:
                async with self._noted_as_alone(mine, item):
                    await self._limited(mine, lane, item, slot, limits, later)
            finally:
                lane.has_begun = False
                self.handled += 1

    # -- limits --------------------------------------------------------------------------------

    def _limits_of(self, item: Item) -> Turnstile | None:
        """Return what a message has to pass before its handler may be called."""
        head = item.head
        if not isinstance(head, KeyedHead) or head.kind not in (Kind.MESSAGE, Kind.DEAD):
            return None
        return self._turnstiles.get(head.handler)

    async def _wait(self, mine: Partition, lane: Lane, item: Item, limits: Turnstile) -> None:
        """Wait for a message's slots; if that takes a while, those behind it make room.

        Raises:
            NotYet: It comes again instead.
            FenceLost: The partition has another owner by now.
        """
        if not limits.has_rates:
            await limits.wait(item.delivery)
            return
        # Owned by this call, which ends it.
        waiting = asyncio.create_task(limits.wait(item.delivery))
        lane.came = asyncio.Event()
        try:
            await asyncio.wait([waiting], timeout=SHORT_S)
            while not waiting.done():
                if others := lane.others(item.delivery.packet.id):
                    await self.set_aside(mine, lane, others)
                lane.came.clear()
                came = asyncio.create_task(lane.came.wait())
                await asyncio.wait([waiting, came], return_when=asyncio.FIRST_COMPLETED)
                came.cancel()
            await waiting
        finally:
            lane.came = None
            waiting.cancel()

    async def _limited(
        self,
        mine: Partition,
        lane: Lane,
        item: Item,
        slot: Slot | None,
        limits: Turnstile | None,
        later: NotYet | None,
    ) -> None:
        """Process a message, or let it come again; its key is held by it then."""
        if limits is None:
            await self._to_the_end(mine, lane, item, slot)
            return
        try:
            if later is None:
                limits.begin(item.delivery)
        except NotYet as error:
            later = error
        try:
            await self._to_the_end(mine, lane, item, slot, later)
        except BaseException:
            limits.calls.forget(item.delivery)
            raise
        limits.calls.ended(item.delivery)

    def _failed(self, delivery: Delivery, error: Exception) -> None:
        for limits in self._turnstiles.values():
            limits.calls.failed(delivery, error)

    @property
    def notes(self) -> dict[str, str]:
        """What people should know of handlers now, by name."""
        return {n: one.calls.note for n, one in self._turnstiles.items() if one.calls.note}

    def close(self) -> None:
        """Let nothing through any more."""
        for limits in self._turnstiles.values():
            limits.close()

    # -- its turn ------------------------------------------------------------------------------

    async def _to_the_end(
        self,
        mine: Partition,
        lane: Lane,
        item: Item,
        slot: Slot | None,
        later: NotYet | None = None,
    ) -> None:
        """Process until the outcome is recorded; giving it back would change the order."""
        while True:
            arrival = self._arrival(mine, lane, item, slot)
            try:
                await self._once(arrival, item, later)
            except FenceLost:
                raise
            except Exception:
                log.exception("trying again", message=arrival.packet.id, key=lane.key)
                await asyncio.sleep(HAND_BACK_S)
                continue
            await self._learn(mine, lane, arrival)
            return

    async def _once(self, arrival: Arrival, item: Item, later: NotYet | None) -> None:
        if later is not None:
            await self._pipeline.put_off(arrival, later)
        elif arrival.turn is None:
            why = "it says neither for which handler it is, nor its key"
            await self._pipeline.park(arrival, why)
        elif item.delivery.crashed >= CRASHES:
            why = f"{item.delivery.crashed} instances died while they ran it alone"
            await self._pipeline.park(arrival, why)
        elif arrival.plan.name not in self._handlers:
            unknown = UnknownType(f"{arrival.plan.role} has no keyed {arrival.plan.name} here.")
            await self._pipeline.fail(arrival, unknown)
        else:
            await self._pipeline.process(arrival, to_the_end=True)

    def _arrival(self, mine: Partition, lane: Lane, item: Item, slot: Slot | None) -> Arrival:
        delivery, head = item.delivery, item.head
        subscription = mine.consumed if item.listed is None else _LIST
        if not isinstance(head, KeyedHead):
            plan = HandlerPlan(name=mine.queue, role=mine.fence.role, method="")
            return Arrival(delivery, subscription, head, plan)
        handler = self._handlers.get(head.handler)
        plan = (
            HandlerPlan(name=head.handler, role=mine.fence.role, method="")
            if handler is None
            else handler.plan
        )
        holds = lane.holder == delivery.packet.id
        turn = Turn(mine.fence, lane.key, frees=holds, listed=item.listed, slot=slot)
        return Arrival(delivery, subscription, head, plan, turn)

    async def _learn(self, mine: Partition, lane: Lane, arrival: Arrival) -> None:
        """See from an outcome whether the key is held, and by whom."""
        turn = arrival.turn
        keyed = None if turn is None or turn.step is None else turn.step.keyed
        if turn is None:
            return
        if keyed is None or not keyed.took_effect:
            # It had its outcome before, perhaps by this very commit, whose answer was lost.
            hold = await self._hold_of(mine, lane)
            lane.holder, lane.has_list = hold.by, hold.has_list
            lane.listed.clear()
        elif keyed.holds:
            lane.holder = arrival.packet.id
        elif keyed.frees:
            lane.holder, lane.has_list = "", True

    async def _hold_of(self, mine: Partition, lane: Lane) -> Hold:
        while True:
            try:
                return await self._runtime.store.hold_of(mine.fence, lane.key)
            except RolekitError as error:
                log.info("asking again what holds a key", key=lane.key, error=str(error))
                await asyncio.sleep(AGAIN_S)

    async def set_aside(self, mine: Partition, lane: Lane, items: Sequence[Item]) -> None:
        """Move messages into their key's waiting list, until that is known to be done.

        Raises:
            FenceLost: The partition has another owner by now.
        """
        deliveries = [item.delivery for item in items]
        joins = self._runtime.transport.features.joins_store
        claims = [delivery.tag for delivery in deliveries] if joins else []
        packets = [delivery.packet for delivery in deliveries]
        while True:
            try:
                await self._runtime.store.set_aside(mine.fence, lane.key, packets, claims)
                break
            except FenceLost:
                self.count("returned", items)
                raise
            except RolekitError as error:
                log.info("setting aside again", key=lane.key, error=str(error))
                await asyncio.sleep(AGAIN_S)
        lane.has_list = True
        self.count("aside", items)
        settle = mine.consumed.release if joins else mine.consumed.ack
        settle(deliveries)

    # -- what came before ----------------------------------------------------------------------

    async def _had_its_outcome(self, mine: Partition, item: Item) -> bool:
        """Ask the inbox about a message that came before; settle it if it had its outcome."""
        packet = item.delivery.packet
        key = (packet.id, packet.generation, packet.birth_ms or 0)
        try:
            if item.listed is None:
                await self._suspicions.flag([item.delivery], item.came_s)
            if not await self._runtime.store.seen([key]):
                return False
            if item.listed is None:
                mine.consumed.ack([item.delivery])
            else:
                await self._runtime.store.strike(mine.fence, item.listed)
        except RolekitError as error:  # only a hint is lost: the commit asks again
            log.info("inbox not asked", error=str(error))
            return False
        self.count("repeat", [item])
        return True

    def count(self, outcome: str, items: Iterable[Item]) -> None:
        """Count what came of messages that no handler was called for."""
        if self._runtime.meters is not None:
            for item in items:
                name = item.head.handler if isinstance(item.head, KeyedHead) else ""
                cells = self._runtime.meters.handler(name or item.delivery.packet.queue)
                cells.came_to(outcome)

    @asynccontextmanager
    async def _noted_as_alone(self, mine: Partition, item: Item) -> AsyncGenerator[None]:
        """Let a death count against a suspect while it runs."""
        deaths, delivery = self._runtime.deaths, item.delivery
        if not delivery.is_suspect or item.listed is not None:
            yield
            return
        packet = delivery.packet
        try:
            if deaths is None:
                await mine.consumed.run_alone(delivery)
            else:
                await deaths.begin_alone(packet.id, packet.generation)
        except RolekitError as error:
            log.info("not noted as running alone", error=str(error))
        try:
            yield
        finally:
            if deaths is not None:
                try:
                    await deaths.end_alone(packet.id, packet.generation)
                except RolekitError as error:
                    log.info("not noted as over", error=str(error))
