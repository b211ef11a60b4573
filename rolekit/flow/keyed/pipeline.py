"""The main path for keyed messages: the same, and what else may become of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.flow import failure
from rolekit.flow.pipeline import Pipeline
from rolekit.model.retry import Park
from rolekit.store.base import Outcome

if TYPE_CHECKING:
    from rolekit.flow.runtime import Arrival
    from rolekit.flow.submitted import Submitted
    from rolekit.flow.work import Work


class KeyedPipeline(Pipeline):
    """Handles keyed deliveries, each to the end.

    What a partition's former owner did is refused by the store, discarded, and costs no
    attempt: the new owner has the message, or gets it.
    """

    async def fail(self, arrival: Arrival, error: Exception) -> None:
        """Record the failure of a message that no handler was called for."""
        await self._fail(arrival, error)

    async def park(self, arrival: Arrival, why: str) -> None:
        """Make a message a dead letter that no handler is called for."""
        step = failure.parked(self._runtime, arrival, Park(why), None)
        commit = self._committer.submit
        step = await failure.record(self._runtime, arrival, step, None, commit)
        self._settle(arrival, step)

    async def room(self) -> None:
        """Wait while too much that was committed has not left."""
        if not self._committer.has_room:
            await self._committer.room()

    async def _record(self, arrival: Arrival, work: Work) -> Submitted | None:
        """Hand on what came of a delivery, and note what is known at once.

        While it is committed another may run; in the rare case that it must run again, since
        a state changed, say, there is one more beside the others.
        """
        outcome = await super()._record(arrival, work)
        if outcome is not None and arrival.turn is not None and arrival.turn.slot is not None:
            arrival.turn.slot.release()
        step = work.step
        if outcome is None and step is not None and step.keyed is not None:
            step.keyed.took_effect = step.outcome is Outcome.DONE
        return outcome
