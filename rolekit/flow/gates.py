"""Before a handler: queues that are not taken from for now, and what lets them open again.

Only handlers with a limit of their own have a gate; deliveries of others never come here. A
gate that shuts takes no more of its queue, and hands back what has not begun, so that other
instances may have it and no attempt is used up.

A broker that gives up what was delivered too often counts each time. So what came before is
not handed back to it once more, but comes again as the next generation, on its own row.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import structlog

from rolekit.clock import LoopAlarms
from rolekit.errors import RolekitError
from rolekit.flow import failure
from rolekit.flow.circuits import Calls
from rolekit.flow.meters import Meter, Outlets
from rolekit.flow.runtime import Arrival
from rolekit.flow.turnstile import CIRCUIT, RATE, Turnstile, turnstiles_for
from rolekit.model.envelope import decode_head

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from rolekit.clock import Alarms
    from rolekit.flow.call import Handler
    from rolekit.flow.runtime import Runtime
    from rolekit.model.plan import HandlerPlan
    from rolekit.observe.meters import Meters
    from rolekit.store.base import Step
    from rolekit.transport.base import Delivery, Subscription

log = structlog.get_logger("rolekit.gates")

GATHER_PATIENCE_MS = 50.0
"""What waits at a gather keeps a runner from storing parts."""


class Tap:
    """What gates may do to the consumer of their queues.

    Args:
        windows: Deliveries in hand, by queue, as long as a gate says nothing else.
        let_in: Lets a delivery begin when it is its turn.
        take_out: Takes out what was let in of a queue and has not begun.
        meters: Count what is handed back; None: nobody does.

    Attributes:
        subscription: Where deliveries come from; there is one once it has begun.
    """

    def __init__(
        self,
        windows: Mapping[str, int],
        let_in: Callable[[Delivery], None],
        take_out: Callable[[str], list[Delivery]],
        meters: Meters | None = None,
    ) -> None:
        self.meters = meters
        self.windows = windows
        self.let_in = let_in
        self.take_out = take_out
        self._said: dict[str, dict[str, int]] = {}
        self.subscription: Subscription | None = None

    def throttle(self, queue: str, who: str, window: int | None) -> None:
        """Hold so many deliveries of a queue from now on: 0 is none, None as many as usual.

        Of several who say something about one queue, the least counts.
        """
        said = self._said.setdefault(queue, {})
        said[who] = self.windows[queue] if window is None else window
        if self.subscription is not None:
            self.subscription.widen(queue, min(said.values()))

    def hand_back(self, deliveries: Iterable[Delivery]) -> None:
        """Give these back to their queues."""
        if self.subscription is not None:
            found = list(deliveries)
            if self.meters is not None:
                self.meters.came_to("returned", (delivery.packet for delivery in found))
            self.subscription.hand_back(found)


class Returns:
    """How deliveries of one handler come again that a limit does not let run now.

    Args:
        plan: Of the handler.
        tap: Of its queue.
        runtime: Of this process.
        commit: Records what is put off.
    """

    def __init__(
        self,
        plan: HandlerPlan,
        tap: Tap,
        runtime: Runtime,
        commit: Callable[[Step], Awaitable[object]],
    ) -> None:
        self._plan = plan
        self._tap = tap
        self._runtime = runtime
        self._commit = commit
        self._leaving: set[asyncio.Task[None]] = set()

    def hand_back(self, deliveries: Iterable[Delivery], due_ms: int, why: str) -> None:
        """Give these back to their queue, to come again at once or at a time."""
        counted = self._runtime.transport.features.gives_up
        fresh: list[Delivery] = []
        for delivery in deliveries:
            if not (counted and delivery.redelivered):
                fresh.append(delivery)
                continue
            # Owned by close(), which ends it.
            leaving = asyncio.create_task(self.put_off(delivery, due_ms, why))
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
        self._tap.hand_back(fresh)

    async def put_off(
        self, delivery: Delivery, due_ms: int, why: str, *, has_slots: bool = False
    ) -> None:
        """Have a delivery come again at a time: the next generation, without an attempt."""
        subscription = self._tap.subscription
        if subscription is None:
            return
        try:
            head = decode_head(delivery.packet.head)
            arrival = Arrival(delivery, subscription, head, self._plan)
            step = failure.put_off(self._runtime, arrival, due_ms, why, has_slots=has_slots)
            step = await failure.record(self._runtime, arrival, step, None, self._commit)
        except RolekitError as error:
            log.info("not put off", message=delivery.packet.id, error=str(error))
            self._tap.let_in(delivery)  # what is wrong with it, its handling will say so
            return
        (subscription.ack if step.claim is None else subscription.release)([delivery])
        if self._runtime.meters is not None:
            self._runtime.meters.came_to(step.outcome.name.lower(), [delivery.packet])

    def close(self) -> None:
        """End what is under way: its subscription hands it back."""
        for leaving in self._leaving:
            leaving.cancel()


class Gates(dict[str, "Gate"]):
    """The gates of one consumer, by queue, and the turnstiles of its gathers.

    Args:
        tap: Of the consumer.
        turnstiles: By queue.
    """

    def __init__(self, tap: Tap, turnstiles: Mapping[str, Turnstile]) -> None:
        super().__init__()
        self.tap = tap
        self._turnstiles = turnstiles
        self._calls: dict[str, Calls] = {name: one.calls for name, one in turnstiles.items()}

    def add(self, gate: Gate) -> None:
        """Take in a gate."""
        self[gate.queue] = gate
        self._calls[gate.queue] = gate.calls

    @property
    def have_calls(self) -> bool:
        """Whether it is to be noted how calls end."""
        return bool(self._calls)

    @property
    def notes(self) -> dict[str, str]:
        """What people should know of handlers now, by name."""
        return {queue: calls.note for queue, calls in self._calls.items() if calls.note}

    def offer(self, delivery: Delivery) -> None:
        """Take a delivery that came."""
        gate = self.get(delivery.packet.queue)
        if gate is None:
            self.tap.let_in(delivery)
        else:
            gate.offer(delivery)

    async def enter(self, arrival: Arrival) -> None:
        """Begin a call of a gather, which a queue cannot wait for.

        Raises:
            NotYet: It comes again instead.
        """
        turnstile = self._turnstiles.get(arrival.plan.name)
        if turnstile is not None:
            await turnstile.wait(arrival.delivery)
            turnstile.begin(arrival.delivery)

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
        for turnstile in self._turnstiles.values():
            turnstile.close()
        for gate in self.values():
            gate.close()

    def failed(self, delivery: Delivery, error: Exception) -> None:
        """Note what a call raised, before it ended."""
        calls = self._calls.get(delivery.packet.queue)
        if calls is not None:
            calls.failed(delivery, error)

    def ended(self, delivery: Delivery) -> None:
        """Note that a call ended."""
        calls = self._calls.get(delivery.packet.queue)
        if calls is not None:
            calls.ended(delivery)


class Gate:
    """The limits of one handler, in one instance.

    Args:
        plan: Of the handler.
        tap: Of its queue.
        returns: How its deliveries come again.
        runtime: Of this process.

    Attributes:
        queue: Name of the handler.
        calls: Of the handler.
        meter: Says when it may be called; None: at once.
    """

    def __init__(self, plan: HandlerPlan, tap: Tap, returns: Returns, runtime: Runtime) -> None:
        self.queue = plan.name
        self.calls = Calls(plan, runtime.clock)
        self.calls.on_open, self.calls.on_close = self._shut, self._open
        self.meter: Meter | None = None
        self._in_batches = plan.batch
        self._tap = tap
        self._returns = returns
        self._alarms: Alarms = runtime.alarms or LoopAlarms(runtime.clock)
        if plan.rates:
            outlets = Outlets(
                let_in=self._admit,
                hand_back=self._hand_back_till,
                put_off=self._put_off,
                throttle=partial(tap.throttle, plan.name, "rate"),
            )
            window = tap.windows[plan.name]
            self.meter = Meter(plan, runtime, self._alarms, outlets, window)

    def offer(self, delivery: Delivery) -> None:
        """Take a delivery that came."""
        if self.meter is None:
            self._admit(delivery)
        else:
            self.meter.offer(delivery)

    def begin(self, bundle: Delivery) -> bool:
        """Ask for the call of a batch; False: not now."""
        return self.calls.begin(bundle)

    def hand_back(self, deliveries: Iterable[Delivery]) -> None:
        """Give back what the circuit does not let begin."""
        self._returns.hand_back(deliveries, self.calls.again_ms(), CIRCUIT)

    def close(self) -> None:
        """Let nothing in any more."""
        self._returns.close()
        if self.meter is not None:
            self.meter.close()

    def _admit(self, delivery: Delivery) -> None:
        """Let a delivery in whose time has come, or hand it back.

        Of a batch handler the batch is the call; what could be part of one is let in.
        """
        is_part = self._in_batches and not delivery.is_suspect
        if not self.calls.is_shut if is_part else self.calls.begin(delivery):
            self._tap.let_in(delivery)
        else:
            self.hand_back([delivery])

    def _hand_back_till(self, deliveries: Sequence[Delivery], until_ms: float) -> None:
        self._returns.hand_back(deliveries, round(until_ms), RATE)

    async def _put_off(self, delivery: Delivery, due_ms: int, has_slots: bool) -> None:  # noqa: FBT001 - as outlets are called
        await self._returns.put_off(delivery, due_ms, RATE, has_slots=has_slots)

    def _shut(self, until_ms: int) -> None:
        """Take no more until the pause is over, and hand back what has not begun."""
        self._tap.throttle(self.queue, "circuit", 0)
        waiting = self._tap.take_out(self.queue)
        if self.meter is not None:
            waiting += self.meter.taken_out()
        for delivery in waiting:
            self.calls.forget(delivery)
        self.hand_back(waiting)
        self._alarms.at(until_ms, self._probe)

    def _probe(self) -> None:
        """Take one: its outcome decides."""
        if self.calls.is_paused:
            self._tap.throttle(self.queue, "circuit", 1)

    def _open(self) -> None:
        self._tap.throttle(self.queue, "circuit", None)


def gates_for(
    handlers: Iterable[Handler],
    tap: Tap,
    runtime: Runtime,
    commit: Callable[[Step], Awaitable[object]],
) -> Gates:
    """Make the gates of handlers that have limits; none for the others.

    Args:
        handlers: All of a consumer.
        tap: Of that consumer.
        runtime: Of this process.
        commit: Records what is put off.
    """
    plans = [one.plan for one in handlers if one.plan.circuit is not None or one.plan.rates]
    gathers = [plan for plan in plans if plan.kind == "gather"]
    gates = Gates(tap, turnstiles_for(gathers, runtime, GATHER_PATIENCE_MS))
    for plan in plans:
        if plan.kind != "gather":
            returns = Returns(plan, tap, runtime, commit)
            gates.add(Gate(plan, tap, returns, runtime))
    return gates
