"""The test kit for one method."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from rolekit import Blob, Message, State, VMRole
from rolekit.errors import RolekitError
from rolekit.guest import Exec, Guest, Sandbox
from rolekit.testing import FakeContext, Sent, run_of, set_guest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio


class Paid(Message):
    """A result of `once`."""

    status: int


class Count(State):
    """A state with one field."""

    done: int = 0


class Machine(VMRole):
    """A role with a guest."""

    press = Guest(Exec("press"), host=Sandbox())


async def test_writes_and_sends_are_recorded_in_order() -> None:
    ctx = FakeContext()

    ctx.write("insert into t values ($1)", 1)
    first = ctx.send(Paid(status=1))
    second = ctx.send(Paid(status=2), delay_s=5)

    assert ctx.writes == [("insert into t values ($1)", (1,))]
    assert ctx.sent == [Sent(Paid(status=1), 0), Sent(Paid(status=2), 5)]
    assert first != second


async def test_what_is_given_is_what_a_handler_sees() -> None:
    now = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)

    ctx = FakeContext(id="m7", key="k", attempt=3, now=now, headers={"tenant": "a"})

    assert (ctx.id, ctx.root_id, ctx.key, ctx.attempt) == ("m7", "m7", "k", 3)
    assert (ctx.now, ctx.sent_at) == (now, now)
    assert (ctx.headers, ctx.time_left_s) == ({"tenant": "a"}, 60)


async def test_a_state_is_the_one_given_or_a_new_one() -> None:
    given = Count(done=4)

    assert await FakeContext(states=[given]).state(Count) is given
    fresh = FakeContext()
    assert (await fresh.state(Count)).done == 0
    assert await fresh.state(Count) is await fresh.state(Count)


async def test_a_state_of_another_key_is_another() -> None:
    ctx = FakeContext(key="k", states=[Count(done=4)])

    other = await ctx.state(Count, "other")
    other.done = 9

    assert (await ctx.state(Count)).done == 4
    assert (await ctx.state(Count, "k")).done == 4
    assert (await ctx.state(Count, "other")).done == 9


async def test_once_calls_once_for_each_name() -> None:
    ctx, calls = FakeContext(), list[int]()

    async def pay(cents: int) -> Paid:
        calls.append(cents)
        return Paid(status=len(calls))

    assert await ctx.once("a", Paid, pay, 5) == Paid(status=1)
    assert await ctx.once("a", Paid, pay, 5) == Paid(status=1)
    assert await ctx.once("b", Paid, pay, 6) == Paid(status=2)
    assert calls == [5, 6]


async def stream() -> AsyncIterator[bytes]:
    yield b"ab"
    yield b"c"


async def test_bytes_that_are_saved_can_be_loaded() -> None:
    ctx = FakeContext()

    whole, streamed = await ctx.save(b"abc", media_type="a/b"), await ctx.save(stream())

    assert whole == Blob(id=streamed.id, size_bytes=3, media_type="a/b")
    assert await ctx.load(streamed) == b"abc"


async def test_a_blob_from_nowhere_is_so_many_zeros() -> None:
    assert await FakeContext().load(Blob(id="x", size_bytes=2)) == b"\0\0"


async def test_a_transaction_is_refused_with_the_fixture_to_use() -> None:
    with pytest.raises(RolekitError, match="rolekit_database"):
        await FakeContext().tx()


async def test_a_run_is_the_whole_sequence_unless_told() -> None:
    run = run_of("a", "b")

    assert (list(run), run.offset, run.is_last) == (["a", "b"], 0, True)


async def test_a_guest_is_set_on_one_instance_only() -> None:
    one, guest = Machine(), object()

    set_guest(one, "press", guest)

    placed: object = one.press
    assert placed is guest
    with pytest.raises(RolekitError, match=r"Machine\.press is a guest.*set_guest"):
        _ = Machine().press


async def test_a_guest_on_the_class_is_its_declaration() -> None:
    assert isinstance(Machine.press, Guest)


async def test_an_unknown_guest_is_refused() -> None:
    with pytest.raises(RolekitError, match="Machine has no guest 'pres', only: press"):
        set_guest(Machine(), "pres", object())
