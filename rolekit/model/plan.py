"""An app as data: what each handler takes, returns and how it may fail.

Made once at start from the annotations of the roles (`roles/inspect.py`), checked and
completed with routes by `model/graph.py`, read by `flow` for every message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from rolekit.model.keys import partition_queue
from rolekit.model.policy import Backoff, Circuit, Rate

if TYPE_CHECKING:
    from rolekit.model.timing import Timing

HandlerKind = Literal["handle", "gather"]
Shape = Literal["one", "list", "iterator"]
"""How a handler gives its outputs: one or none, a list, or one after another."""
Together = tuple[tuple[type, ...], ...]
"""What stands at one position: of each message there, the classes it may be of."""
OnDead = Literal["wait", "skip", "fail", "hole"]
"""What a gather does with a position that will not come; "hole": hand over a `Hole`."""
Call = Literal["async", "async_iterator", "sync", "iterator"]
"""`async`: await it. `async_iterator`: iterate it, awaiting it first where it is a coroutine.
`sync`, `iterator`: a `def`, run in a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerPlan:
    """One handler, as `flow` needs it.

    Attributes:
        name: Stable name: of the queue, and in ids. "Role.method" unless the user says so.
        role: Class name of the role.
        method: Attribute name on the role.
        kind: A gather receives a sequence, a handle one message.
        call: How to run the method.
        shape: How outputs come out of it.
        takes: Classes whose messages come to this queue; of a gather, the parts of its runs.
        dead: Classes whose dead letters it is told of.
        source: Of a gather: the class of the message that was split.
        passes_source: Of a gather: whether the method has a parameter for that message.
        whole: Of a gather: takes `list[T]`, so is called once with everything.
        batch: Takes `Batch[T]`, so is called with several messages.
        returns: Message classes it may return or yield, replies included.
        together: Of a handler that may give tuples: everything that one result may be. Empty
            where it gives none: each class of `returns` stands at a position of its own.
        sends: Message classes it may `ctx.send`.
        may_drop: Whether None is an allowed result.
        reads_from: Of a handle: the queue of another program that it takes from, beside its
            own; empty where there is none.
        arguments: Parameter names in order with what each is given.
        record: Commit the outputs before they leave, even for a direct step.
        retry: Policies in order; the first whose `on` matches an exception decides.
        timeout_s: Seconds one call may take.
        key: Fields or properties that make the key; empty: its messages have none.
        on_dead: Of a gather, or of a key: "wait" or "skip".
        deadline_s: Of a gather; None is the default of a day, then as `on_dead` says.
        size: Parts in a run, or messages in a batch, at most.
        age_s: How long to wait for a fuller run, or batch.
        ordered: Of a gather: whether its runs come in order, or parts as they come.
        timing: When it is called, of one that takes no message; None: when a message comes.
        rates: How fast it is called at most, over the fleet; all of them count.
        circuit: When it is not called for a while; None: it always is.
    """

    name: str
    role: str
    method: str
    kind: HandlerKind = "handle"
    call: Call = "async"
    shape: Shape = "one"
    takes: tuple[type, ...] = ()
    dead: tuple[type, ...] = ()
    source: type | None = None
    passes_source: bool = False
    whole: bool = False
    batch: bool = False
    returns: tuple[type, ...] = ()
    together: tuple[Together, ...] = ()
    sends: tuple[type, ...] = ()
    may_drop: bool = False
    reads_from: str = ""
    arguments: tuple[tuple[str, Literal["message", "context", "run"]], ...] = ()
    record: bool = False
    retry: tuple[Backoff, ...] = ()
    timeout_s: float = 60
    key: tuple[str, ...] = ()
    on_dead: OnDead = "wait"
    deadline_s: float | None = None
    size: int = 1000
    age_s: float = 0
    ordered: bool = True
    timing: Timing | None = None
    circuit: Circuit | None = None
    rates: tuple[Rate, ...] = ()

    @property
    def positions(self) -> tuple[Together, ...]:
        """What may stand at one position that it fills."""
        return self.together or tuple(((cls,),) for cls in self.returns)

    def opens_in(self, app: AppPlan) -> str | None:
        """Return the gather of the sequence that this handler opens, if it opens one."""
        return app.opens.get(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppPlan:
    """A whole app, checked.

    Attributes:
        name: Of the app; names its schema in Postgres and its queues on a broker.
        handlers: By name.
        destinations: For each message class, the names of the handlers that take it. A
            gather is among them, and only gets what stands in a sequence of its own.
        reaches: For each handler, the gathers that what it takes can end up in. A gather
            reaches itself, and whatever its outputs reach.
        opens: For each handler that splits into a sequence, the name of its gather.
        wire_names: Class to wire name.
        types: Wire name, or alias, to class.
        outside: For each class that another app handles, the name of that app.
        told: For each message class, the handlers that are told of its dead letters.
        partitions: For each role that has keyed handlers, into how many its keys are divided.
        streams: Names of the gathers that no split feeds: they take what clients send with
            `stream=`.
    """

    name: str
    handlers: Mapping[str, HandlerPlan]
    destinations: Mapping[type, tuple[str, ...]]
    reaches: Mapping[str, frozenset[str]]
    opens: Mapping[str, str]
    wire_names: Mapping[type, str]
    types: Mapping[str, type]
    told: Mapping[type, tuple[str, ...]] = field(default_factory=dict[type, tuple[str, ...]])
    streams: frozenset[str] = frozenset()
    retry: Backoff = field(default_factory=Backoff)
    codec: Literal["json", "msgpack"] = "json"
    horizon_s: float = 7 * 86400
    results_s: float = 86400
    partitions: Mapping[str, int] = field(default_factory=dict[str, int])
    outside: Mapping[type, str] = field(default_factory=dict[type, str])

    def queues(self, role: str | None = None) -> list[str]:
        """List the queues of one role, or of all: of each handler, or of the partitions.

        Keyed handlers of a role share its partitions and have no queue of their own.
        """
        plans = [plan for plan in self.handlers.values() if role in (None, plan.role)]
        own = [plan.name for plan in plans if not plan.key]
        keyed = dict.fromkeys(plan.role for plan in plans if plan.key)
        return [*own, *(queue for name in keyed for queue in self.partition_queues(name))]

    def partition_queues(self, role: str) -> list[str]:
        """List the queues of a role's partitions, in order."""
        return [partition_queue(role, n) for n in range(self.partitions.get(role, 0))]

    @property
    def timed(self) -> list[HandlerPlan]:
        """The handlers that are called by time."""
        return [plan for plan in self.handlers.values() if plan.timing is not None]

    def of_role(self, role: str) -> list[HandlerPlan]:
        """Return the handlers of one role, in the order they were written."""
        return [plan for plan in self.handlers.values() if plan.role == role]


Bound = Callable[..., Any]
"""A handler's method, bound to its role. What it takes and returns was checked at start."""
