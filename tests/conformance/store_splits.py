"""What every store must do with splits that take several commits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.errors import StateClash
from rolekit.model.envelope import Attempts, Head, Packet, encode_head
from rolekit.store.base import Outcome, SplitMove, Step
from tests.conformance.store import (
    HEAD,
    SEQUENCE,
    error_of,
    id_of,
    now_ms,
    opening,
    packet,
    part,
    sent,
    step,
    tokens,
    viewed,
)

if TYPE_CHECKING:
    from rolekit.store.base import Store
    from tests.conformance.store import Ground

ME = 7


def move(
    before: int,
    after: int,
    *,
    generation: int = 0,
    is_last: bool = False,
    is_failed: bool = False,
    source: Packet | None = None,
) -> SplitMove:
    return SplitMove(
        id=id_of(ME),
        origin=0,
        generation=generation,
        sequence=SEQUENCE,
        source=source,
        before=before,
        after=after,
        places=after,
        digest=b"%d" % after,
        is_last=is_last,
        is_failed=is_failed,
    )


def chunk(before: int, after: int, *, generation: int = 0, **fields: object) -> Step:
    made = step(ME, generation=generation, skips_inbox=True, outputs=[packet(after)])
    made.split = move(before, after, generation=generation)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


async def begun(ground: Ground) -> Store:
    store = await ground.open()
    await store.commit([chunk(0, 2, opening=opening(None), closings=[part(0), part(1)])])
    return store


class Splits:
    """A cursor that moves by compare-and-set, and goes with the inbox row."""

    async def test_chunk_after_chunk_leaves(self, ground: Ground) -> None:
        store = await begun(ground)

        second = await store.commit([chunk(2, 4, closings=[part(2), part(3)])])
        row = await store.find_split(id_of(ME))

        assert sent(second) == [4]
        assert row is not None
        assert (row.origin, row.sequence, row.next) == (0, SEQUENCE, 4)
        assert (row.places, row.digest) == (4, b"4")
        assert await store.seen([(id_of(ME), 0, now_ms())]) == set()

    async def test_a_chunk_that_somebody_else_committed_is_refused_whole(
        self, ground: Ground
    ) -> None:
        store = await begun(ground)

        errors = [
            await error_of(store.commit([chunk(0, 2)])),
            await error_of(store.commit([chunk(1, 3)])),
            await error_of(store.commit([step(1, outputs=[packet(1)]), chunk(4, 6)])),
        ]
        again = await store.commit([step(1, outputs=[packet(1)])])

        assert [type(error) for error in errors] == [StateClash] * 3
        assert sent(again) == [1]

    async def test_the_last_takes_the_inbox_row_and_leaves_nothing(
        self, ground: Ground
    ) -> None:
        store = await begun(ground)
        last = step(ME, outputs=[packet(3)])
        last.split = move(2, 3, is_last=True)

        commit = await store.commit([last])
        again = await store.commit([last])

        assert (sent(commit), sent(again)) == ([3], [])
        assert await store.find_split(id_of(ME)) is None

    async def test_a_chunk_after_the_end_is_refused(self, ground: Ground) -> None:
        store = await begun(ground)
        last = step(ME)
        last.split = move(2, 3, is_last=True)
        await store.commit([last])

        errors = [
            await error_of(store.commit([chunk(0, 2, birth_ms=last.birth_ms)])),
            await error_of(store.commit([chunk(2, 4, birth_ms=last.birth_ms)])),
        ]

        assert [type(error) for error in errors] == [StateClash] * 2
        assert await store.find_split(id_of(ME)) is None

    async def test_a_generation_that_had_its_outcome_moves_nothing_any_more(
        self, ground: Ground
    ) -> None:
        store = await begun(ground)
        retry = step(ME, outcome=Outcome.RETRY)
        await store.commit([retry])

        old = await error_of(store.commit([chunk(2, 4, birth_ms=retry.birth_ms)]))
        new = await store.commit([chunk(2, 4, generation=1)])

        assert (type(old), sent(new)) == (StateClash, [4])

    async def test_an_older_generation_cannot_move_it(self, ground: Ground) -> None:
        store = await begun(ground)
        await store.commit([chunk(2, 4, generation=3)])

        assert type(await error_of(store.commit([chunk(4, 6, generation=2)]))) is StateClash

    async def test_a_later_generation_is_what_a_sequence_keeps_of_its_source(
        self, ground: Ground
    ) -> None:
        store = await begun(ground)
        head = encode_head(Head(type="x", attempts=Attempts(failures=5)))
        source = Packet(queue="s", id=id_of(77), generation=4, birth_ms=9, head=head)
        again = chunk(2, 4, generation=4)
        again.split = move(2, 4, generation=4, source=source)

        await store.commit([again])

        kept = (await viewed(store)).source
        assert (kept.generation, kept.birth_ms, kept.head) == (4, 9, head)
        assert kept.head != HEAD

    async def test_a_split_may_end_with_its_sequence(self, ground: Ground) -> None:
        store = await begun(ground)
        end = step(ME, outcome=Outcome.DEAD)
        end.split = move(2, 2, is_last=True, is_failed=True)

        await store.commit([end])
        late = await store.commit([step(50, closings=[part(2)])])

        view = await viewed(store)
        assert (view.is_open, dict(view.closings), tokens(late)) == (False, {}, [])
        assert await store.find_split(id_of(ME)) is None
