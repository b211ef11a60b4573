"""What a process did lately and nobody traces: remembered, in case it is wanted after all.

For each attempt and each send it keeps a tuple, of names, ids and times: no span, nothing of
bodies. When a trace is kept after all, since something of it failed or was slow, spans are
made of what is still there. What comes of such a trace later is traced as it happens. A
process that is so busy that this would reach back for no time remembers a share of all traces.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from rolekit.flow.share import Share
from rolekit.model.envelope import Kind
from rolekit.model.plan import HandlerPlan
from rolekit.model.span import SpanKind, TraceContext, send_of
from rolekit.observe.tracing import Live, Untraced, current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rolekit.flow.runtime import Arrival
    from rolekit.model.envelope import Head, Packet
    from rolekit.model.span import Recall
    from rolekit.observe.tracing import Tracer, Value
    from rolekit.store.base import Step as Recorded

MOST = 4_000
"""So many attempts are remembered, and so many sends: 2 MB, in a process that is busy."""
CHUNKS, CHUNK = 200, 100
"""Of attempts that sent several, so many chunks of so many ids are: another 2 MB."""
KEPT_S = 60.0
"""What is older is not handed in, so whoever asks does not count on it."""
WANTED = 1_000
"""Of so many traces it is known that they are wanted."""
MORE = 500
"""Of each, so many more are traced as they happen."""
_SENDERLESS = frozenset({Kind.RELEASE, Kind.BEHIND, Kind.FIRING, Kind.DEAD})
"""No message says of these that it sent them."""

Sent = tuple[str, ...]
"""Queue and id of each message that was sent, in turns."""
Chunk = tuple[str, str, float, Sent]
"""root, span of the attempt, when in seconds, some of what it sent."""
Step = tuple[str, str, str, HandlerPlan, int, Kind, float, float, str, str]
"""root, id, queue, handler, generation, kind, begin and duration in seconds, and queue and id
of what it sent, if that is one message; else they are empty. It is flat, of what is at hand:
what each message makes and nobody frees soon is what remembering costs."""
Intake = tuple[str, int, Sent, Live | Untraced | None]
"""root, when in milliseconds, what was sent, and what was current then."""


class Memory:
    """Remembers attempts and sends of one process.

    Args:
        tracer: Of this process.
        about: Gives the attributes of an operation: what, template, queue.

    Attributes:
        share: Of all traces, those whose attempts are remembered.
        wanted: Traces that are kept after all, by root: the trace, and how many more of its
            attempts are traced here.
    """

    def __init__(
        self, tracer: Tracer, about: Callable[[str, str, str], Mapping[str, Value]]
    ) -> None:
        self._tracer = tracer
        self._about = about
        self._steps: deque[Step] = deque(maxlen=MOST)
        self._chunks: deque[Chunk] = deque(maxlen=CHUNKS)
        self._intakes: deque[Intake] = deque(maxlen=MOST)
        self.share, self._share_of_intakes = Share(MOST), Share(MOST)
        self.wanted: dict[str, tuple[str, int]] = {}

    # -- remembering --------------------------------------------------------------------------

    def handled(
        self,
        arrival: Arrival,
        began_s: float,
        took_s: float,
        step: Recorded | None,
        direct: Packet | None = None,
    ) -> None:
        """Remember an attempt that nobody traces, and what it gave."""
        head = arrival.head
        if head.root >= self.share.below and head.root not in self.wanted:
            return
        packet = arrival.delivery.packet
        to = sent = ""
        if direct is not None:
            to, sent = direct.queue, direct.id
        elif step is not None and (outputs := step.outputs):
            if len(outputs) == 1:
                to, sent = outputs[0].queue, outputs[0].id
            else:
                self._split(arrival, outputs, began_s + took_s)
        attempt = (
            head.root, packet.id, packet.queue, arrival.plan, packet.generation,
            head.kind, began_s, took_s, to, sent,
        )  # fmt: skip
        if self.wanted and (trace := self._one_more(head.root)):  # wanted since it began
            self._tell_step(attempt, trace)
        else:
            self._steps.append(attempt)
            self.share.took(began_s)

    def _split(self, arrival: Arrival, outputs: Sequence[Packet], at_s: float) -> None:
        packet, root = arrival.packet, arrival.head.root
        process = _process_of(packet.id, packet.queue, packet.generation)
        for at in range(0, min(len(outputs), CHUNKS * CHUNK), CHUNK):
            chunk = (root, process, at_s, _names(outputs[at : at + CHUNK]))
            if trace := self._one_more(root):
                self._tell_chunk(chunk, trace)
            else:
                self._chunks.append(chunk)

    def sent(self, packets: Sequence[Packet], head: Head) -> None:
        """Remember what was sent from outside and nobody traces.

        Args:
            packets: Of one message.
            head: Of all of them.
        """
        if head.root >= self._share_of_intakes.below:
            return
        by = current.get()
        if len(packets) == 1:
            (packet,) = packets
            sent: Sent = (packet.queue, packet.id)
        else:
            sent = _names(packets)
        self._intakes.append((head.root, head.sent_at_ms, sent, by))
        self._share_of_intakes.took(head.sent_at_ms / 1000)

    # -- what is wanted after all --------------------------------------------------------------

    def context_of(self, arrival: Arrival) -> TraceContext | None:
        """Say behind what an attempt stands, if its trace is wanted; None: it is not."""
        trace = self._one_more(arrival.head.root)
        return TraceContext(trace, self.before(arrival), is_sampled=True) if trace else None

    def _one_more(self, root: str) -> str:
        """Return the trace that is wanted of this root, as often as it may be; else nothing."""
        trace, left = self.wanted.get(root, ("", 0))
        if not left:
            return ""
        self.wanted[root] = (trace, left - 1)
        return trace

    def before(self, arrival: Arrival) -> str:
        """Name the span that sent a message, if whoever sent it remembers; empty: nobody does.

        A message that comes again was sent by an attempt that failed; that one was traced.
        """
        packet, head = arrival.packet, arrival.head
        if packet.generation or head.kind in _SENDERLESS or arrival.plan.reads_from:
            return ""
        if time.time() - head.sent_at_ms / 1000 > KEPT_S:
            return ""
        return send_of(packet.id, packet.queue)

    def recall(self, some: Iterable[Recall]) -> None:
        """Hand in what is remembered of these traces, and trace what comes of them."""
        traces = {one.root: one.trace for one in some if one.root not in self.wanted}
        since_s = time.time() - KEPT_S
        for intake in [one for one in self._intakes if one[0] in traces]:
            if intake[1] > since_s * 1000:
                self._tell_intake(intake, traces[intake[0]])
        for step in [one for one in self._steps if one[0] in traces]:
            if step[6] > since_s:
                self._tell_step(step, traces[step[0]])
        for chunk in [one for one in self._chunks if one[0] in traces]:
            if chunk[2] > since_s:
                self._tell_chunk(chunk, traces[chunk[0]])
        self.wanted |= {root: (trace, MORE) for root, trace in traces.items()}
        while len(self.wanted) > WANTED:
            del self.wanted[next(iter(self.wanted))]

    def _tell_intake(self, intake: Intake, trace: str) -> None:
        root, at_ms, sent, request = intake
        parent, at_ns = "", at_ms * 1_000_000
        if isinstance(request, Untraced):
            at_ns = max(at_ns, request.begun_ns)  # which is more exact
            parent = send_of(root, "")
            Live(
                self._tracer, request.name, SpanKind.SERVER, trace=trace, id_=parent,
                begun_ns=request.begun_ns, attributes={**request.attributes},
            ).end(request.ended_ns)  # fmt: skip
        self._tell_sends(sent, trace, parent, root, at_ns)

    def _tell_step(self, step: Step, trace: str) -> None:
        root, id_, queue, plan, generation, kind, began_s, took_s, to, sent = step
        begun_ns, ended_ns = int(began_s * 1e9), int((began_s + took_s) * 1e9)
        has_sender = not generation and kind not in _SENDERLESS
        process = _process_of(id_, queue, generation)
        Live(
            self._tracer, f"process {plan.name}", SpanKind.CONSUMER, trace=trace, id_=process,
            parent=send_of(id_, queue) if has_sender else "", message=id_, begun_ns=begun_ns,
            attributes={
                **self._about("process", plan.name, queue),
                "messaging.message.id": id_,
                "messaging.message.conversation_id": root,
                "rolekit.handler.duration": took_s,
                "rolekit.remembered": True,
            },
        ).end(ended_ns)  # fmt: skip
        self._tell_sends((to, sent) if sent else (), trace, process, root, ended_ns)

    def _tell_chunk(self, chunk: Chunk, trace: str) -> None:
        root, process, at_s, sent = chunk
        self._tell_sends(sent, trace, process, root, int(at_s * 1e9))

    def _tell_sends(self, sent: Sent, trace: str, parent: str, root: str, at_ns: int) -> None:
        for queue, id_ in zip(sent[::2], sent[1::2], strict=True):
            Live(
                self._tracer, f"send {queue}", SpanKind.PRODUCER, trace=trace, parent=parent,
                id_=send_of(id_, queue), message=id_, begun_ns=at_ns,
                attributes={
                    **self._about("send", queue, queue),
                    "messaging.message.id": id_,
                    "messaging.message.conversation_id": root,
                    "rolekit.remembered": True,
                },
            ).end(at_ns)  # fmt: skip


def _process_of(id_: str, queue: str, generation: int) -> str:
    return send_of(id_, f"{queue} {generation}")


def _names(packets: Sequence[Packet]) -> Sent:
    return tuple(name for packet in packets for name in (packet.queue, packet.id))
