"""The laws of a release: another attempt gets the same run, and in the end all of it came."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekit import App, Hole, Message, Run, WorkerRole, gather, handle
from rolekit.bell import Bell
from rolekit.clock import ManualClock
from rolekit.flow.gathering import Gathering, Job
from rolekit.flow.runtime import Arrival, Runtime
from rolekit.model.codec import Codec
from rolekit.model.envelope import Head, Kind, Packet, encode_head
from rolekit.model.reassembly import ClosedBy, Closing, Cursor
from rolekit.store.base import Opening, Step
from rolekit.store.memory import MemoryStore
from rolekit.store.memory_tables import MemoryTables
from rolekit.transport.base import Delivery
from rolekit.transport.memory import MemoryBroker, MemorySubscription, MemoryTransport
from tests.property.trees import DATA, ENDS, SEQUENCE, Choices, Node, closings, leaves, tree

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rolekit.model.plan import AppPlan
    from rolekit.model.position import Path
    from rolekit.store.base import SequenceView

pytestmark = pytest.mark.timeout(60)


class Doc(Message):
    pass


class Word(Message):
    at: tuple[int, ...]


class Holes(WorkerRole):
    @handle
    async def split(self, doc: Doc) -> list[Word]:
        return []

    @gather(deadline_s=60, size=3)
    async def collect(self, doc: Doc, run: Run[Word | Hole]) -> None: ...


class Skips(WorkerRole):
    @handle
    async def split(self, doc: Doc) -> list[Word]:
        return []

    @gather(on_dead="skip", deadline_s=60, size=3)
    async def collect(self, doc: Doc, run: Run[Word]) -> None: ...


class Lists(WorkerRole):
    @handle
    async def split(self, doc: Doc) -> list[Word]:
        return []

    @gather(on_dead="skip", deadline_s=60)
    async def collect(self, doc: Doc, words: list[Word]) -> None: ...


ROLES: tuple[type[WorkerRole], ...] = (Holes, Skips)
PLANS: dict[type[WorkerRole], AppPlan] = {
    role: App(role.__name__, roles=[role]).plan() for role in (*ROLES, Lists)
}


class Overtaken(MemoryStore):
    """Lets something happen between what it is asked for first and what second."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def view(self, sequence: str, limit: int, *, whole: bool) -> SequenceView | None:
        view = await super().view(sequence, limit, whole=whole)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return view


class Sequence:
    """One sequence in a store, whose parts come and whose runs are read as in a gather."""

    def __init__(self, role: type[WorkerRole], root: Node) -> None:
        plan = PLANS[role]
        self.clock = ManualClock()
        self.store = Overtaken(MemoryTables(clock=self.clock))
        runtime = Runtime(
            plan=plan,
            codec=Codec(plan.types, plan.wire_names, plan.codec),
            store=self.store,
            transport=MemoryTransport(),
            bell=Bell(),
            clock=self.clock,
            owner=1,
        )
        self._gathering = Gathering(runtime)
        self._steps = 0
        name = f"{role.__name__}.collect"
        head = Head(kind=Kind.RELEASE, sequence=SEQUENCE)
        token = Packet(queue=name, id=SEQUENCE, head=encode_head(head))
        subscription = MemorySubscription(MemoryBroker(), [], 1, lambda _: None)
        self._arrival = Arrival(Delivery(token, 1), subscription, head, plan.handlers[name])
        self._opening = Opening(
            id=SEQUENCE,
            gather=name,
            cursor=Cursor.start(None if root.is_open else len(root.children)),
            waits=False,
            token=token,
            source=Packet(
                queue="split", id="d0" * 16, head=encode_head(Head(type="Doc")), body=b"{}"
            ),
            deadline_ms=self.clock.now_ms() + 60_000,
        )

    async def open(self) -> None:
        await self.commit(opening=self._opening)

    async def commit(self, **changes: object) -> bool:
        """Commit one step; say whether a token left with it."""
        self._steps += 1
        step = Step(id=f"{self._steps:032x}", generation=0, birth_ms=self.clock.now_ms())
        for name, value in changes.items():
            setattr(step, name, value)
        return bool((await self.store.commit([step])).leaving)

    async def close(self, some: list[Closing]) -> None:
        for one in some:
            await self.commit(closings=[one])

    async def end_time(self) -> None:
        self.clock.advance(61)
        await self.store.expire(self.clock.now_ms(), 10)

    async def read(self) -> Job | None:
        return await self._gathering.read(self._arrival)

    async def release(self) -> None:
        """Read what there is and let the sequence move on, as another instance would."""
        job = await self.read()
        assert job is not None
        await self.commit(release=job.release)

    @property
    def released(self) -> int:
        """How many parts were."""
        return self.store.tables.sequences.rows[SEQUENCE].released


