"""States that several steps of one process use: one after the other, without a round trip."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from rolekit.bell import Bell
from rolekit.clock import SystemClock
from rolekit.errors import StateClash, Unavailable
from rolekit.flow import states as module
from rolekit.flow.commit import Committer
from rolekit.flow.states import States
from rolekit.flow.submitted import Submitted
from rolekit.store.base import StateChange, StateKey, Step
from rolekit.store.memory import MemoryStore
from tests.property.jumping import run
from tests.unit.fakes_flow import SOON_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.anyio

NOW_MS = SystemClock().now_ms()
X, Y = StateKey("s", "N", "x"), StateKey("s", "N", "y")


class CountingStore(MemoryStore):
    """Counts how often states are read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    async def load_states(self, keys: Sequence[StateKey]) -> dict[StateKey, tuple[int, bytes]]:
        self.reads += 1
        return await super().load_states(keys)


def unknown() -> Submitted:
    return Submitted()


async def taken(states: States, key: StateKey, holder: object) -> tuple[int, bytes | None]:
    version, body, _ = await states.take(key, holder)
    return version, body


async def told(outcome: Submitted, result: object) -> None:
    """Let an outcome become known, and everybody hear of it."""
    if isinstance(result, Exception):
        outcome.set_exception(result)
    else:
        outcome.set_result(bool(result))
    await asyncio.sleep(0)


async def test_a_step_goes_on_from_what_the_one_before_made_of_it() -> None:
    store = CountingStore()
    states = States(store)
    assert await taken(states, X, "a") == (0, None)

    states.put(X, "a", StateChange(X, 0, b"1"), unknown())

    assert await taken(states, X, "b") == (1, b"1")
    assert store.reads == 1


async def test_a_step_goes_on_from_the_version_that_the_one_before_gave_it() -> None:
    states = States(MemoryStore())
    await taken(states, X, "a")

    states.put(X, "a", StateChange(X, 0, b"1", token=77), unknown())

    assert await taken(states, X, "b") == (77, b"1")


async def test_a_step_waits_while_another_works_with_the_state() -> None:
    states = States(MemoryStore())
    await taken(states, X, "a")

    second = asyncio.create_task(taken(states, X, "b"))
    await asyncio.sleep(0)
    waits = not second.done()
    states.put(X, "a", StateChange(X, 0, b"1"), unknown())

    assert (waits, await second) == (True, (1, b"1"))


async def test_another_state_is_not_waited_for() -> None:
    states = States(MemoryStore())
    await taken(states, X, "a")

    assert await taken(states, Y, "b") == (0, None)


async def test_what_was_read_only_is_given_on_as_it_is() -> None:
    store = CountingStore()
    await store.commit([Step(id="1" * 32, generation=0, birth_ms=NOW_MS,
                             states=[StateChange(X, 0, b"1")])])  # fmt: skip
    states = States(store)
    await taken(states, X, "a")

    states.put(X, "a")

    assert await taken(states, X, "b") == (1, b"1")
    assert store.reads == 2


@pytest.mark.parametrize("result", [False, ValueError("refused")])
async def test_after_a_failure_the_database_is_asked_again(result: object) -> None:
    store = CountingStore()
    states = States(store)
    await taken(states, X, "a")
    outcome = unknown()
    states.put(X, "a", StateChange(X, 0, b"lost"), outcome)

    await told(outcome, result)

    assert await taken(states, X, "b") == (0, None)
    assert store.reads == 2


async def committed(states: States, holder: str, change: StateChange) -> None:
    """Take a state, change it, and hear that this took effect."""
    await states.take(change.key, holder)
    outcome = unknown()
    states.put(change.key, holder, change, outcome)
    await told(outcome, 1)


async def test_what_was_committed_last_is_not_read_again() -> None:
    store = CountingStore()
    states = States(store)
    await committed(states, "a", StateChange(X, 0, b"1", 77))

    again = await states.take(X, "b")

    assert again == (77, b"1", True)
    assert store.reads == 1


async def test_a_step_that_may_only_look_reads_what_is_there() -> None:
    store = CountingStore()
    states = States(store)
    await committed(states, "a", StateChange(X, 0, b"1", 77))
    await committed(states, "b", StateChange(X, 77, b"1", 78, is_change=False))

    again = await states.take(X, "c")

    assert again == (0, None, False)  # nothing was really stored
    assert store.reads == 2


async def test_after_a_clash_a_state_is_read_each_time_for_a_while() -> None:
    store = CountingStore()
    states = States(store)
    await states.take(X, "a")
    outcome = unknown()
    states.put(X, "a", StateChange(X, 0, b"1"), outcome)
    await told(outcome, ValueError("somebody else was faster"))
    await committed(states, "b", StateChange(X, 0, b"2"))

    await states.take(X, "c")

    assert store.reads == 3


