"""How messages are traced: what spans there are of one, and what its outputs carry on.

Each attempt at a message is a `process` span. What it sends has one `send` span, whose
context its outputs carry in their headers, so the next `process` span is a child of that. A
position of a sequence that closes is a `store` span; whoever releases the sequence links to
those. The context an attempt hands on is drawn when it begins, and takes the place of the
one that came in the headers of its message: everything that is made of those carries it.

Names and attributes are those of OpenTelemetry's messaging conventions.

Source: DESIGN 8; PITFALLS 1.4.
"""

from __future__ import annotations

import time
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from rolekit.flow.attempt import MANY, Attempt
from rolekit.flow.leaving import Leaving
from rolekit.flow.remembered import Memory
from rolekit.flow.runtime import Arrival
from rolekit.model.envelope import Kind
from rolekit.model.span import (
    NO_TRACE,
    TRACEPARENT,
    SpanKind,
    TraceContext,
    context_of,
    may_be_sampled,
    span_at,
)
from rolekit.observe.tracing import Live, carried, new_trace_id, outer_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rolekit.model.conventions import Server
    from rolekit.model.envelope import Packet
    from rolekit.model.reassembly import Closing
    from rolekit.model.span import Span
    from rolekit.observe.tracing import Tracer, Value
    from rolekit.store.base import Step

LATE_AGAIN_S = 0.1
"""When as many late messages are traced as may be, no other is for so long."""
OPERATIONS = 1_000
"""Attributes of so many are at hand: what is done with which queue."""
LOOK_EVERY_S = 0.001
"""For so long `late_ms` stays: times are in milliseconds, and many messages come in one."""