def what(job: Job) -> tuple[object, ...]:
    """Say what a handler would be given."""
    if job.parts is None:
        return (None,)
    run = cast("Run[Word | Hole]", job.parts)
    return tuple(run), run.dropped, run.is_last, run.offset, run.id, job.release.after.next


def worded(closing: Closing) -> Closing:
    """Let a part say where it stands."""
    if closing.by is not ClosedBy.PART:
        return closing
    body = msgspec.json.encode(Word(at=closing.path))
    return msgspec.structs.replace(closing, type="Word", body=body)


@given(st.sampled_from(ROLES), DATA, DATA, st.integers(0, 12))
def test_another_attempt_gets_the_same_run_and_in_the_end_everything_came_once(
    role: type[WorkerRole], shape: bytes, order: bytes, ends_after: int
) -> None:
    root = tree(Choices(shape), ENDS)
    choices = Choices(order)
    coming = [worded(one) for one in choices.shuffled(list(closings(root)))]

    words, is_whole = asyncio.run(released(role, root, coming, choices, ends_after))

    whole: list[Path] = [path for path, by in leaves(root) if by is ClosedBy.PART]
    assert words == sorted(set(words))
    assert set(words) <= set(whole)
    if is_whole:
        assert words == whole


async def released(
    role: type[WorkerRole], root: Node, coming: list[Closing], choices: Choices, ends_after: int
) -> tuple[list[Path], bool]:
    """Read and release until the sequence is over; return its words, and if none was late."""
    sequence = Sequence(role, root)
    await sequence.open()
    words: list[Path] = []
    is_whole = True
    for turn in range(200):
        if turn == ends_after or not coming:
            is_whole = is_whole and not coming
            await sequence.end_time()
        await sequence.close(take(coming, choices))
        first = await sequence.read()
        if first is None:
            return words, is_whole
        await sequence.close(take(coming, choices))
        again = await sequence.read()
        assert again is not None
        if first.parts is not None:
            assert what(again) == what(first)
        await sequence.commit(release=again.release)
        if again.parts is not None:
            run = cast("Run[Word | Hole]", again.parts)
            words += [part.at for part in run if isinstance(part, Word)]
    pytest.fail("the sequence does not end")


def take(coming: list[Closing], choices: Choices) -> list[Closing]:
    """Take some of what is coming."""
    count = choices.below(4)
    taken, coming[:] = coming[:count], coming[count:]
    return taken


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_run_that_another_instance_released_meanwhile_is_handed_to_nobody(count: int) -> None:
    async def overtaken() -> tuple[Job | None, int]:
        sequence = Sequence(Holes, Node(ClosedBy.SPLIT, (Node(ClosedBy.PART),) * 3))
        await sequence.open()
        await sequence.close(coming[:1])

        async def meanwhile() -> None:
            await sequence.close(coming[1 : 1 + count])
            await sequence.release()

        sequence.store.meanwhile = meanwhile
        return await sequence.read(), sequence.released

    coming = [worded(part_at(index)) for index in range(3)]

    job, released = asyncio.run(overtaken())

    assert (job, released) == (None, 1 + count)


def test_a_list_that_another_instance_released_meanwhile_is_handed_to_nobody() -> None:
    async def overtaken() -> tuple[Job | None, int]:
        sequence = Sequence(Lists, Node(ClosedBy.SPLIT, (Node(ClosedBy.PART),) * 2))
        await sequence.open()
        for index in range(2):
            await sequence.close([worded(part_at(index))])
            if not index:
                await sequence.release()
        sequence.store.meanwhile = sequence.release
        return await sequence.read(), sequence.released

    job, released = asyncio.run(overtaken())

    assert (job, released) == (None, 2)


def part_at(index: int) -> Closing:
    return Closing(sequence=SEQUENCE, path=(index,), by=ClosedBy.PART)
