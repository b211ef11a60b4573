"""The rates of one handler: deliveries wait here for slots that nobody else has.

Slots are reserved for all that wait in one question, and for what will come by the pace of
late, so there are a few questions a second, whatever the rate. A delivery whose slot is near
waits here. Where it is not, and the whole queue has one bucket, the queue is not taken from
until there are slots again. Where each key has a bucket of its own, or the queue cannot wait
since it holds more than this handler's messages, the delivery is put off until the slot that
is then reserved for it, without an attempt, and others go on.

How far ahead that is, `planning` says.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import RolekitError
from rolekit.flow.planning import Waiting, plan_ahead
from rolekit.model.envelope import decode_head
from rolekit.model.keys import key_of
from rolekit.model.rates import Ask, Lease, burst_of, step_ms_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rolekit.clock import Alarms
    from rolekit.flow.runtime import Runtime
    from rolekit.model.plan import HandlerPlan
    from rolekit.model.policy import Rate
    from rolekit.transport.base import Delivery

log = structlog.get_logger("rolekit.rates")

AHEAD_MS = 250.0
"""Slots are reserved so far ahead."""
PATIENCE_MS = 1000.0
POLL_MS = 100.0
"""A bucket without slots is asked again after so long at the soonest."""
AFTER_ERROR_MS = 500.0
SOON_MS = 1.0
"""What is due within a turn of a timer is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlets:
    """Where deliveries go from a meter.

    Attributes:
        let_in: For one whose slots have come.
        hand_back: For those that others may have; at the time that is given there are slots.
        put_off: For one that comes again at a time, milliseconds since 1970; with slots that
            are reserved for it then, or to ask again.
        throttle: Says how many to hold in hand from now on; 0 is none.
    """

    let_in: Callable[[Delivery], None]
    hand_back: Callable[[Sequence[Delivery], float], None]
    put_off: Callable[[Delivery, int, bool], Awaitable[None]]
    throttle: Callable[[int], None]


