"""What every part of the flow is given: the app as data, and where things are kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolekit.flow.blobs import Blobs
from rolekit.flow.deadlines import Deadlines
from rolekit.flow.states import States
from rolekit.transport.base import INBOUND, outside_queue

if TYPE_CHECKING:
    from rolekit.bell import Bell
    from rolekit.clock import Alarms, Clock
    from rolekit.flow.attempt import Attempt
    from rolekit.flow.keyed.turn import Turn
    from rolekit.flow.tracing import Tracing
    from rolekit.model.codec import Codec
    from rolekit.model.envelope import Head, Packet
    from rolekit.model.plan import AppPlan, HandlerPlan
    from rolekit.observe.meters import Meters
    from rolekit.store.base import Deaths, Store
    from rolekit.transport.base import Delivery, Subscription, Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """One process's view of an app.

    Attributes:
        plan: The app.
        codec: For its messages.
        store: Where state is kept.
        transport: Where queues are.
        bell: Rings when something came.
        clock: The time.
        owner: Names this process in claims; also its reply queue.
        blobs: Bytes that travel as references.
        states: Those that steps of this process use.
        deadlines: Bounds calls of handlers.
        alarms: Of `clock`, where it is moved by hand; None: those of the event loop.
        deaths: What is known of instances that died; None where the transport tells.
        unknown_s: How long a type that nobody knows may come again.
        keeps_sent: What clients send goes through the outbox, so that it is kept.
        tracing: Traces messages; None: nobody does.
        meters: Counts; None: nobody does.
    """

    plan: AppPlan
    codec: Codec
    store: Store
    transport: Transport
    bell: Bell
    clock: Clock
    owner: int
    deaths: Deaths | None = None
    alarms: Alarms | None = None
    unknown_s: float = 600
    keeps_sent: bool = False
    tracing: Tracing | None = None
    meters: Meters | None = None
    blobs: Blobs = field(init=False)
    states: States = field(init=False)
    deadlines: Deadlines = field(init=False, default_factory=Deadlines)
    _targets: dict[tuple[type, str], tuple[str, ...]] = field(
        init=False, default_factory=dict[tuple[type, str], tuple[str, ...]]
    )
    _queues: dict[type, tuple[str, ...]] = field(
        init=False, default_factory=dict[type, tuple[str, ...]]
    )

    def __post_init__(self) -> None:
        """Make what hangs on the rest."""
        object.__setattr__(self, "blobs", Blobs(self.store, self.clock))
        object.__setattr__(self, "states", States(self.store))

    @property
    def own_queues(self) -> list[str]:
        """List the queues to declare: of handlers, and those from and to other apps."""
        others = dict.fromkeys(map(outside_queue, self.plan.outside.values()))
        return [*self.plan.queues(), INBOUND, *others]

    @property
    def reply_queue(self) -> str:
        """Where answers for this process go."""
        return f"~reply.{self.owner}"

    def targets(self, cls: type, inner: str) -> tuple[str, ...]:
        """List the handlers that get a message of this class.

        Args:
            cls: Of the message.
            inner: The gather of the innermost sequence that it stands in, or empty. A gather
                gets only what stands in a sequence of its own.
        """
        found = self._targets.get((cls, inner))
        if found is None:
            plan = self.plan
            found = self._targets[cls, inner] = tuple(
                name
                for name in plan.destinations.get(cls, ())
                if plan.handlers[name].kind != "gather" or name == inner
            )
        return found

    def queues_of(self, cls: type) -> tuple[str, ...]:
        """List the queues that a message of this class from outside may go into."""
        found = self._queues.get(cls)
        if found is None:
            handlers = [self.plan.handlers[name] for name in self.targets(cls, "")]
            queues: dict[str, None] = {}
            for plan in handlers:
                own = [plan.name]
                queues |= dict.fromkeys(
                    self.plan.partition_queues(plan.role) if plan.key else own
                )
            if cls in self.plan.outside:
                queues[outside_queue(self.plan.outside[cls])] = None
            found = self._queues[cls] = tuple(queues)
        return found


@dataclass(slots=True)
class Arrival:
    """A delivery whose head was read; nothing of it changes.

    It is not frozen, since one is made for each delivery, and that takes four times as long.

    Attributes:
        delivery: As the transport gave it.
        subscription: Where it is settled.
        head: Decoded.
        plan: Of the handler it came to.
        turn: Of a keyed message: its turn among those of its key.
        trace: Its spans; None: it is not traced.
    """

    delivery: Delivery
    subscription: Subscription
    head: Head
    plan: HandlerPlan
    turn: Turn | None = None
    trace: Attempt | None = None

    @property
    def packet(self) -> Packet:
        """What came."""
        return self.delivery.packet
