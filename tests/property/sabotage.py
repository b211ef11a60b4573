"""Each protection of the protocol, taken away: what a simulation has to notice.

A simulation that passes proves little until it has been seen to fail. Each function here
breaks one line that RELIABILITY's table of sabotages, or the protocol, names; what breaks
next is said beside it.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec

from rolekit.errors import PublishUnknown, Unavailable
from rolekit.flow import failure, outputs, work
from rolekit.flow.gathering import Gathering
from rolekit.flow.outbox import Outbox
from rolekit.flow.outputs import Placing, Results
from rolekit.flow.pipeline import Pipeline
from rolekit.model.reassembly import ClosedBy, Closing
from rolekit.store import memory
from rolekit.store.memory import MemoryStore
from rolekit.store.memory_sequences import SequenceRow, Sequences
from rolekit.store.memory_tables import DAY_MS
from tests.property import sabotage_lines as lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest

    from rolekit.flow.runtime import Arrival, Runtime
    from rolekit.flow.work import Work
    from rolekit.model.envelope import Packet
    from rolekit.model.position import Frame, Path
    from rolekit.model.reassembly import Walk
    from rolekit.model.retry import Again
    from rolekit.store.base import Commit, Outgoing, Step


def _nothing(*_: object) -> None:
    """Do nothing; and say no, where a yes or no is asked for."""


def ack_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Z1. A kill between the two: the message is lost."""
    record: Any = vars(Pipeline)["_record"]

    async def acks_first(self: Pipeline, arrival: Arrival, done: Work) -> object:
        arrival.subscription.ack([arrival.delivery])
        return await record(self, arrival, done)

    patch.setattr(Pipeline, "_record", acks_first)


def no_inbox(patch: pytest.MonkeyPatch) -> None:
    """Z2. A repeat takes effect again."""
    real: Any = vars(memory)["_inbox_key"]
    numbers = itertools.count()

    def sometimes(step: Step) -> object:
        number = next(numbers)
        return real(step) if number % 5 else (step.id, -number, 0)

    patch.setattr(memory, "_inbox_key", sometimes)


