"""Before a handler: queues that are not taken from for now, and what lets them open again.

Only handlers with a limit of their own have a gate; deliveries of others never come here. A
gate that shuts takes no more of its queue, and hands back what has not begun, so that other
instances may have it and no attempt is used up.

A circuit is that of one instance: what fails here, because of this host's network say, may work
elsewhere, and nobody has to ask anybody before a call. An instance learns by itself, from
`at_least` calls.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from rolekit.clock import LoopAlarms
from rolekit.errors import CodecError, Reject, Retry, RolekitError, TooOld, UnknownType
from rolekit.flow import failure
from rolekit.flow.meters import Meter, Outlets
from rolekit.flow.runtime import Arrival
from rolekit.model.circuit import Breaker
from rolekit.model.envelope import decode_head

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from rolekit.clock import Alarms, Clock
    from rolekit.flow.call import Handler
    from rolekit.flow.lanes import Lanes
    from rolekit.flow.runtime import Runtime
    from rolekit.model.plan import HandlerPlan
    from rolekit.store.base import Step
    from rolekit.transport.base import Delivery, Subscription

log = structlog.get_logger("rolekit.gates")

NOT_A_FAILURE = (Reject, CodecError, TooOld, UnknownType)
"""The handler judged its message, or never saw it: the handler itself works."""


class Tap:
    """What gates may do to the consumer of their queues.

    Args:
        lanes: Where deliveries wait for their turn.
        window: Deliveries in hand per queue, as long as a gate says nothing else.
        wake: Has what waits begin.

    Attributes:
        window: As given.
        subscription: Where deliveries come from; there is one once it has begun.
    """

    def __init__(self, lanes: Lanes, window: int, wake: Callable[[], None]) -> None:
        self._lanes = lanes
        self.window = window
        self._wake = wake
        self._said: dict[str, dict[str, int]] = {}
        self.subscription: Subscription | None = None

    def throttle(self, queue: str, who: str, window: int | None) -> None:
        """Hold so many deliveries of a queue from now on: 0 is none, None as many as usual.

        Of several who say something about one queue, the least counts.
        """
        said = self._said.setdefault(queue, {})
        said[who] = self.window if window is None else window
        if self.subscription is not None:
            self.subscription.widen(queue, min(said.values()))

    def hand_back(self, deliveries: Iterable[Delivery]) -> None:
        """Give these back to their queues."""
        if self.subscription is not None:
            self.subscription.hand_back(deliveries)

    def let_in(self, delivery: Delivery) -> None:
        """Let a delivery begin when it is its turn."""
        self._lanes.add(delivery)
        self._wake()

    def taken_out(self, queue: str) -> list[Delivery]:
        """Take out what was let in of a queue and has not begun."""
        return self._lanes.surplus(queue, 0)


class Gates(dict[str, "Gate"]):
    """The gates of one consumer, by queue.

    Args:
        tap: Of the consumer.
        otherwise: Takes deliveries of queues without a gate.
    """

    def __init__(self, tap: Tap, otherwise: Callable[[Delivery], None]) -> None:
        super().__init__()
        self.tap = tap
        self._otherwise = otherwise

    @property
    def notes(self) -> dict[str, str]:
        """What people should know of handlers now, by name."""
        return {queue: gate.note for queue, gate in self.items() if gate.note}

    def offer(self, delivery: Delivery) -> None:
        """Take a delivery that came."""
        gate = self.get(delivery.packet.queue)
        if gate is None:
            self._otherwise(delivery)
        else:
            gate.offer(delivery)

    @property
    def waiting(self) -> int:
        """Deliveries that are not let in yet."""
        return sum(len(g.meter.waiting) for g in self.values() if g.meter is not None)

    def begin(self, subscription: Subscription) -> None:
        """Stand before the queues of a subscription."""
        self.tap.subscription = subscription
        for gate in self.values():
            if gate.meter is not None:
                gate.meter.begin()

    def close(self) -> None:
        """Let nothing in any more."""
        for gate in self.values():
            if gate.meter is not None:
                gate.meter.close()

    def failed(self, delivery: Delivery, error: Exception) -> None:
        """Note what a call raised, before it ended."""
        gate = self.get(delivery.packet.queue)
        if gate is not None:
            gate.failed(delivery, error)

    def ended(self, delivery: Delivery) -> None:
        """Note that a call ended."""
        gate = self.get(delivery.packet.queue)
        if gate is not None:
            gate.ended(delivery)


class Gate:
    """The limits of one handler, in one instance.

    Args:
        queue: Name of the handler.
        breaker: Says whether it may be called; None: it always may.
        tap: Of its queue.
        clock: The time.
        alarms: Of that clock.

    Attributes:
        meter: Says when it may be called; None: at once.
    """

    def __init__(
        self, queue: str, breaker: Breaker | None, tap: Tap, clock: Clock, alarms: Alarms
    ) -> None:
        self.meter: Meter | None = None
        self._queue = queue
        self._breaker = breaker
        self._tap = tap
        self._clock = clock
        self._alarms = alarms
        self._running: dict[int, bool] = {}
        self._failed: set[int] = set()

    @property
    def note(self) -> str:
        """What people should know of it now; empty: nothing."""
        is_open = self._breaker is not None and self._breaker.state != "closed"
        return "circuit open" if is_open else ""

    def offer(self, delivery: Delivery) -> None:
        """Take a delivery that came."""
        if self.meter is None:
            self.admit(delivery)
        else:
            self.meter.offer(delivery)

    def admit(self, delivery: Delivery) -> None:
        """Let a delivery in whose time has come, or hand it back."""
        if self._breaker is None:
            self._tap.let_in(delivery)
        elif self._breaker.begin(self._clock.now_ms()):
            self._running[id(delivery)] = self._breaker.is_probing
            self._tap.let_in(delivery)
        else:
            self._tap.hand_back([delivery])

    def failed(self, delivery: Delivery, error: Exception) -> None:
        """Note what a call raised. Called before `ended`; afterwards it is not its failure."""
        if id(delivery) in self._running and is_failure(error):
            self._failed.add(id(delivery))

    def ended(self, delivery: Delivery) -> None:
        """Note that a call ended."""
        is_probe = self._running.pop(id(delivery), None)
        breaker = self._breaker
        if is_probe is None or breaker is None:
            return
        has_failed = id(delivery) in self._failed
        self._failed.discard(id(delivery))
        before = breaker.state
        counts = breaker.counts(self._clock.now_ms()) if before == "closed" else (0, 0)
        breaker.ended(self._clock.now_ms(), failed=has_failed, is_probe=is_probe)
        if breaker.state == before:
            return
        if breaker.state == "open":
            self._shut(breaker, *counts)
        elif before == "probing":
            log.info("circuit closed; the queue is taken from again", handler=self._queue)
            self._tap.throttle(self._queue, "circuit", None)

    def _shut(self, breaker: Breaker, failures: int, calls: int) -> None:
        """Take no more until the pause is over, and hand back what has not begun."""
        until_ms = breaker.open_until_ms
        log.warning(
            "circuit open; its queue waits, and no attempts are used up",
            handler=self._queue,
            failures=failures + 1,
            calls=calls + 1,
            probes_in_s=(until_ms - self._clock.now_ms()) / 1000,
        )
        self._tap.throttle(self._queue, "circuit", 0)
        waiting = self._tap.taken_out(self._queue)
        if self.meter is not None:
            waiting += self.meter.taken_out()
        for delivery in waiting:
            self._running.pop(id(delivery), None)
        self._tap.hand_back(waiting)
        self._alarms.at(until_ms, self._probe)

    def _probe(self) -> None:
        """Take one: its outcome decides."""
        if self._breaker is not None and self._breaker.state == "open":
            self._tap.throttle(self._queue, "circuit", 1)


def is_failure(error: Exception) -> bool:
    """Say whether an error speaks against the handler, or what it calls.

    `Reject` and `Retry(counts=False)` do not: who raises them was answered.
    """
    if isinstance(error, Retry):
        return error.counts
    return not isinstance(error, NOT_A_FAILURE)


def gates_for(
    handlers: Iterable[Handler],
    tap: Tap,
    runtime: Runtime,
    commit: Callable[[Step], Awaitable[object]],
    otherwise: Callable[[Delivery], None],
) -> Gates:
    """Make the gates of handlers that have limits; none for the others.

    Args:
        handlers: All of a consumer.
        tap: Of that consumer.
        runtime: Of this process.
        commit: Records what is put off.
        otherwise: Takes deliveries of queues without a gate.
    """
    gates = Gates(tap, otherwise)
    alarms = runtime.alarms or LoopAlarms(runtime.clock)
    for plan in (handler.plan for handler in handlers):
        if plan.circuit is None and not plan.rates:
            continue
        breaker = None if plan.circuit is None else Breaker(plan.circuit)
        gate = gates[plan.name] = Gate(plan.name, breaker, tap, runtime.clock, alarms)
        if plan.rates:
            outlets = Outlets(
                let_in=gate.admit,
                hand_back=tap.hand_back,
                put_off=partial(_put_off, plan, tap, runtime, commit),
                throttle=partial(tap.throttle, plan.name, "rate"),
            )
            gate.meter = Meter(plan, runtime, alarms, outlets, tap.window)
    return gates


async def _put_off(
    plan: HandlerPlan,
    tap: Tap,
    runtime: Runtime,
    commit: Callable[[Step], Awaitable[object]],
    delivery: Delivery,
    due_ms: int,
) -> None:
    """Have a delivery come again at a time: the next generation, without an attempt."""
    subscription = tap.subscription
    if subscription is None:
        return
    head = decode_head(delivery.packet.head)
    step = failure.put_off(runtime, Arrival(delivery, subscription, head, plan), due_ms)
    try:
        await commit(step)
    except RolekitError as error:
        log.info("not put off", message=delivery.packet.id, error=str(error))
        tap.let_in(delivery)  # whatever is wrong with it, its handling will say so
        return
    (subscription.ack if step.claim is None else subscription.release)([delivery])
