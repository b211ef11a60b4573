"""THE MAIN PATH: what happens to one delivery, in which order.

    decode -> handle -> direct step:   publish, then ack
                        recorded step: commit, then ack, then what was committed leaves

Nothing leaves before the commit, and the ack comes after it. A crash anywhere brings the
delivery back, and the inbox turns the repeat into a no-op.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING

import structlog

from rolekit.errors import Contended, StateClash, Unavailable
from rolekit.flow import failure
from rolekit.flow.work import Work, Worker
from rolekit.store.base import Step, Taken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rolekit.flow.call import Handler
    from rolekit.flow.commit import Committer
    from rolekit.flow.outbox import Forwarder
    from rolekit.flow.runtime import Arrival, Runtime

log = structlog.get_logger("rolekit.pipeline")

REDO_S = 0.05
REDO_MAX_S = 2.0
REDOS = 5


class Pipeline:
    """Handles deliveries of one role's queues, one call of `process` each.

    Args:
        runtime: Of this process.
        handlers: Of the role, by queue.
        committer: For recorded steps.
        forwarder: For direct ones.
        recycle: Called when this instance must be replaced.
    """

    def __init__(
        self,
        runtime: Runtime,
        handlers: Mapping[str, Handler],
        committer: Committer,
        forwarder: Forwarder,
        recycle: Callable[[str], None],
    ) -> None:
        self._runtime = runtime
        self._worker = Worker(runtime, handlers)
        self._handlers = handlers
        self._committer = committer
        self._forwarder = forwarder
        self._recycle = recycle

    async def process(self, arrival: Arrival) -> None:
        """Handle one delivery until its outcome is recorded, then settle it.

        What is not the message's fault, a database that is away or a state that changed
        meanwhile, runs it again here and uses up no attempt. A message for which the
        database is away again and again, while it answers others, is at fault after all:
        its transaction idled too long, say, and the server ended its connection.
        """
        redo_s = REDO_S
        for redone in itertools.count():
            try:
                await self._attempt(arrival)
            except (Unavailable, StateClash, Contended) as error:
                log.info("running again", message=arrival.packet.id, because=str(error))
                if redone >= REDOS and isinstance(error, Unavailable) and await self._answers():
                    await self._fail(arrival, error)
                    return
                await asyncio.sleep(redo_s * random.random())  # noqa: S311 - jitter
                redo_s = min(redo_s * 2, REDO_MAX_S)
            else:
                return

    async def _answers(self) -> bool:
        try:
            await self._runtime.store.next_due_ms()
        except Unavailable:
            return False
        return True

    async def _attempt(self, arrival: Arrival) -> None:
        work = Work()
        try:
            await self._worker.run(arrival, work)
            await self._record(arrival, work)
        except Taken:
            arrival.subscription.ack([arrival.delivery])
        except (Unavailable, StateClash, Contended):
            raise
        except Exception as error:  # noqa: BLE001 - the edge of one delivery: its policy decides
            await work.abandon()
            await self._fail(arrival, error)
        finally:
            await work.abandon()

    async def _record(self, arrival: Arrival, work: Work) -> None:
        if work.direct is not None:
            await self._forwarder.forward(arrival.subscription, arrival.delivery, work.direct)
        elif work.step is None:
            arrival.subscription.ack([arrival.delivery])
        elif work.opened is not None:
            # Cancelling inside a commit would leave its outcome unknown.
            commit = await asyncio.shield(work.opened.finish(work.step))
            self._committer.announce(commit)
            self._settle(arrival, work.step)
        else:
            await self._committer.submit(work.step)
            await self._committer.room()
            self._settle(arrival, work.step)

    def _settle(self, arrival: Arrival, step: Step) -> None:
        if step.claim is None:
            arrival.subscription.ack([arrival.delivery])
        else:
            arrival.subscription.release([arrival.delivery])

    async def _fail(self, arrival: Arrival, error: Exception) -> None:
        step = failure.step_for(self._runtime, arrival, error)
        commit = self._committer.submit
        step = await failure.record(self._runtime, arrival, step, error, commit)
        self._settle(arrival, step)
        plan = arrival.plan
        if isinstance(error, TimeoutError) and plan.call in {"sync", "iterator"}:
            self._recycle(f"{plan.name} overran its {plan.timeout_s:g} s in a thread")
