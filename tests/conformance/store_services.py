"""What every store must do beside steps: for handlers, clients, relays and operators."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rolekit.errors import RolekitError
from rolekit.store.base import Accept, Due, KeyRow, Reply, Saved
from tests.conformance.store import (
    error_of,
    id_of,
    now_ms,
    packet,
    pieces,
    sent,
    step,
)

if TYPE_CHECKING:
    from tests.conformance.store import Ground


class Keeping:
    """Results of `ctx.once`, and blobs."""

    async def test_the_first_result_is_kept(self, ground: Ground) -> None:
        store = await ground.open()
        before = await store.recall(id_of(1), "charge")

        kept = [await store.remember(id_of(1), "charge", value) for value in (b"1", b"2")]

        assert (before, kept) == (None, [b"1", b"1"])
        assert await store.recall(id_of(1), "charge") == b"1"
        assert await store.recall(id_of(1), "other") is None

    async def test_of_results_kept_at_once_all_get_the_same(self, ground: Ground) -> None:
        stores = [await ground.open() for _ in range(3)]

        kept = await asyncio.gather(
            *(s.remember(id_of(1), "n", str(n).encode()) for n, s in enumerate(stores))
        )

        assert len(set(kept)) == 1

    async def test_a_blob_is_named_by_its_content(self, ground: Ground) -> None:
        store = await ground.open()

        infos = [
            await store.save_blob(pieces(*data), 100) for data in ((b"ab", b"c"), (b"abc",))
        ]

        assert infos[0] == infos[1]
        assert infos[0].size_bytes == 3
        assert await store.load_blob(infos[0].id) == b"abc"
        assert await store.use_blobs([infos[0].id]) == {infos[0].id}

    async def test_an_empty_blob_is_a_blob_and_an_unknown_one_is_none(
        self, ground: Ground
    ) -> None:
        store = await ground.open()

        empty = await store.save_blob(pieces(), 100)

        assert await store.load_blob(empty.id) == b""
        assert await store.load_blob("00" * 32) is None
        assert await store.use_blobs(["00" * 32]) == set()

    async def test_a_large_blob_comes_back_whole(self, ground: Ground) -> None:
        store = await ground.open()
        data = bytes(range(256)) * 10_000

        info = await store.save_blob(pieces(data[:1000], data[1000:]), 1 << 30)

        assert await store.load_blob(info.id) == data

    async def test_a_blob_that_is_too_large_is_not_kept(self, ground: Ground) -> None:
        store = await ground.open()

        error = await error_of(store.save_blob(pieces(b"ab", b"cd"), 3))
        info = await store.save_blob(pieces(b"abc"), 3)

        assert type(error).__name__ == "CodecError"
        assert info.size_bytes == 3


KEY = KeyRow(key="aa" * 16, body_hash="bb" * 16)
ANSWER = Saved(
    status=201, media_type="text/plain", body=b"done", headers=(("Location", "/1"), ("A", "")),
)  # fmt: skip


class NoTransaction:
    """A connection on which each statement commits at once."""

    def is_in_transaction(self) -> bool:
        return False

    async def execute(self, query: str, /, *args: object) -> object:
        raise AssertionError(query)


class Intake:
    """What clients send, once per idempotency key."""

    async def test_nothing_is_sent_via_a_connection_without_a_transaction(
        self, ground: Ground
    ) -> None:
        store = await ground.open()

        refused = await error_of(store.accept_via(NoTransaction(), [packet(1)], []))

        assert isinstance(refused, RolekitError)
        assert refused.fix
        assert await store.unsent([], 10) == []

    async def test_everything_of_a_request_leaves_together(self, ground: Ground) -> None:
        store = await ground.open()

        commit, prior = await store.accept([packet(1), packet(2)], [Due(packet(3), 7)], None)

        assert (sent(commit), prior) == ([1, 2], None)
        assert await store.next_due_ms() == 7

    async def test_a_key_that_came_before_sends_nothing_and_tells_its_answer(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        first = KeyRow(key=KEY.key, body_hash=KEY.body_hash, reply=ANSWER)
        await store.accept([packet(1)], [], first)
        second = KeyRow(key=KEY.key, body_hash="cc" * 16)

        commit, prior = await store.accept([packet(2)], [Due(packet(3), 7)], second)

        assert (commit.leaving, commit.topics) == ([], set())
        assert prior == first
        assert await store.next_due_ms() is None

    async def test_a_key_without_an_answer_is_kept_too(self, ground: Ground) -> None:
        store = await ground.open()

        await store.accept([packet(1)], [], KEY)

        assert await store.find_key(KEY.key) == KEY
        assert await store.find_key("dd" * 16) is None

    async def test_of_many_requests_each_is_taken_whole_or_not_at_all(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        before = KeyRow(key=KEY.key, body_hash=KEY.body_hash, reply=ANSWER)
        await store.accept([packet(1)], [], before)
        new = KeyRow(key="0a" * 16, body_hash="cc" * 16, reply=ANSWER)
        twin = KeyRow(key="0a" * 16, body_hash="dd" * 16)
        last = KeyRow(key="ee" * 16, body_hash="cc" * 16)

        commit, priors = await store.accept_all(
            [
                Accept([packet(2)], [Due(packet(3), 7)], KEY),
                Accept([packet(4), packet(5)], [], None),
                Accept([packet(6)], [Due(packet(7), 9)], last),
                Accept([packet(8)], [], new),
                Accept([packet(9)], [], twin),
            ]
        )

        assert priors == [before, None, None, None, new]
        assert sent(commit) == [4, 5, 6, 8]
        assert await store.next_due_ms() == 9
        assert await store.find_key(new.key) == new
        assert await store.find_key(last.key) == last

    async def test_many_lists_with_the_same_keys_take_each_once(self, ground: Ground) -> None:
        stores = [await ground.open() for _ in range(3)]
        keys = [KeyRow(key=f"{n:02x}" * 16, body_hash="cc" * 16) for n in range(20)]
        lists = [
            [Accept([packet(n)], [], key) for n, key in enumerate(keys[at:] + keys[:at])]
            for at in (0, 7, 13)
        ]

        answers = await asyncio.gather(
            *(store.accept_all(some) for store, some in zip(stores, lists, strict=True))
        )

        taken = [prior is None for _, priors in answers for prior in priors]
        assert (sum(taken), len(taken)) == (20, 60)
        assert sum(len(commit.leaving) for commit, _ in answers) == 20

    async def test_of_requests_with_one_key_at_once_one_is_sent(self, ground: Ground) -> None:
        stores = [await ground.open() for _ in range(3)]

        answers = await asyncio.gather(
            *(store.accept([packet(n)], [], KEY) for n, store in enumerate(stores))
        )

        assert sum(len(commit.leaving) for commit, _ in answers) == 1
        assert sorted(prior is None for _, prior in answers) == [False, False, True]


def reply(number: int, root: int, type_: str = "a", *, is_failure: bool = False) -> Reply:
    return Reply(
        root=id_of(root), id=id_of(number), type=type_, type_version=2, codec="msgpack",
        body=str(number).encode(), is_failure=is_failure,
    )  # fmt: skip


class Replies:
    """Answers, in order."""

    async def test_replies_come_in_order_each_after_its_number(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, replies=[reply(1, 9), reply(2, 9)])])
        commit = await store.commit([step(2, replies=[reply(3, 8), reply(4, 9)])])

        found = await store.replies({id_of(9): 0, id_of(8): 0}, 10)
        later = await store.replies({id_of(9): found[1].n}, 10)
        few = await store.replies({id_of(9): 0, id_of(8): 0}, 3)

        assert [int(each.id, 16) for each in found] == [1, 2, 3, 4]
        assert [each.n for each in found] == sorted({each.n for each in found})
        assert [int(each.id, 16) for each in later] == [4]
        assert few == found[:3]
        assert commit.topics == {"~replies"}

    async def test_a_reply_is_read_as_it_was_stored(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, replies=[reply(1, 9)])])

        (found,) = await store.replies({id_of(9): 0}, 10)

        given = reply(1, 9)
        assert found == Reply(
            root=given.root, id=given.id, n=found.n, type="a", type_version=2,
            codec="msgpack", body=b"1",
        )  # fmt: skip

    async def test_the_last_reply_of_some_types_is_found_and_else_the_failure(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        some = [reply(1, 9, "a"), reply(2, 9, "b"), reply(3, 9, "a"), reply(4, 9, "c")]
        await store.commit([step(1, replies=[*some, reply(5, 9, "", is_failure=True)])])

        found = [
            await store.last_reply(id_of(9), types) for types in (["a"], ["a", "b"], ["x"])
        ]
        none = await store.last_reply(id_of(1), ["a"])

        assert [each and int(each.id, 16) for each in found] == [3, 3, 5]
        assert none is None

    async def test_what_is_over_is_dropped(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, replies=[reply(1, 9)])])
        await store.accept([], [], KEY)
        await store.keep_house(now_ms())
        kept = await store.replies({id_of(9): 0}, 10)
        ground.forget_results(store)

        await store.keep_house(now_ms() + 1)

        assert len(kept) == 1
        assert await store.replies({id_of(9): 0}, 10) == []
        assert await store.find_key(KEY.key) is None


class Relaying:
    """What is due, and what the dead left."""

    async def test_what_is_due_leaves_in_the_order_it_is_due(self, ground: Ground) -> None:
        store = await ground.open()
        due = [Due(packet(1), 3000), Due(packet(2), 1000), Due(packet(3), 2000)]
        await store.commit([step(1, later=[*due, Due(packet(4), 9000)])])

        commit = await store.move_due(3000, 10)

        assert (sent(commit), commit.moved) == ([2, 3, 1], 3)
        assert [out.packet.birth_ms for out in commit.leaving] == [1000, 2000, 3000]
        assert await store.next_due_ms() == 9000

    async def test_no_more_is_moved_than_the_limit(self, ground: Ground) -> None:
        store = await ground.open()
        await store.commit([step(1, later=[Due(packet(n), n) for n in range(1, 6)])])

        moved = [sent(await store.move_due(10, 2)) for _ in range(4)]

        assert moved == [[1, 2], [3, 4], [5], []]
        assert await store.next_due_ms() is None

    async def test_relays_at_once_move_each_packet_once(self, ground: Ground) -> None:
        stores = [await ground.open() for _ in range(3)]
        await stores[0].commit([step(1, later=[Due(packet(n), 1) for n in range(60)])])

        commits = await asyncio.gather(*(store.move_due(10, 40) for store in stores))
        rest = await stores[0].move_due(10, 100)

        moved = [number for commit in (*commits, rest) for number in sent(commit)]
        assert sorted(moved) == list(range(60))

    async def test_what_was_confirmed_is_forgotten(self, ground: Ground) -> None:
        dying, other = await ground.open(), await ground.open()
        first = await dying.commit([step(1, outputs=[packet(1)])])
        second = await dying.commit([step(2, outputs=[packet(2), packet(3)])])

        await dying.forget([first.leaving[0].n])
        await ground.die(dying)

        adopted = await other.adopt(10)
        assert [out.packet for out in adopted] == [out.packet for out in second.leaving]

    async def test_only_what_the_dead_left_is_adopted_and_once(self, ground: Ground) -> None:
        dying, one, other = [await ground.open() for _ in range(3)]
        await one.commit([step(1, outputs=[packet(1)])])
        for n in range(2, 6):
            await dying.commit([step(n, outputs=[packet(n)])])
        before = await other.adopt(10)

        await ground.die(dying)
        adopted = [await other.adopt(3), await one.adopt(3), await other.adopt(3)]

        numbers = [[int(out.packet.id, 16) for out in each] for each in adopted]
        assert (before, numbers) == ([], [[2, 3, 4], [5], []])
