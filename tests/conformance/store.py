"""What every store must do. `test_store_*.py` run it on each implementation.

A `Ground` opens views of the same state, as processes of their own would, and lets one of
them die. Outputs leave through the outbox, so a commit tells what it sent.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, TypedDict

from rolekit.clock import SystemClock
from rolekit.model.envelope import Attempts, Head, Packet, encode_head
from rolekit.model.reassembly import ClosedBy, Closing, Cursor, Rules, walk
from rolekit.store.base import (
    Commit,
    DeadLetterRow,
    Due,
    Letters,
    Opening,
    Outcome,
    Release,
    Reply,
    SequenceView,
    StateChange,
    StateKey,
    Step,
    Store,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

    from typing_extensions import Unpack

    from rolekit.model.reassembly import OnFailed

HEAD = encode_head(Head(type="x", attempts=Attempts(failures=2)))
SEQUENCE = "5e" * 16
HOUR_MS = 3_600_000


class Ground(Protocol):
    """Where a store is tried."""

    async def open(self) -> Store:
        """Open one more view."""
        ...

    async def die(self, store: Store) -> None:
        """Let the process of a view die."""
        ...

    def forget_results(self, store: Store) -> None:
        """Keep replies and keys for no time at all."""
        ...


class Fields(TypedDict, total=False):
    """What a test says about a step."""

    generation: int
    birth_ms: int
    outcome: Outcome
    outputs: Sequence[Packet]
    later: Sequence[Due]
    opening: Opening | None
    closings: Sequence[Closing]
    release: Release | None
    replies: Sequence[Reply]
    states: Sequence[StateChange]
    dead: DeadLetterRow | None
    answers: str
    skips_inbox: bool


def now_ms() -> int:
    return SystemClock().now_ms()


def id_of(number: int) -> str:
    return f"{number:032x}"


def step(number: int, **fields: Unpack[Fields]) -> Step:
    made = Step(id=id_of(number), generation=0, birth_ms=now_ms())
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def packet(number: int, queue: str = "q") -> Packet:
    return Packet(queue=queue, id=id_of(number), head=HEAD, body=str(number).encode())


def sent(commit: Commit, queue: str = "q") -> list[int]:
    return [int(out.packet.id, 16) for out in commit.leaving if out.packet.queue == queue]


def tokens(commit: Commit) -> list[str]:
    return [out.packet.id for out in commit.leaving if out.packet.queue == "g"]


def opening(
    total: int | None = None,
    *,
    waits: bool = True,
    age_s: float = 0,
    deadline_ms: int = 0,
    is_ordered: bool = True,
) -> Opening:
    return Opening(
        id=SEQUENCE,
        gather="g",
        cursor=Cursor.start(total),
        waits=waits,
        token=Packet(queue="g", id=SEQUENCE, head=HEAD),
        source=Packet(
            queue="s", id=id_of(77), generation=1, birth_ms=5, head=HEAD, body=b"all"
        ),
        deadline_ms=deadline_ms or now_ms() + HOUR_MS,
        age_s=age_s,
        is_ordered=is_ordered,
    )


def part(*path: int, body: bytes = b"") -> Closing:
    return Closing(
        sequence=SEQUENCE, path=path, by=ClosedBy.PART, type="t", type_version=3,
        codec="msgpack", body=body or ".".join(map(str, path)).encode(),
    )  # fmt: skip


def dropped(*path: int) -> Closing:
    return Closing(sequence=SEQUENCE, path=path, by=ClosedBy.DROPPED)


def failed(*path: int) -> Closing:
    return Closing(
        sequence=SEQUENCE, path=path, by=ClosedBy.FAILED, detail="why", dead_letter="d-0"
    )


def split(*path: int, total: int | None) -> Closing:
    return Closing(sequence=SEQUENCE, path=path, by=ClosedBy.SPLIT, total=total)


async def viewed(store: Store, limit: int = 1000, *, whole: bool = False) -> SequenceView:
    view = await store.view(SEQUENCE, limit, whole=whole)
    assert view is not None
    return view


async def close(store: Store, number: int, *closings: Closing) -> Commit:
    return await store.commit([step(number, closings=closings)])


def release_of(view: SequenceView, on_failed: OnFailed = "wait", limit: int = 1000) -> Release:
    """Release what there is, as a gather does."""
    rules = Rules(
        on_failed=on_failed, limit=limit, until=view.sealed, is_expired=view.is_expired
    )
    found = walk(SEQUENCE, view.cursor, view.closings, rules)
    has_moved = found.cursor.next != view.cursor.next
    return Release(
        sequence=SEQUENCE,
        before=view.cursor.next,
        after=found.cursor,
        released=len(found.items),
        more=has_moved and found.cursor.next in view.closings,
    )


async def release(
    store: Store, number: int, on_failed: OnFailed = "wait", limit: int = 1000
) -> tuple[Commit, list[bytes]]:
    """Release what there is; return the commit, and what was handed over."""
    view = await viewed(store)
    moving = release_of(view, on_failed, limit)
    rules = Rules(on_failed=on_failed, limit=limit, is_expired=view.is_expired)
    items = walk(SEQUENCE, view.cursor, view.closings, rules).items
    commit = await store.commit([step(number, release=moving)])
    return commit, [item.body for item in items]


async def error_of(work: Coroutine[object, object, object]) -> Exception | None:
    """Return what this raises."""
    try:
        await work
    except Exception as error:  # noqa: BLE001 - it is what the test is about
        return error
    return None


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


def letter(
    number: int, *, handler: str = "H.h", generation: int = 0, forced: bool = False
) -> DeadLetterRow:
    parked = packet(number)
    parked.generation, parked.birth_ms = generation, 123
    return DeadLetterRow(
        id=f"{id_of(number)}-{generation}", packet=parked, handler=handler, type="x",
        reason="why", traceback="where", attempts=3, is_forced=forced,
    )  # fmt: skip


class Committing:
    """The inbox row decides, and a step happens whole or not at all."""

    async def test_a_free_row_lets_everything_of_a_step_happen(self, ground: Ground) -> None:
        store = await ground.open()
        one = step(1, outputs=[packet(10), packet(11)])

        commit = await store.commit([one])

        assert commit.fresh == {(id_of(1), 0)}
        assert sent(commit) == [10, 11]

    async def test_a_taken_row_lets_nothing_of_a_step_happen(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1)])
        key = StateKey("s", "n", "k")
        again = step(
            1,
            birth_ms=now_ms(),
            outputs=[packet(10)],
            later=[Due(packet(11), 1)],
            opening=opening(2),
            closings=[part(0)],
            replies=[Reply(root=id_of(9), id=id_of(8))],
            states=[StateChange(key, 0, b"x")],
            dead=letter(1),
        )

        commit = await store.commit([again])

        assert (commit.fresh, commit.leaving) == (set(), [])
        assert await store.next_due_ms() is None
        assert await store.view(SEQUENCE, 10, whole=False) is None
        assert await store.replies({id_of(9): 0}, 10) == []
        assert await store.load_states([key]) == {}
        assert await store.count_dead() == {}

    async def test_each_generation_has_a_row_of_its_own(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, outcome=Outcome.RETRY)])

        commit = await store.commit([step(1, generation=1)])

        assert commit.fresh == {(id_of(1), 1)}

    async def test_of_twins_in_a_batch_one_acts(self, ground: Ground) -> None:
        store = await ground.open()

        commit = await store.commit(
            [step(1, outputs=[packet(10)]), step(1, outputs=[packet(11)]), step(2)]
        )

        assert commit.fresh == {(id_of(1), 0), (id_of(2), 0)}
        assert len(sent(commit)) == 1

    async def test_of_two_commits_at_once_one_acts(self, ground: Ground) -> None:
        stores = [await ground.open() for _ in range(4)]
        for number in range(20):
            copies = [step(number, outputs=[packet(number)]) for _ in stores]

            commits = await asyncio.gather(
                *(store.commit([copy]) for store, copy in zip(stores, copies, strict=True))
            )

            assert [sent(commit) for commit in commits if commit.leaving] == [[number]]
            assert sum(len(commit.fresh) for commit in commits) == 1

    async def test_batches_that_overlap_in_any_order_act_once_each(
        self, ground: Ground
    ) -> None:
        one, other = await ground.open(), await ground.open()
        numbers = list(range(50))

        first, second = await asyncio.gather(
            one.commit([step(n, outputs=[packet(n)]) for n in numbers]),
            other.commit([step(n, outputs=[packet(n)]) for n in reversed(numbers)]),
        )

        assert sorted(sent(first) + sent(second)) == numbers

    async def test_seen_tells_which_have_their_row(self, ground: Ground) -> None:
        store = await ground.open()
        one = step(1)
        await store.commit([one])

        seen = await store.seen([(id_of(1), 0, one.birth_ms), (id_of(1), 1, one.birth_ms),
                                 (id_of(2), 0, one.birth_ms)])  # fmt: skip

        assert seen == {(id_of(1), 0)}

    async def test_a_birth_before_the_oldest_day_is_too_old(self, ground: Ground) -> None:
        store = await ground.open()
        oldest_ms = await store.oldest_birth_ms()

        error = await error_of(
            store.commit([step(1, birth_ms=oldest_ms - 1), step(2, outputs=[packet(2)])])
        )
        inside = await store.commit([step(1, birth_ms=oldest_ms), step(2)])

        assert type(error).__name__ == "TooOld"
        assert len(inside.fresh) == 2

    async def test_a_dead_letter_may_be_too_old_for_the_inbox(self, ground: Ground) -> None:
        store = await ground.open()
        birth_ms = await store.oldest_birth_ms() - 1

        for _ in range(2):
            await store.commit([step(1, birth_ms=birth_ms, skips_inbox=True, dead=letter(1))])

        assert len(await store.dead_letters(Letters(), limit=10)) == 1

    async def test_a_packet_without_birth_is_born_with_the_commit(self, ground: Ground) -> None:
        store = await ground.open()
        given = packet(11)
        given.birth_ms = 1_790_000_000_000
        before_ms = now_ms()

        commit = await store.commit([step(1, outputs=[packet(10), given])])

        births = [out.packet.birth_ms or 0 for out in commit.leaving]
        assert before_ms - 1000 <= births[0] <= before_ms + 5000
        assert births[1] == 1_790_000_000_000
