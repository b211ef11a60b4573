"""A message's turn among those of its key, from its arrival to the step that commits it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolekit.store.keys import Fence, KeyedStep
from rolekit.store.records import Outcome

if TYPE_CHECKING:
    from rolekit.flow.keyed.slots import Slot
    from rolekit.model.plan import HandlerPlan
    from rolekit.store.base import Step


@dataclass(slots=True)
class Turn:
    """What a keyed message has beside its delivery.

    Attributes:
        fence: Under which its partition was owned when its turn came.
        key: Of the message.
        frees: Whether it is the message that holds the key.
        listed: Row of the waiting list that it came from; None: it came from its queue.
        slot: What it runs in; given back when the handler has returned, so that steps of
            many keys are committed together. None: it runs alone, to the end.
        step: The last one that was built for it: the one that counts.
    """

    fence: Fence
    key: str
    frees: bool = False
    listed: int | None = None
    slot: Slot | None = None
    step: Step | None = None

    def fence_in(self, step: Step) -> None:
        """Let a step that leaves the key as it is be refused if the partition has moved on."""
        step.keyed = KeyedStep(fence=self.fence, key=self.key)

    def mark(self, step: Step, plan: HandlerPlan) -> None:
        """Say in a step what it means to the key."""
        is_dead = step.outcome is Outcome.DEAD
        step.keyed = KeyedStep(
            fence=self.fence,
            key=self.key,
            holds=step.outcome is Outcome.RETRY or (is_dead and plan.on_dead != "skip"),
            frees=self.frees,
            listed=self.listed,
        )
        if self.listed is not None:
            step.claim = None
        self.step = step
