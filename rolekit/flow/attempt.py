"""The spans of one attempt at a message, from its begin to its outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rolekit.model.span import TraceContext, span_at
from rolekit.observe.tracing import Live, new_span_id
from rolekit.store.base import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.flow.tracing import Tracing
    from rolekit.model.envelope import Packet
    from rolekit.model.position import Path
    from rolekit.store.base import Step

MANY = 100
"""So many closings of one step have a span, and so many links has a release."""


class Attempt:
    """The spans of one attempt at a message.

    Attributes:
        process: From its begin to its outcome.
    """

    __slots__ = ("_sending", "_tracing", "process", "send_id")

    def __init__(self, tracing: Tracing, process: Live) -> None:
        self._tracing = tracing
        self.process = process
        self.send_id = new_span_id()
        self._sending: Live | None = None

    @property
    def context(self) -> TraceContext:
        """What is caused by this attempt carries it."""
        return TraceContext(self.process.span.trace, self.send_id, is_sampled=True)

    def handled(self, step: Step | None, direct: Packet | None = None) -> None:
        """Note that its handler is done, before anything leaves."""
        process, now_ns = self.process.span, self._tracing.tracer.now_ns()
        process.attributes["rolekit.handler.duration"] = (now_ns - process.begun_ns) / 1e9
        packets = [] if direct is None else [direct]
        if step is not None:
            packets += [*step.outputs, *(due.packet for due in step.later)]
            self._stored(step, now_ns)
            if step.replies:
                process.attributes["rolekit.replies"] = len(step.replies)
                here = TraceContext(process.trace, process.id, is_sampled=True).header()
                step.replies = [replace(reply, trace=here) for reply in step.replies]
            if step.opening is not None and not packets:
                packets.append(step.opening.token)
            if step.outcome is not Outcome.DONE:
                process.attributes["rolekit.outcome"] = step.outcome.name.lower()
        if packets and self._sending is None:
            self._sending = self._tracing.sending(self, packets)
            if step is not None and step.later:
                last = max(step.later, key=lambda due: due.due_ms)
                self._sending.span.attributes["rolekit.due_ms"] = last.due_ms
                if last.why:
                    self._sending.span.attributes["rolekit.due_why"] = last.why
            self._sending.begin()

    def _stored(self, step: Step, now_ns: int) -> None:
        for closing in step.closings[:MANY]:
            if closing.total is None:
                self._tracing.stored(self.process.span, closing, now_ns)

    def failed(self, error: BaseException) -> None:
        """Note what went wrong."""
        self.process.failed(error)

    def settled(self, step: Step | None = None) -> None:
        """Note that its outcome is known: a step was committed, or what is direct has left."""
        self.process.end()
        sending, self._sending = self._sending, None
        if sending is None:
            return
        if step is not None and step.outputs and self._tracing.leaves_later:
            self._tracing.leaving.wait_for(sending)
        else:
            sending.end()

    def given_up(self, why: str) -> None:
        """Note that it had no outcome: somebody else had it, or it runs again."""
        self.process.span.attributes["rolekit.outcome"] = why
        self.settled()


def released(attempt: Attempt, sequence: str, paths: Sequence[Path]) -> None:
    """Link a release to the parts it hands over: the first ones, and the last."""
    process = attempt.process.span
    process.attributes["messaging.batch.message_count"] = len(paths)
    some = [*paths[: MANY - 1], *paths[-1:]] if len(paths) > MANY else paths
    process.links = tuple((process.trace, span_at(sequence, path)) for path in some)