class Meter:
    """Keeps the rates of one handler, in one instance.

    Args:
        plan: Of the handler.
        runtime: Of this process.
        alarms: Of its clock.
        outlets: Where deliveries go.
        window: Deliveries in hand, at most; None: nobody can say how many, so whatever waits
            longer than `patience_ms` is put off.
        patience_ms: A delivery waits so long in the hands of an instance.
    """

    def __init__(
        self,
        plan: HandlerPlan,
        runtime: Runtime,
        alarms: Alarms,
        outlets: Outlets,
        window: int | None,
        *,
        patience_ms: float = PATIENCE_MS,
    ) -> None:
        self._plan = plan
        self._runtime = runtime
        self._alarms = alarms
        self._out = outlets
        # A clock that stands still lets nothing wait in hand.
        self._waits = runtime.alarms is None
        self._names = {
            rate: rate.name or (plan.name if not n else f"{plan.name}#{n}")
            for n, rate in enumerate(plan.rates)
        }
        self._rates: dict[str, Rate] = {}
        self._patience_ms = patience_ms if self._waits else 0.0
        self._puts_off = window is None
        self._window = _window_of(plan, window or 0)
        self._leases: dict[str, Lease] = {}
        self._empty_until: dict[str, float] = {}
        self._passed: deque[float] = deque(maxlen=2000)
        self._asking: asyncio.Task[None] | None = None
        self._is_shut = self._is_closed = False
        self._woken_at = math.inf
        self._shut_until = 0.0
        self.waiting: deque[Waiting] = deque()

    def begin(self) -> None:
        """Hold no more in hand than go within a moment."""
        self._out.throttle(self._window)

    def offer(self, delivery: Delivery) -> None:
        """Take a delivery that came."""
        needs = self._needs(delivery)
        if not needs:
            self._out.let_in(delivery)
        elif self._is_shut:
            self._out.hand_back([delivery], self._shut_until)
        else:
            self.waiting.append(Waiting(delivery, needs))
            self._pump()

    def forget(self, delivery: Delivery) -> None:
        """Let a delivery wait no more, of which somebody else takes care."""
        self.waiting = deque(one for one in self.waiting if one.delivery is not delivery)

    def taken_out(self) -> list[Delivery]:
        """Take out what waits."""
        taken, self.waiting = [one.delivery for one in self.waiting], deque()
        return taken

    def close(self) -> None:
        """Ask no more; what waits is handed back by its subscription."""
        self._is_closed = True
        if self._asking is not None:
            self._asking.cancel()

    # -- what it takes -----------------------------------------------------------------------

    def _needs(self, delivery: Delivery) -> dict[str, float]:
        """Say how much a delivery takes of which buckets; nothing where it has its slots.

        What cannot be read goes on: whoever handles it says so.
        """
        try:
            head = decode_head(delivery.packet.head)
            if head.attempts.has_slots:
                return {}
            message: object = None
            if any(rate.key or rate.cost for rate in self._plan.rates):
                message = self._runtime.codec.decode(
                    head.type, head.type_version, head.codec, delivery.packet.body
                )
            found = [(rate, *self._need(rate, message)) for rate in self._plan.rates]
        except (RolekitError, ValueError, TypeError, AttributeError):
            return {}
        for rate, bucket, _ in found:
            self._rates[bucket] = rate
        return {bucket: units for _, bucket, units in found if units > 0}

    def _need(self, rate: Rate, message: object) -> tuple[str, float]:
        bucket = self._names[rate]
        if rate.key:
            bucket = f"{bucket}:{key_of(message, [rate.key])}"
        units = 1.0 if rate.cost is None else float(getattr(message, rate.cost))
        return bucket, units if math.isfinite(units) else 0.0

    # -- letting through ---------------------------------------------------------------------

    def _pump(self) -> None:
        """Let through what has its slots, in order within each bucket; ask for what has not."""
        if self._is_closed or self._is_shut:
            return
        now_ms = float(self._runtime.clock.now_ms())
        behind: set[str] = set()
        kept: deque[Waiting] = deque()
        wake_ms, is_short = math.inf, False
        while self.waiting:
            one = self.waiting.popleft()
            if behind.isdisjoint(one.needs):
                wait_ms = self._wait_ms(one, now_ms)
                if wait_ms is not None and wait_ms < SOON_MS:
                    self._pass(one, now_ms)
                    continue
                if wait_ms is None:
                    empty_ms = max(self._empty_until.get(b, 0.0) for b in one.needs)
                    is_short = is_short or empty_ms <= now_ms
                    wake_ms = min(wake_ms, empty_ms if empty_ms > now_ms else math.inf)
                else:
                    wake_ms = min(wake_ms, now_ms + wait_ms)
            behind.update(one.needs)
            kept.append(one)
        self.waiting = kept
        if is_short and self._asking is None:
            # Owned by close(), which ends it.
            self._asking = asyncio.create_task(self._ask(now_ms))
        self._wake_at(wake_ms)

    def _wait_ms(self, one: Waiting, now_ms: float) -> float | None:
        """Say how long the slots of a delivery are away; None: it has not all of them."""
        wait_ms = 0.0
        for bucket, units in one.needs.items():
            lease = self._leases.get(bucket)
            if lease is None or lease.left(now_ms) < units:
                return None
            wait_ms = max(wait_ms, lease.wait_ms(now_ms))
        return wait_ms

    def _pass(self, one: Waiting, now_ms: float) -> None:
        for bucket, units in one.needs.items():
            self._leases[bucket].use(units)
        self._passed.append(now_ms)
        self._out.let_in(one.delivery)

    def _wake_at(self, due_ms: float) -> None:
        if due_ms < self._woken_at:
            self._woken_at = due_ms
            self._alarms.at(math.ceil(due_ms), self._wake)

    def _wake(self) -> None:
        self._woken_at = math.inf
        self._pump()

    # -- asking ------------------------------------------------------------------------------

    async def _ask(self, now_ms: float) -> None:
        """Reserve what is missing; deal with what there is none of."""
        try:
            asks = self._asks(now_ms)
            grants = await self._runtime.store.reserve(asks)
            now_ms = float(self._runtime.clock.now_ms())
            empty: dict[str, float] = {}
            for grant in grants:
                if grant.granted:
                    lease = self._lease(grant.bucket)
                    lease.add(now_ms + grant.start_ms, grant.granted, now_ms)
                    self._empty_until.pop(grant.bucket, None)
                else:
                    empty[grant.bucket] = grant.start_ms
            await self._sort_out(empty, now_ms)
        except RolekitError as error:
            log.info("rates wait for the database", handler=self._plan.name, error=str(error))
            for bucket in {name for one in self.waiting for name in one.needs}:
                self._empty_until[bucket] = now_ms + AFTER_ERROR_MS
        finally:
            self._asking = None
            self._forget(now_ms)
        self._pump()

    def _asks(self, now_ms: float) -> list[Ask]:
        """Say what all that waits is short of, and what will be wanted by the pace of late."""
        wanted: dict[str, float] = {}
        first: dict[str, float] = {}
        for one in self.waiting:
            for bucket, units in one.needs.items():
                if self._empty_until.get(bucket, 0.0) <= now_ms:
                    first.setdefault(bucket, units)
                    wanted[bucket] = wanted.get(bucket, 0.0) + units
        lately = sum(at > now_ms - AHEAD_MS for at in self._passed)
        asks: list[Ask] = []
        for bucket, units in wanted.items():
            rate = self._rates[bucket]
            lease = self._leases.get(bucket)
            left = 0.0 if lease is None else lease.left(now_ms)
            more = 0.0 if rate.key or rate.cost or not self._waits else lately
            if left < first[bucket] or units > left:
                ahead_ms = AHEAD_MS if self._waits else 0.0
                asks.append(
                    Ask(
                        bucket=bucket,
                        wanted=units + more - left,
                        first=first[bucket] - left,
                        step_ms=step_ms_of(rate),
                        burst=burst_of(rate),
                        ahead_ms=ahead_ms,
                    )
                )
        return asks

    def _lease(self, bucket: str) -> Lease:
        lease = self._leases.get(bucket)
        if lease is None:
            lease = self._leases[bucket] = Lease(step_ms_of(self._rates[bucket]))
        return lease

    async def _sort_out(self, empty: dict[str, float], now_ms: float) -> None:
        """Wait for slots that are near; shut the queue, or put off, where they are far."""
        ahead_ms = AHEAD_MS if self._waits else 0.0
        far: dict[str, float] = {}
        for bucket, start_ms in empty.items():
            wait_ms = start_ms - ahead_ms
            if wait_ms > self._patience_ms:
                far[bucket] = wait_ms
                if self._is_put_off(bucket):
                    continue
            poll_ms = POLL_MS * random.uniform(0.8, 1.2) if self._waits else 0.0  # noqa: S311 - jitter
            self._empty_until[bucket] = now_ms + max(wait_ms, poll_ms, 1.0)
        put_off = {bucket for bucket in far if self._is_put_off(bucket)}
        leaving = [one for one in self.waiting if not put_off.isdisjoint(one.needs)]
        behind = self._far_behind(put_off)
        if leaving or behind:
            scarce = put_off.union(*(one.needs for one in behind))
            await self._put_off([*leaving, *behind], scarce)
        plain = [wait_ms for bucket, wait_ms in far.items() if bucket not in put_off]
        if plain:
            self._shut(now_ms + max(plain))

    def _is_put_off(self, bucket: str) -> bool:
        return self._puts_off or self._rates[bucket].key is not None

    def _far_behind(self, leaving: set[str]) -> list[Waiting]:
        """Find what would wait too long for what waits before it, where a queue cannot."""
        if not self._puts_off:
            return []
        before_ms: dict[str, float] = {}
        behind: list[Waiting] = []
        for one in self.waiting:
            if not leaving.isdisjoint(one.needs):
                continue
            if any(before_ms.get(bucket, 0.0) > self._patience_ms for bucket in one.needs):
                behind.append(one)
                continue
            for bucket, units in one.needs.items():
                took_ms = units * step_ms_of(self._rates[bucket])
                before_ms[bucket] = before_ms.get(bucket, 0.0) + took_ms
        return behind

    def _shut(self, until_ms: float) -> None:
        """Take no more until there are slots, and hand back what waits."""
        self._is_shut, self._shut_until = True, until_ms
        self._out.throttle(0)
        self._out.hand_back(self.taken_out(), until_ms)
        self._alarms.at(math.ceil(until_ms), self._open)

    def _open(self) -> None:
        self._is_shut = False
        self._empty_until.clear()
        self._out.throttle(self._window)

    async def _put_off(self, items: Sequence[Waiting], scarce: set[str]) -> None:
        """Let these come again: at slots that are reserved for them, or to ask for some."""
        gone = {id(one) for one in items}
        self.waiting = deque(one for one in self.waiting if id(one) not in gone)
        try:
            planned = await plan_ahead(self._runtime, items, scarce, self._rates)
        except BaseException:
            self.waiting.extendleft(reversed(items))
            raise
        leaving = [self._out.put_off(one.delivery, due, slots) for one, due, slots in planned]
        await asyncio.gather(*leaving)

    def _forget(self, now_ms: float) -> None:
        """Forget buckets of keys that nothing is known of any more."""
        used = {bucket for one in self.waiting for bucket in one.needs}
        for bucket in [b for b in self._leases if b not in used]:
            if self._leases[bucket].left(now_ms) <= 0:
                del self._leases[bucket]
        self._empty_until = {b: at for b, at in self._empty_until.items() if at > now_ms}
        self._rates = {
            b: rate
            for b, rate in self._rates.items()
            if b in used or b in self._leases or b in self._empty_until
        }


def _window_of(plan: HandlerPlan, window: int) -> int:
    """Hold no more deliveries than go in a second: others wait in the queue, for anybody.

    What is put off does not wait, and a batch needs as many as it holds.
    """
    if plan.batch or any(rate.key for rate in plan.rates):
        return window
    rates = (r.limit / r.per_s for r in plan.rates if r.cost is None)
    return max(1, min(window, math.ceil(min(rates, default=float(window)))))
