"""The context of a batch: what its handler does beside returning belongs to all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import msgspec

from rolekit.errors import AppError
from rolekit.flow.outputs import Placing
from rolekit.flow.step_context import Caller, StepContext
from rolekit.flow.submitted import Submitted
from rolekit.model.envelope import Attempts, Packet
from rolekit.model.ids import derive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.flow.runtime import Arrival, Runtime
    from rolekit.store.base import StateChange, Step


class BatchContext(StepContext):
    """What one call of a batch handler may do, and did.

    Its `id` is made of the ids of its items, so it is another one where another attempt
    holds others; an idempotency key for one item is `batch.ids[i]`. It travels with no
    headers and no position; what it sends answers to the root of the first item.
    """

    def __init__(self, runtime: Runtime, arrivals: Sequence[Arrival]) -> None:
        first, plan = arrivals[0], arrivals[0].plan
        ids = [f"{a.packet.id}.{a.packet.generation}" for a in arrivals]
        failures = max(a.head.attempts.failures + a.head.attempts.crashes for a in arrivals)
        head = msgspec.structs.replace(
            first.head,
            frames=(),
            headers={},
            reply_to="",
            attempts=Attempts(failures=failures),
            sent_at_ms=min(a.head.sent_at_ms for a in arrivals),
        )
        packet = Packet(
            queue=plan.name, id=derive(first.packet.id, "batch", *ids), head=first.packet.head
        )
        caller = Caller(
            id=packet.id, scope=plan.role, handler=plan.name, timeout_s=plan.timeout_s
        )
        super().__init__(runtime, packet, head, Placing(runtime, plan, packet, head), caller)
        self._changes: Sequence[StateChange] = ()

    async def tx(self) -> NoReturn:
        """Refuse: the transaction of a batch is opened when its items are known to be fresh.

        Raises:
            AppError: Always.
        """
        raise AppError(
            "ctx.tx() is not there in a batch: its rows are taken when it commits.",
            fix="Use ctx.write, which commits with the batch, or handle messages one by one.",
        )

    def add_to(self, step: Step) -> None:
        """Let a step of the batch commit what the handler did."""
        self._changes = self.changed_states()
        step.writes = self.writes
        step.outputs = [*step.outputs, *self.sent]
        step.later = [*step.later, *self.later]
        step.states = self._changes

    def hand_on_committed(self) -> None:
        """Let others go on from the states, which are committed."""
        if self._changes:
            outcome = Submitted()
            outcome.set_result(True)
            self.hand_on(self._changes, outcome)
