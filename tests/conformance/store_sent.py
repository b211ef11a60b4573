"""What every store must do with what was sent, where that is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.store.sent import SentBetween
from tests.conformance.store import now_ms, packet, sent, step

if TYPE_CHECKING:
    from rolekit.store.base import Store
    from tests.conformance.store import Ground

HOUR_MS = 3_600_000


def lately() -> SentBetween:
    return SentBetween(since_ms=now_ms() - HOUR_MS, until_ms=now_ms() + HOUR_MS)


async def numbers(store: Store, which: SentBetween) -> list[int]:
    """Return what is kept, read two rows at a time."""
    found: list[int] = []
    after = 0
    while rows := await store.sent(which, after=after, limit=2):
        after = rows[-1].n
        found += [int(one.id, 16) for row in rows for one in row.packets if which.has(one)]
    return found


class Sent:
    """Kept when it is confirmed, and only where that was asked for."""

    async def test_nothing_is_kept_unless_it_is_asked_for(self, ground: Ground) -> None:
        store = await ground.open()
        commit = await store.commit([step(1, outputs=[packet(1)])])

        await store.forget([one.n for one in commit.leaving])

        assert await numbers(store, lately()) == []

    async def test_what_was_confirmed_is_kept_and_the_rest_is_in_the_outbox(
        self, ground: Ground
    ) -> None:
        store, other = await ground.open(), await ground.open()
        store.keeps_sent = True
        commits = [
            await store.commit([step(n, outputs=[packet(10 * n), packet(10 * n + 1)])])
            for n in range(1, 6)
        ]

        for commit in commits[:4]:
            await store.forget([one.n for one in commit.leaving])
        await ground.die(store)

        assert sorted(await numbers(other, lately())) == [10, 11, 20, 21, 30, 31, 40, 41]
        assert [int(out.packet.id, 16) for out in await other.adopt(10)] == [50, 51]

    async def test_a_packet_comes_back_as_it_was_sent(self, ground: Ground) -> None:
        store = await ground.open()
        store.keeps_sent = True
        commit = await store.commit([step(1, outputs=[packet(1)])])

        await store.forget([one.n for one in commit.leaving])

        (row,) = await store.sent(lately(), after=0, limit=10)
        assert list(row.packets) == [commit.leaving[0].packet]

    async def test_times_and_queues_are_told_apart(self, ground: Ground) -> None:
        store = await ground.open()
        store.keeps_sent = True
        outputs = [packet(1), packet(2, "other"), packet(3, "~reply.5")]
        commit = await store.commit([step(1, outputs=outputs)])
        await store.forget([one.n for one in commit.leaving])
        now = now_ms()

        found = [
            await numbers(store, which)
            for which in (
                SentBetween(since_ms=now - HOUR_MS, until_ms=now + HOUR_MS),
                SentBetween(since_ms=now - HOUR_MS, until_ms=now + HOUR_MS, queue="other"),
                SentBetween(since_ms=now + HOUR_MS, until_ms=now + 2 * HOUR_MS),
                SentBetween(since_ms=0, until_ms=now - HOUR_MS),
            )
        ]

        assert found == [[1, 2], [2], [], []]
        assert sent(commit) == [1]
