"""What a step tells observers of events, once it is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit import events

if TYPE_CHECKING:
    from rolekit.flow.runtime import Arrival
    from rolekit.store.base import Step

DETAIL_CHARS = 300


def tell_handled(arrival: Arrival, began_s: float, took_s: float) -> None:
    """Tell that a handler returned."""
    events.emit(
        events.Handled(
            message=arrival.packet.id,
            handler=arrival.plan.name,
            waited_s=began_s - arrival.head.sent_at_ms / 1000,
            took_s=took_s,
        )
    )


def tell_failed(arrival: Arrival, step: Step, error: Exception | None) -> None:
    """Tell what was recorded of a failure; what a limit put off has not failed."""
    message, handler = arrival.packet.id, arrival.plan.name
    if (dead := step.dead) is not None:
        told: events.Event = events.DeadLettered(
            id=dead.id,
            message=message,
            handler=handler,
            type=dead.type,
            reason=dead.reason,
            attempts=dead.attempts,
        )
    elif error is not None and step.later:
        told = events.Retried(
            message=message,
            handler=handler,
            error=type(error).__name__,
            detail=str(error)[:DETAIL_CHARS],
            again_at_s=step.later[0].due_ms / 1000,
        )
    else:
        return
    events.emit(told)
