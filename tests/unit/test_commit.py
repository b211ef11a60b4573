"""Group commit: who is alone when a batch fails, and what goes again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from rolekit.bell import Bell
from rolekit.errors import Contended, StateClash, Unavailable, WriteFailed
from rolekit.flow import commit as group
from rolekit.flow.commit import Committer
from rolekit.flow.outbox import Outbox
from rolekit.model.envelope import Packet
from rolekit.model.reassembly import Cursor
from rolekit.observe.meters import FlowMeters, Meters
from rolekit.store.base import Commit, Outgoing, Release, StateChange, StateKey, Step
from rolekit.store.memory import MemoryStore
from rolekit.transport.memory import MemoryTransport
from tests.unit.fakes_flow import SOON_S

if TYPE_CHECKING:
    from rolekit.flow.submitted import Submitted

pytestmark = pytest.mark.anyio

Script = Callable[[list[str]], Commit | None]


class ScriptedStore(MemoryStore):
    """Notes each batch, then does what its script says."""

    def __init__(self, script: Script | None = None) -> None:
        super().__init__()
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self._script = script

    async def commit(self, steps: Sequence[Step]) -> Commit:
        names = [step.id for step in steps]
        self.batches.append(names)
        self.entered.set()
        await self.gate.wait()
        scripted = self._script(names) if self._script else None
        return scripted or Commit(fresh={step.key for step in steps})


class Leaving(Outbox):
    """Keeps what was handed over, and publishes nothing."""

    def __init__(self, transport: MemoryTransport, store: MemoryStore) -> None:
        super().__init__(transport, store)
        self.left: list[Outgoing] = []

    def leave(self, rows: Sequence[Outgoing]) -> None:
        self.left += rows


class Desk:
    """A committer, with what it gave to the bell and to the outbox."""

    def __init__(self, store: ScriptedStore) -> None:
        self.store = store
        self.outbox = Leaving(MemoryTransport(), store)
        self.bell = Bell()
        self.committer = Committer(store, self.bell, self.outbox)

    def submit(self, *names: str) -> list[Submitted]:
        return [self.committer.submit(step(name)) for name in names]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "AWAY_FIRST_S", 0.0)


@asynccontextmanager
async def running(store: ScriptedStore) -> AsyncGenerator[Desk]:
    desk = Desk(store)
    task = asyncio.create_task(desk.committer.run())
    try:
        yield desk
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def step(name: str, *, states: Sequence[str] = (), release: str = "") -> Step:
    changes = [StateChange(StateKey("s", "n", key), 0, b"") for key in states]
    moved = None
    if release:
        moved = Release(sequence=release, before=(0,), after=Cursor((), ()), released=1)
    return Step(id=name, generation=0, birth_ms=0, states=changes, release=moved)


async def test_what_waits_together_is_committed_together() -> None:
    async with running(ScriptedStore()) as desk:
        done = desk.submit("a", "b", "c")
        results = await asyncio.gather(*done)

    assert desk.store.batches == [["a", "b", "c"]]
    assert results == [True, True, True]


async def test_what_comes_while_a_batch_commits_goes_into_the_next_ones() -> None:
    store = ScriptedStore()
    store.gate.clear()
    async with running(store) as desk:
        first = desk.submit("a")
        await store.entered.wait()
        store.entered.clear()
        second = desk.submit("b")
        await store.entered.wait()
        third = desk.submit("c", "d")
        store.gate.set()
        await asyncio.gather(*first, *second, *third)

    assert store.batches == [["a"], ["b"], ["c", "d"]]


async def test_a_batch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "BATCH", 3)
    async with running(ScriptedStore()) as desk:
        await asyncio.gather(*desk.submit(*"abcdefg"))

    assert [len(batch) for batch in desk.store.batches] == [3, 3, 1]


async def test_a_step_whose_row_was_taken_is_told_so() -> None:
    async with running(ScriptedStore(lambda _: Commit(fresh={("a", 0)}))) as desk:
        results = await asyncio.gather(*desk.submit("a", "b"))

    assert results == [True, False]


@pytest.mark.parametrize("culprit", "abcdefg")
async def test_halving_finds_the_culprit_and_the_others_are_committed(culprit: str) -> None:
    def refuse(names: list[str]) -> None:
        if culprit in names:
            raise WriteFailed(f"{culprit} cannot be written.")

    async with running(ScriptedStore(refuse)) as desk:
        results = await asyncio.gather(*desk.submit(*"abcdefg"), return_exceptions=True)

    failed = [isinstance(result, WriteFailed) for result in results]
    assert failed == [name == culprit for name in "abcdefg"]
    good = [batch for batch in desk.store.batches if culprit not in batch]
    assert sorted(name for batch in good for name in batch) == sorted(
        set("abcdefg") - {culprit}
    )
    assert len(desk.store.batches) <= 7


class Telling(ScriptedStore):
    """Refuses steps by their names, and says which it refused."""

    def __init__(self, *bad: str, knows: Sequence[str] = ()) -> None:
        super().__init__(self._object)
        self._bad = set(bad)
        self._knows = set(knows or bad)

    def _object(self, names: list[str]) -> Commit | None:
        if self._bad.intersection(names):
            raise WriteFailed(f"{','.join(names)} cannot be written.")
        return None

    async def suspects(self, steps: Sequence[Step]) -> list[Step]:
        for error in (Unavailable, TypeError):
            if error.__name__ in self._knows:
                raise error("It could not be found out.")
        if "slow" in self._knows:
            await asyncio.Event().wait()
        return [step for step in steps if step.id in self._knows]


async def test_those_that_the_store_suspects_are_left_out_and_hear_of_their_own() -> None:
    async with running(Telling("c", "f")) as desk:
        results = await asyncio.gather(*desk.submit(*"abcdefgh"), return_exceptions=True)

    assert desk.store.batches == [list("abcdefgh"), list("abdegh"), ["c"], ["f"]]
    good = [
        result for name, result in zip("abcdefgh", results, strict=True) if name not in "cf"
    ]
    assert good == [True] * 6
    assert [str(results[at]) for at in (2, 5)] == [
        "c cannot be written.",
        "f cannot be written.",
    ]


async def test_where_all_are_suspects_each_is_committed_alone() -> None:
    async with running(Telling(*"abcdefgh")) as desk:
        results = await asyncio.gather(*desk.submit(*"abcdefgh"), return_exceptions=True)

    assert desk.store.batches == [list("abcdefgh"), *([name] for name in "abcdefgh")]
    assert [str(result) for result in results] == [
        f"{n} cannot be written." for n in "abcdefgh"
    ]


async def test_whom_the_store_suspects_wrongly_is_committed_like_the_others() -> None:
    async with running(Telling("c", knows="ab")) as desk:
        results = await asyncio.gather(*desk.submit(*"abcdefgh"), return_exceptions=True)

    assert [type(result) for result in results].count(WriteFailed) == 1
    assert isinstance(results[2], WriteFailed)


@pytest.mark.parametrize("knows", ["nobody", "Unavailable", "TypeError", "slow"])
async def test_a_store_that_does_not_know_is_no_harm(
    knows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "SUSPECTS_S", 0.01)
    async with running(Telling("c", knows=[knows])) as desk:
        results = await asyncio.gather(*desk.submit(*"abcdefgh"), return_exceptions=True)

    assert [isinstance(result, WriteFailed) for result in results] == [
        n == "c" for n in "abcdefgh"
    ]


async def test_refused_statements_make_no_batch_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group, "BATCH", 64)
    monkeypatch.setattr(group, "IN_FLIGHT", 1)
    async with running(Telling("bad")) as desk:
        done = desk.submit(*(f"{n}" for n in range(63)), "bad")
        await asyncio.gather(*done, return_exceptions=True)
        await asyncio.gather(*desk.submit(*(f"{n}" for n in range(64))))

    assert [len(batch) for batch in desk.store.batches] == [64, 63, 1, 64]


async def test_batches_are_smaller_after_a_culprit_and_larger_again_with_each_full_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group, "BATCH", 64)
    monkeypatch.setattr(group, "IN_FLIGHT", 1)

    def refuse(names: list[str]) -> None:
        if "bad" in names:
            raise ValueError("bad")

    async with running(ScriptedStore(refuse)) as desk:
        for after in ([32, 40, 48, 56, 64, 64], [32, 40, 48]):
            done = desk.submit(*(f"{n}" for n in range(63)), "bad")
            *good, bad = await asyncio.gather(*done, return_exceptions=True)
            assert (type(bad), good) == (ValueError, [True] * 63)
            desk.store.batches.clear()

            await asyncio.gather(*desk.submit(*(f"{n}" for n in range(sum(after)))))
            assert [len(batch) for batch in desk.store.batches] == after


async def test_batches_are_never_smaller_than_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "IN_FLIGHT", 1)

    def refuse(names: list[str]) -> None:
        if any(name.startswith("bad") for name in names):
            raise ValueError("bad")

    async with running(ScriptedStore(refuse)) as desk:
        done = desk.submit(*(f"bad{n}" for n in range(40)))
        results = await asyncio.gather(*done, return_exceptions=True)
        assert {type(result) for result in results} == {ValueError}
        desk.store.batches.clear()
        await asyncio.gather(*desk.submit(*(f"{n}" for n in range(40))))

    assert [len(batch) for batch in desk.store.batches] == [16, 24]


async def test_when_all_are_culprits_each_hears_of_its_own() -> None:
    def refuse(names: list[str]) -> None:
        raise StateClash(",".join(names))

    async with running(ScriptedStore(refuse)) as desk:
        results = await asyncio.gather(*desk.submit(*"abc"), return_exceptions=True)

    assert [str(result) for result in results] == ["a", "b", "c"]


async def test_after_an_unknown_commit_the_same_batch_goes_again() -> None:
    left = [Unavailable("no answer"), Unavailable("no answer")]

    def away(names: list[str]) -> None:
        if left:
            raise left.pop()

    async with running(ScriptedStore(away)) as desk:
        results = await asyncio.gather(*desk.submit("a", "b"))

    assert desk.store.batches == [["a", "b"]] * 3
    assert results == [True, True]


async def test_a_deadlock_in_a_batch_halves_it_and_nobody_hears_of_it() -> None:
    def collide(names: list[str]) -> None:
        if len(names) > 1:
            raise Contended("deadlock")

    async with running(ScriptedStore(collide)) as desk:
        results = await asyncio.gather(*desk.submit(*"abcd"))

    assert results == [True] * 4
    assert desk.store.batches[-1] == ["d"]


async def test_a_step_that_waits_for_a_lock_goes_again_however_long_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group, "AWAY_MAX_S", 0.0)
    left = list(range(2_000))

    def locked(names: list[str]) -> None:
        if left:
            left.pop()
            raise Contended("lock time-out")  # a new one: one of old has a longer traceback

    async with running(ScriptedStore(locked)) as desk:
        results = await asyncio.gather(*desk.submit("a"))

    assert results == [True]
    assert desk.store.batches == [["a"]] * 2_001


async def test_changes_of_one_state_go_in_one_batch_in_their_order() -> None:
    async with running(ScriptedStore()) as desk:
        done = [desk.committer.submit(step(name, states=["x"])) for name in "abc"]
        await asyncio.gather(*done)

    assert desk.store.batches == [["a", "b", "c"]]


async def test_what_another_batch_is_changing_waits_and_the_rest_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group, "PLENTY", 3)
    async with running(ScriptedStore()) as desk:
        desk.store.gate.clear()
        done = [desk.committer.submit(step("a", states=["x"]))]
        await desk.store.entered.wait()
        desk.store.entered.clear()

        done += [
            desk.committer.submit(step("b", states=["x", "y"])),
            desk.committer.submit(step("c", states=["y"])),
            desk.committer.submit(step("d", states=["z"])),
        ]
        await desk.store.entered.wait()
        desk.store.gate.set()
        await asyncio.gather(*done)

    assert desk.store.batches == [["a"], ["d"], ["b", "c"]]


async def test_no_batch_moves_a_sequence_twice() -> None:
    async with running(ScriptedStore()) as desk:
        done = [
            desk.committer.submit(step("a", release="s1")),
            desk.committer.submit(step("b", release="s2")),
            desk.committer.submit(step("c", release="s1")),
        ]
        await asyncio.gather(*done)

    assert desk.store.batches == [["a", "b"], ["c"]]


async def test_what_a_commit_brought_is_told_before_anybody_is() -> None:
    row = Outgoing(7, Packet(queue="q", id="a", head=b""))
    heard: list[str] = []

    async with running(ScriptedStore(lambda _: Commit({("a", 0)}, [row], {"q"}))) as desk:
        desk.bell.on(["q"], lambda: heard.append("q"))
        await desk.committer.submit(step("a"))

    assert desk.outbox.left == [row]
    assert heard == ["q"]


async def test_who_is_cancelled_meanwhile_does_not_hold_up_the_others() -> None:
    store = ScriptedStore()
    store.gate.clear()
    async with running(store) as desk:
        first, second = desk.submit("a", "b")
        waiting = asyncio.ensure_future(first)
        await store.entered.wait()
        waiting.cancel()
        store.gate.set()

        assert await second
        assert await desk.submit("c")[0]
        assert await first
        assert waiting.cancelled()


class OneSlow(ScriptedStore):
    """One of its commits waits at the gate, the others do not."""

    async def commit(self, steps: Sequence[Step]) -> Commit:
        if [step.id for step in steps] != ["slow"]:
            return Commit(fresh={step.key for step in steps})
        return await super().commit(steps)


async def test_while_one_commit_is_slow_the_others_go_on_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group, "SLOW_S", 0.0)
    store = OneSlow()
    store.gate.clear()
    async with running(store) as desk, asyncio.timeout(SOON_S):
        (slow,) = desk.submit("slow")
        await store.entered.wait()
        others = [await desk.submit(name)[0] for name in "abcd"]
        is_still_slow = not slow.done()
        store.gate.set()
        await slow

    assert others == [True] * 4
    assert is_still_slow


@pytest.mark.parametrize(("starved_s", "goes_on"), [(0.1, True), (600, False)])
async def test_where_the_loop_is_late_a_commit_is_slow_only_later(
    monkeypatch: pytest.MonkeyPatch, *, starved_s: float, goes_on: bool
) -> None:
    monkeypatch.setattr(group, "STARVED_S", starved_s)
    if not goes_on:
        monkeypatch.setattr(group, "LATE_S", -1)  # however soon it is called
    store = OneSlow()
    store.gate.clear()
    async with running(store) as desk:
        (slow,) = desk.submit("slow")
        await store.entered.wait()
        (other,) = desk.submit("other")
        for _ in range(10):  # whatever has its time comes later than it should
            time.sleep(1.5 * group.SLOW_S)  # noqa: ASYNC251 - as other processes make it
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        has_gone_on = other.done()
        store.gate.set()
        await slow
        await other

    assert has_gone_on is goes_on


async def test_a_slow_commit_is_seen_while_the_loop_is_in_time() -> None:
    store = OneSlow()
    store.gate.clear()
    async with running(store) as desk, asyncio.timeout(SOON_S):
        (slow,) = desk.submit("slow")
        await store.entered.wait()
        assert await desk.submit("other")[0]
        store.gate.set()
        await slow


@pytest.mark.parametrize(("has_outbox", "sent"), [(False, 2), (True, 0)])
async def test_what_a_commit_sends_is_counted_where_it_does_not_leave_through_an_outbox(
    sent: int, *, has_outbox: bool
) -> None:
    store = ScriptedStore(lambda _: Commit(fresh={("a", 0)}))
    outbox = Leaving(MemoryTransport(), store) if has_outbox else None
    committer = Committer(store, Bell(), outbox)
    committer.meters = FlowMeters(Meters())
    packets = [Packet(queue="q", id=name, head=b"") for name in "xyz"]
    steps = [replace(step("a"), outputs=packets[:2]), replace(step("b"), outputs=packets[2:])]
    task = asyncio.create_task(committer.run())

    await asyncio.gather(*(committer.submit(one) for one in steps))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert committer.meters.sent.value == sent, "b was a repeat: it sent nothing"
