"""From another app: by one queue of each app, which its relays hand on.

Whoever sends does not know the other app's handlers, only its name, so they may change. What
comes is a message like any other to a handler that gives it back: it is decoded, goes to each
handler that takes it under an id of its own, and that this was done is recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.errors import Reject
from rolekit.flow.call import Handler
from rolekit.flow.consume import Consumer
from rolekit.flow.pipeline import Pipeline
from rolekit.model.message import wire_name
from rolekit.model.plan import HandlerPlan
from rolekit.transport.base import INBOUND

if TYPE_CHECKING:
    from rolekit.flow.commit import Committer
    from rolekit.flow.outbox import Forwarder
    from rolekit.flow.runtime import Runtime

AT_ONCE = 100


def inbound(runtime: Runtime, committer: Committer, forwarder: Forwarder) -> Consumer:
    """Make the consumer of what other apps send to this one."""

    async def hand_on(message: object) -> object:
        if not runtime.targets(type(message), ""):
            raise Reject(
                f"no handler of {runtime.plan.name} takes a {wire_name(type(message))}, which "
                "another app sent"
            )
        return message

    plan = HandlerPlan(
        name=INBOUND, role="", method="", record=True, arguments=(("message", "message"),)
    )
    handlers = {INBOUND: Handler(plan, hand_on)}
    pipeline = Pipeline(runtime, handlers, committer, forwarder, lambda _: None)
    return Consumer(runtime, handlers, pipeline, committer, AT_ONCE)