def effects_apart_from_the_inbox(patch: pytest.MonkeyPatch) -> None:
    """Z3. A commit of its own for effects: what follows it may not come."""
    commit: Any = vars(MemoryStore)["commit"]
    turns = itertools.count()

    async def in_two(self: MemoryStore, steps: Sequence[Step]) -> Commit:
        if next(turns) % 7 == 0:
            inbox = self.tables.inbox
            days = [(s.id, s.generation, s.birth_ms // DAY_MS) for s in steps]
            fresh = [s for s, day in zip(steps, days, strict=True) if day not in inbox]
            self.tables.writes += [write for step in fresh for write in step.writes]
            raise Unavailable("between the two")
        done: Commit = await commit(self, steps)
        return done

    patch.setattr(MemoryStore, "commit", in_two)


def publish_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Z4. What leaves may be of an attempt that never took effect."""
    record: Any = vars(Pipeline)["_record"]

    async def publishes_first(self: Pipeline, arrival: Arrival, done: Work) -> object:
        if done.step is not None and done.step.outputs:
            runtime: Runtime = vars(self)["_runtime"]
            await runtime.transport.publish(done.step.outputs)
        return await record(self, arrival, done)

    patch.setattr(Pipeline, "_record", publishes_first)


def relay_by_cursor(patch: pytest.MonkeyPatch) -> None:
    """Z5. What was numbered earlier and seen later is skipped."""
    unsent: Any = vars(MemoryStore)["unsent"]
    leave: Any = vars(Outbox)["leave"]
    cursors: dict[MemoryStore, int] = {}

    async def behind_the_last(
        self: MemoryStore, known: Sequence[int], limit: int
    ) -> list[Outgoing]:
        found: list[Outgoing] = await unsent(self, (), limit)
        ahead = [row for row in found if row.n > cursors.get(self, 0)]
        cursors[self] = max([cursors.get(self, 0), *known, *(row.n for row in found)])
        return [row for row in ahead if row.n not in known]

    def notes(self: Outbox, rows: Sequence[Outgoing]) -> None:
        store: MemoryStore = vars(self)["_store"]
        cursors[store] = max([cursors.get(store, 0), *(row.n for row in rows)])
        leave(self, rows)

    patch.setattr(MemoryStore, "unsent", behind_the_last)
    patch.setattr(Outbox, "leave", notes)


def unknown_taken_for_sent(patch: pytest.MonkeyPatch) -> None:
    """A publish whose outcome is unknown is not repeated: lost."""
    publish: Any = vars(Outbox)["_publish"]

    async def believes(self: Outbox, count: int) -> None:
        mine: Any = self
        try:
            await publish(self, count)
        except PublishUnknown:
            for _ in range(count):
                mine._gone(mine._waiting.popleft().n)  # noqa: SLF001 - it stands in for one of its methods

    patch.setattr(Outbox, "_publish", believes)


def release_without_compare(patch: pytest.MonkeyPatch) -> None:
    """Z8. Two gathers release one run: tokens alone do not keep them from it."""
    many_tokens(patch)
    patch.setattr(Sequences, "check", _nothing)


def many_tokens(patch: pytest.MonkeyPatch) -> None:
    """Let several tokens of a sequence be on their way, which the protocol bears."""

    def whenever(_: Sequences, row: SequenceRow, closings: Sequence[Closing]) -> bool:
        return row.lets_move(closings)

    patch.setattr(Sequences, "_is_ready", whenever)


def no_look_behind_a_release(patch: pytest.MonkeyPatch) -> None:
    """What came during a release waits for ever."""
    patch.setattr(SequenceRow, "can_go_on", _nothing)


def _without(by: ClosedBy) -> Callable[[pytest.MonkeyPatch], None]:
    close: Any = vars(SequenceRow)["close"]

    def ignores(self: SequenceRow, closing: Closing) -> None:
        if closing.by is not by:
            close(self, closing)

    return lambda patch: patch.setattr(SequenceRow, "close", ignores)


def no_tombstones(patch: pytest.MonkeyPatch) -> None:
    """Z11. A dropped part holds up its sequence."""
    _without(ClosedBy.DROPPED)(patch)


def no_failure_markers(patch: pytest.MonkeyPatch) -> None:
    """A dead letter holds up its sequence, and nobody knows why."""
    _without(ClosedBy.FAILED)(patch)


def runs_not_sealed(patch: pytest.MonkeyPatch) -> None:
    """Another attempt of a gather is given another run under the same id."""

    async def as_it_is(*args: Any) -> Walk:  # noqa: ANN401 - of `_sealed`
        found: Walk = args[4]
        return found

    patch.setattr(Gathering, "_sealed", as_it_is)


def failing_without_the_inbox(patch: pytest.MonkeyPatch) -> None:
    """A copy fails behind one that took effect: two outcomes."""
    step_for = failure.step_for

    def skips(runtime: Runtime, arrival: Arrival, error: Exception) -> Step:
        step = step_for(runtime, arrival, error)
        step.skips_inbox = True
        return step

    patch.setattr(failure, "step_for", skips)


def retries_of_the_same_generation(patch: pytest.MonkeyPatch) -> None:
    """The inbox takes the retry for a repeat: lost."""
    retried: Any = vars(failure)["_retried"]

    def stays(runtime: Runtime, arrival: Arrival, again: Again) -> Step:
        step: Step = retried(runtime, arrival, again)
        for due in step.later:
            due.packet.generation -= 1
        return step

    patch.setattr(failure, "_retried", stays)


def a_new_id_on_each_repeat(patch: pytest.MonkeyPatch) -> None:
    """The copies of a direct step's output do not compete."""

    def renamed(runtime: Runtime, arrival: Arrival, results: Results) -> Packet | None:
        packet = outputs.direct(runtime, arrival, results)
        return None if packet is None else msgspec.structs.replace(packet, id=uuid4().hex)

    patch.setattr(work, "direct", renamed)


def parts_in_arrival_order(patch: pytest.MonkeyPatch) -> None:
    """A part stands where it came, not where it was split."""
    close: Any = vars(Placing)["_close"]
    arrived: dict[tuple[str, Path], int] = {}

    def in_turn(self: Placing, frame: Frame, by: ClosedBy, *rest: object) -> None:
        if by is ClosedBy.PART and len(frame.path) > 1:
            above = (frame.sequence, frame.path[:-1])
            arrived[above] = arrived.get(above, -1) + 1
            frame = msgspec.structs.replace(frame, path=(*frame.path[:-1], arrived[above]))
        close(self, frame, by, *rest)

    patch.setattr(Placing, "_close", in_turn)


def states_of_any_version(patch: pytest.MonkeyPatch) -> None:
    """One of two changes of a state is lost."""
    refuse: Any = vars(MemoryStore)["_refuse"]

    def lets(self: MemoryStore, chosen: Sequence[Step], fresh: Sequence[Step]) -> None:
        versions = {key: version for key, (version, _) in self.tables.states.items()}
        for step in fresh:
            step.states = [
                msgspec.structs.replace(change, version=versions.get(change.key, 0))
                for change in step.states
            ]
            versions |= {change.key: change.becomes for change in step.states}
        refuse(self, chosen, fresh)

    patch.setattr(MemoryStore, "_refuse", lets)


SEQUENCES = ("Holes", "Skips", "Waits", "Lists", "Nests")
KEYS = ("Keys", "Passes")

SABOTAGES: dict[Callable[[pytest.MonkeyPatch], None], Sequence[str]] = {
    ack_before_commit: SEQUENCES,
    no_inbox: SEQUENCES,
    effects_apart_from_the_inbox: SEQUENCES,
    publish_before_commit: SEQUENCES,
    relay_by_cursor: SEQUENCES,
    lines.two_relays_of_one_row: ["Streams"],
    lines.mandatory_off: SEQUENCES,
    lines.no_epoch_in_a_commit: KEYS,
    lines.back_to_the_queue: KEYS,
    lines.hand_over_by_cancelling: KEYS,
    no_tombstones: SEQUENCES,
    lines.timers_in_memory: ["Late"],
    unknown_taken_for_sent: SEQUENCES,
    release_without_compare: SEQUENCES,
    no_look_behind_a_release: SEQUENCES,
    no_failure_markers: SEQUENCES,
    runs_not_sealed: SEQUENCES,
    failing_without_the_inbox: SEQUENCES,
    retries_of_the_same_generation: SEQUENCES,
    a_new_id_on_each_repeat: SEQUENCES,
    parts_in_arrival_order: SEQUENCES,
    states_of_any_version: SEQUENCES,
    lines.holds_forgotten_at_hand_over: KEYS,
    lines.keys_not_held: KEYS,
    lines.waiting_lists_backwards: KEYS,
    lines.next_turn_before_the_commit: KEYS,
    lines.tokens_before_outputs: ["Streams"],
    lines.positions_out_of_order: ["Streams"],
    lines.items_settled_together: ["Batches"],
    lines.batches_committed_in_part: ["Batches"],
    lines.half_of_what_a_batch_wrote: ["Batches"],
}
"""With each the apps that miss it."""
