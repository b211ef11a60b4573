"""The limits of a handler whose queue cannot wait for it, since it is not its alone.

Partitions hold messages of many keys and several handlers, and the queue of a gather brings
parts, which are stored whatever its limit is. So messages come here one by one, when they
could run: they wait a moment for their slots, or come again at a time, as the next generation
and without an attempt. A message that came back so still holds its key, like one that is
tried again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rolekit.clock import LoopAlarms
from rolekit.flow.circuits import Calls
from rolekit.flow.meters import PATIENCE_MS, Meter, Outlets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rolekit.flow.runtime import Runtime
    from rolekit.model.plan import HandlerPlan
    from rolekit.transport.base import Delivery

RATE = "waits for its turn at the rate of its handler"
CIRCUIT = "waits until the circuit of its handler is closed"


class NotYet(Exception):
    """A limit lets a message come again later; no handler was called.

    Attributes:
        due_ms: When, milliseconds since 1970.
        why: For an operator.
        has_slots: It then has the slots that it needs.
    """

    def __init__(self, due_ms: int, why: str, *, has_slots: bool = False) -> None:
        super().__init__(why)
        self.due_ms = due_ms
        self.why = why
        self.has_slots = has_slots


class Turnstile:
    """Lets the messages of one handler through, one by one.

    Args:
        plan: Of the handler.
        runtime: Of this process.
        patience_ms: A message waits so long for its slots before it comes again instead.
    """

    def __init__(
        self, plan: HandlerPlan, runtime: Runtime, patience_ms: float = PATIENCE_MS
    ) -> None:
        self.calls = Calls(plan, runtime.clock)
        self._clock = runtime.clock
        self._is_closed = False
        self._waiting: dict[int, asyncio.Future[NotYet | None]] = {}
        self._meter: Meter | None = None
        if plan.rates:
            outlets = Outlets(
                let_in=self._let_in,
                hand_back=_never,
                put_off=self._put_off,
                throttle=lambda _: None,
            )
            alarms = runtime.alarms or LoopAlarms(runtime.clock)
            self._meter = Meter(plan, runtime, alarms, outlets, None, patience_ms=patience_ms)

    @property
    def has_rates(self) -> bool:
        """Whether a message may have to wait for slots."""
        return self._meter is not None

    async def wait(self, delivery: Delivery) -> None:
        """Wait until a message has its slots.

        Raises:
            NotYet: It comes again instead, since they are far, or its circuit is open.
        """
        if self.calls.is_shut:
            raise NotYet(self.calls.again_ms(), CIRCUIT)
        if self._meter is None:
            return
        if self._is_closed:
            raise NotYet(self._clock.now_ms(), RATE)
        turn: asyncio.Future[NotYet | None] = asyncio.get_running_loop().create_future()
        self._waiting[id(delivery)] = turn
        try:
            self._meter.offer(delivery)
            later = await turn
        finally:
            del self._waiting[id(delivery)]
            self._meter.forget(delivery)
        if later is not None:
            raise later

    def begin(self, delivery: Delivery) -> None:
        """Begin a call.

        Raises:
            NotYet: It comes again instead, since the circuit is open.
        """
        if not self.calls.begin(delivery):
            raise NotYet(self.calls.again_ms(), CIRCUIT)

    def close(self) -> None:
        """Let nothing through any more; what waits comes again elsewhere."""
        self._is_closed = True
        if self._meter is not None:
            self._meter.close()
        now_ms = self._clock.now_ms()
        for turn in self._waiting.values():
            if not turn.done():
                turn.set_result(NotYet(now_ms, RATE))

    def _let_in(self, delivery: Delivery) -> None:
        self._tell(delivery, None)

    async def _put_off(self, delivery: Delivery, due_ms: int, has_slots: bool) -> None:  # noqa: FBT001 - as outlets are called
        self._tell(delivery, NotYet(due_ms, RATE, has_slots=has_slots))

    def _tell(self, delivery: Delivery, later: NotYet | None) -> None:
        turn = self._waiting.get(id(delivery))
        if turn is not None and not turn.done():
            turn.set_result(later)


def turnstiles_for(
    plans: Iterable[HandlerPlan], runtime: Runtime, patience_ms: float = PATIENCE_MS
) -> dict[str, Turnstile]:
    """Make the turnstiles of handlers that have limits, by name; none for the others."""
    return {
        plan.name: Turnstile(plan, runtime, patience_ms)
        for plan in plans
        if plan.rates or plan.circuit is not None
    }


def _never(deliveries: Sequence[Delivery], until_ms: float) -> None:
    raise AssertionError(
        deliveries, until_ms
    )  # what waits one by one is put off, never handed back