class Tracing:
    """Traces messages in one process.

    Args:
        tracer: Of this process.
        system: What carries the messages, as OpenTelemetry calls it.
        prefix: Of queues there.
        leaves_later: What is committed leaves after the commit.
        broker: Attributes of where messages travel through, as `server_of` says them.
        commits: Attributes of commits: where they go.

    Attributes:
        leaving: Sends that have not left yet.
        slow_s: What waits or runs longer is traced from there on.
        memory: Of what nobody traces.
        wanted: Traces that are kept after all, by root.
        late_ms: What was sent before this time may be late, milliseconds since 1970.
        look_s: From this time on, seconds since 1970, `look` must be asked before.
        operation: Gives the attributes of what is done with a queue: what, template, queue.
        flush: Hands on at once what began; must not raise. The parts of a process call it
            before something leaves that may refer to a span, so it is set before they are made.
    """

    def __init__(
        self,
        tracer: Tracer,
        *,
        system: str,
        prefix: str = "",
        leaves_later: bool = False,
        broker: Server = (),
        commits: Mapping[str, Value] = MappingProxyType({}),
    ) -> None:
        self._commit: dict[str, Value] = {
            "db.system.name": "postgresql",
            "db.operation.name": "COMMIT",
            **commits,
        }
        self.tracer = tracer
        self._system: dict[str, Value] = {
            "messaging.system": system,
            "messaging.client.id": tracer.instance,
            **dict(broker),
        }
        self._prefix = prefix
        self.leaves_later = leaves_later
        self.operation = lru_cache(OPERATIONS)(self._operation)
        self.leaving = Leaving()
        self.slow_s = tracer.sampling.slow_s
        self.memory = Memory(tracer, self.operation)
        self.wanted = self.memory.wanted
        self.late_ms, self.look_s = 0, 0.0
        self.flush: Callable[[], None] = lambda: None

    # -- one message -------------------------------------------------------------------------

    def look(self, now_s: float) -> None:
        """Work out from when on nothing is late, for all messages of a moment at once.

        Args:
            now_s: The time, seconds since 1970.
        """
        self.late_ms = int((now_s - self.slow_s) * 1000)
        self.look_s = now_s + LOOK_EVERY_S

    def begin(self, arrival: Arrival, now_s: float) -> Arrival:
        """Begin an attempt at a message, if it is traced.

        Args:
            arrival: The delivery.
            now_s: The time, seconds since 1970.

        Returns:
            The delivery as it goes on: what is made of its headers is caused by this attempt.
        """
        headers = arrival.head.headers
        header = headers.get(TRACEPARENT) if headers else None
        if header is not None and may_be_sampled(header):
            found = context_of(header)
            if found is not None and found.is_sampled:
                return self._traced(arrival, found)
        elif self.wanted and (wanted := self.memory.context_of(arrival)) is not None:
            return self._traced(arrival, wanted)
        plan = arrival.plan
        if header is None and (plan.timing or plan.reads_from) and self.tracer.begins():
            return self._traced(arrival, None)
        birth_ms = arrival.packet.birth_ms
        if birth_ms and now_s - birth_ms / 1000 > self.slow_s:
            return self.late(arrival)
        return arrival

    def _traced(
        self,
        arrival: Arrival,
        cause: TraceContext | None,
        *,
        begun_ns: int = 0,
        is_slow: bool = False,
        is_late: bool = False,
    ) -> Arrival:
        head = arrival.head
        trace, parent = self._roots(arrival, cause)
        process = Live(
            self.tracer,
            f"process {arrival.plan.name}",
            SpanKind.CONSUMER,
            trace=trace,
            parent=parent,
            message=arrival.packet.id,
            begun_ns=begun_ns,
            attributes=self._about(arrival),
            is_slow=is_slow,
            is_late=is_late and not arrival.plan.reads_from,  # nobody was before
        )
        attempt = Attempt(self, process)
        process.begin()
        headers = {**head.headers, TRACEPARENT: attempt.context.header()}
        head = msgspec.structs.replace(head, headers=headers)
        return Arrival(
            arrival.delivery, arrival.subscription, head, arrival.plan, arrival.turn, attempt
        )

    def _roots(self, arrival: Arrival, cause: TraceContext | None) -> tuple[str, str]:
        """Say in which trace it is, and behind which span, as far as anybody knows."""
        if cause is not None:
            return cause.trace, cause.span
        root = arrival.head.root
        dropped = context_of(arrival.head.headers.get(TRACEPARENT, ""))
        if dropped is not None:
            return dropped.trace, ""
        is_trace = len(root) == len(NO_TRACE)
        return (root if is_trace else new_trace_id()), self.memory.before(arrival)

    def _about(self, arrival: Arrival) -> dict[str, Value]:
        head, packet, delivery = arrival.head, arrival.packet, arrival.delivery
        found: dict[str, Value] = {
            **self.operation("process", arrival.plan.name, packet.queue),
            "messaging.message.id": packet.id,
            "messaging.message.conversation_id": head.root,
            "rolekit.message.type": head.type,
        }
        tried = head.attempts.failures + head.attempts.crashes
        if tried:
            found["rolekit.attempt"] = tried + 1
        if packet.generation:
            found["rolekit.generation"] = packet.generation
        if delivery.redelivered:
            found["rolekit.redelivered"] = True
        if delivery.is_suspect:
            found["rolekit.suspect"] = True
        if head.is_release:
            found["rolekit.sequence"] = head.sequence
        elif head.frames:
            frame = head.frames[-1]
            found["rolekit.sequence"] = frame.sequence
            found["rolekit.position"] = ".".join(map(str, frame.path))
        if head.kind is not Kind.MESSAGE:
            found["rolekit.kind"] = head.kind.name.lower()
        return found

    def _operation(self, what: str, template: str, queue: str) -> Mapping[str, Value]:
        """Say what is done with a queue, as the conventions do; shared, so never changed."""
        found: dict[str, Value] = {
            **self._system,
            "messaging.operation.name": what,
            "messaging.operation.type": what,
            "messaging.destination.name": f"{self._prefix}{queue}",
            "messaging.destination.template": template,
        }
        if self._prefix:
            found["messaging.rabbitmq.destination.routing_key"] = f"{self._prefix}{queue}"
        return found

    def late(self, arrival: Arrival, *, since_s: float = 0) -> Arrival:
        """Trace an attempt that nobody traces, since it waited or took long.

        Args:
            arrival: Which.
            since_s: When it began, seconds since 1970; 0: now.
        """
        if not self.tracer.keeps_late():
            # In a backlog every message is late: they are not asked about one by one.
            self.late_ms, self.look_s = 0, time.time() + LATE_AGAIN_S
            return arrival
        return self._traced(
            arrival, None, begun_ns=int(since_s * 1e9), is_slow=True, is_late=True
        )

    def failed(self, arrival: Arrival, error: Exception, since_s: float = 0) -> Arrival:
        """Note why an attempt failed; one that nobody traces is traced from here on."""
        if arrival.trace is None and self.tracer.keeps_late():
            arrival = self._traced(arrival, None, begun_ns=int(since_s * 1e9), is_late=True)
        if arrival.trace is not None:
            arrival.trace.failed(error)
        return arrival

    # -- what leaves -------------------------------------------------------------------------

    def sending(self, attempt: Attempt, packets: Sequence[Packet]) -> Live:
        """Make the span of what an attempt sends."""
        process = attempt.process.span
        return self._send(packets, process.trace, process.id, attempt.send_id)

    def _send(self, packets: Sequence[Packet], trace: str, parent: str, id_: str) -> Live:
        queues = {packet.queue for packet in packets}
        queue = packets[0].queue
        sending = Live(
            self.tracer,
            f"send {queue}" if len(queues) == 1 else "send",
            SpanKind.PRODUCER,
            trace=trace,
            parent=parent,
            id_=id_,
            message=packets[0].id,
            attributes={**self.operation("send", queue, queue)},
        )
        attributes = sending.span.attributes
        if len(packets) > 1:
            attributes["messaging.batch.message_count"] = len(packets)
        else:
            attributes["messaging.message.id"] = packets[0].id
        return sending

    def entering(self, headers: Mapping[str, str] | None) -> tuple[dict[str, str], Live | None]:
        """Decide whether what is sent from outside is traced, and what it carries.

        A context that the sender gave stays as it is.

        Returns:
            Headers, and the span of the send, which `sent` completes; None: not traced.
        """
        found = {**carried.get(), **headers} if headers else carried.get().copy()
        if TRACEPARENT in found and context_of(found[TRACEPARENT]) is not None:
            return found, None
        cause = outer_context()
        if cause is None:
            if not self.tracer.begins():
                return found, None
            cause = TraceContext(new_trace_id(), "", is_sampled=True)
        elif not cause.is_sampled:
            return found, None
        sending = Live(
            self.tracer, "send", SpanKind.PRODUCER, trace=cause.trace, parent=cause.span
        )
        found[TRACEPARENT] = sending.context.header()
        return found, sending

    def sent(self, sending: Live, packets: Sequence[Packet], root: str) -> None:
        """Say what a send is about, before it leaves."""
        span, queue = sending.span, packets[0].queue
        span.name = f"send {queue}" if len(packets) == 1 else "send"
        span.message = root
        span.attributes = {**self.operation("send", queue, queue)}
        span.attributes["messaging.message.conversation_id"] = root
        span.attributes["messaging.message.id"] = packets[0].id
        if len(packets) > 1:
            span.attributes["messaging.batch.message_count"] = len(packets)
        self.leaving.wait_for(sending.begin())

    def received(self, header: str, type_: str, root: str) -> None:
        """Note that whoever waits for an answer has it now.

        It belongs to the trace of what answered; a request that follows what another one sent
        has a trace of its own, and is linked.

        Args:
            header: The `traceparent` of what answered.
            type_: Of the answer.
            root: What it is an answer to.
        """
        cause = context_of(header)
        if cause is None or not cause.is_sampled:
            return
        waits = outer_context()
        is_other = waits is not None and waits.is_sampled and waits.trace != cause.trace
        Live(
            self.tracer,
            f"receive {type_}" if type_ else "receive failure",
            SpanKind.CLIENT,
            trace=cause.trace,
            parent=cause.span,
            message=root,
            attributes={
                **self._system,
                "messaging.operation.name": "receive",
                "messaging.operation.type": "receive",
                "messaging.message.conversation_id": root,
                "rolekit.message.type": type_,
            },
            links=((waits.trace, waits.span),) if waits is not None and is_other else (),
        ).end()

    # -- sequences and commits -----------------------------------------------------------------

    def stored(self, process: Span, closing: Closing, now_ns: int) -> None:
        """Note that a position closed."""
        Live(
            self.tracer,
            "store",
            SpanKind.INTERNAL,
            trace=process.trace,
            parent=process.id,
            id_=span_at(closing.sequence, closing.path),
            message=process.message,
            begun_ns=now_ns,
            attributes={
                "rolekit.sequence": closing.sequence,
                "rolekit.position": ".".join(map(str, closing.path)),
                "rolekit.closed_by": closing.by.name.lower(),
            },
        ).begin().end(now_ns)  # begun, since a release may link to it at once

    def committed(self, steps: Sequence[Step], begun_ns: int) -> None:
        """Note a commit: one span in each trace that had a step in it."""
        by_trace: dict[str, list[Span]] = {}
        for step in steps:
            if isinstance(step.trace, Attempt):
                process = step.trace.process.span
                by_trace.setdefault(process.trace, []).append(process)
        if not by_trace:
            return
        about = dict(self._commit)
        if len(steps) > 1:  # one is no batch
            about["db.operation.batch.size"] = len(steps)
        for trace, processes in by_trace.items():
            Live(
                self.tracer,
                "commit",
                SpanKind.CLIENT,
                trace=trace,
                parent=processes[0].id,
                message=processes[0].message,
                begun_ns=begun_ns,
                attributes=about,
                links=tuple((trace, one.id) for one in processes[1:MANY]),
            ).end()