async def test_a_commit_in_the_middle_of_a_chain_ends_nothing() -> None:
    states = States(MemoryStore())
    await taken(states, X, "a")
    first, second = unknown(), unknown()
    states.put(X, "a", StateChange(X, 0, b"1"), first)
    await taken(states, X, "b")
    states.put(X, "b", StateChange(X, 1, b"2"), second)

    await told(first, 1)

    assert await taken(states, X, "c") == (2, b"2")


async def test_two_that_wait_for_each_other_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.01)
    states = States(MemoryStore())
    await taken(states, X, "a")
    await taken(states, Y, "b")

    got = await asyncio.gather(taken(states, Y, "a"), taken(states, X, "b"))

    assert list(got) == [(0, None), (0, None)]


async def test_one_that_was_cancelled_while_it_waited_holds_up_nobody() -> None:
    states = States(MemoryStore())
    await taken(states, X, "a")
    gone = asyncio.create_task(taken(states, X, "b"))
    last = asyncio.create_task(taken(states, X, "c"))
    await asyncio.sleep(0)

    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    states.put(X, "a")

    assert await last == (0, None)


class Reads(MemoryStore):
    """Fails its first read, or holds it."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.reading = asyncio.Event()
        self._error = error

    async def load_states(self, keys: Sequence[StateKey]) -> dict[StateKey, tuple[int, bytes]]:
        if not self.reading.is_set():
            self.reading.set()
            if self._error is not None:
                raise self._error
            await asyncio.Event().wait()
        return await super().load_states(keys)


async def test_who_could_not_read_a_state_holds_up_nobody() -> None:
    states = States(Reads(Unavailable("The database is away.")))
    with pytest.raises(Unavailable):
        await taken(states, X, "a")

    async with asyncio.timeout(SOON_S):
        assert await taken(states, X, "b") == (0, None)


async def test_who_was_cancelled_while_reading_a_state_holds_up_nobody() -> None:
    store = Reads()
    states = States(store)
    gone = asyncio.create_task(taken(states, X, "a"))
    await store.reading.wait()
    gone.cancel()
    await asyncio.wait([gone])

    async with asyncio.timeout(SOON_S):
        assert await taken(states, X, "b") == (0, None)


@pytest.mark.parametrize("is_given_first", [True, False])
async def test_one_that_is_cancelled_as_its_turn_comes_ends_as_cancelled(
    *, is_given_first: bool
) -> None:
    states = States(MemoryStore())
    await taken(states, X, "a")
    gone = asyncio.create_task(taken(states, X, "b"))
    await asyncio.sleep(0)

    steps: list[Callable[[], object]] = [lambda: states.put(X, "a"), gone.cancel]
    for do in steps if is_given_first else reversed(steps):
        do()
    await asyncio.wait([gone])

    assert gone.cancelled()
    async with asyncio.timeout(SOON_S):
        assert await taken(states, X, "c") == (0, None)


@pytest.mark.parametrize("is_given_first", [True, False])
def test_one_whose_turn_comes_as_its_time_is_up_goes_on(*, is_given_first: bool) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        states = States(MemoryStore())
        await taken(states, X, "a")
        if is_given_first:
            loop.call_later(module.WAIT_S, states.put, X, "a")
        second = asyncio.create_task(taken(states, X, "b"))
        await asyncio.sleep(0)
        if not is_given_first:
            loop.call_later(module.WAIT_S, states.put, X, "a")

        assert await second == (0, None)
        assert loop.time() == module.WAIT_S

    run(main())


async def test_a_commit_that_failed_takes_along_what_went_on_from_it() -> None:
    here = MemoryStore()
    there = MemoryStore(here.tables, owner=2)
    states, committer = States(here), Committer(here, Bell(), None)
    version, _ = await taken(states, X, "a")
    lost = StateChange(X, version, b"a", token=101)
    outcome = committer.submit(changing(1, lost))
    states.put(X, "a", lost, outcome)
    version, _ = await taken(states, X, "c")
    gone_on = committer.submit(changing(2, StateChange(X, version, b"a and c", token=102)))

    await there.commit([changing(3, StateChange(X, 0, b"b", token=103))])
    running = asyncio.create_task(committer.run())
    results = await asyncio.gather(outcome, gone_on, return_exceptions=True)
    running.cancel()
    await asyncio.wait([running])

    assert [type(result) for result in results] == [StateClash, StateClash]
    assert await here.load_states([X]) == {X: (103, b"b")}


def changing(number: int, change: StateChange) -> Step:
    return Step(id=f"{number:032x}", generation=0, birth_ms=NOW_MS, states=[change])


FORKED = """
import os
from rolekit.flow.step_context import versions
read, write = os.pipe()
if not os.fork():
    os.write(write, str(versions.getrandbits(62)).encode())
    os._exit(0)
os.wait()
assert os.read(read, 100) != str(versions.getrandbits(62)).encode()
"""


def test_no_two_processes_forked_from_one_draw_the_same_versions() -> None:
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=60)
