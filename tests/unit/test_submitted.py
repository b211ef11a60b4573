"""What was submitted, and who is told of its end."""

from __future__ import annotations

import asyncio

import pytest

from rolekit.flow.submitted import Submitted

pytestmark = pytest.mark.anyio


async def test_all_are_told_of_its_end_before_whoever_ends_it_goes_on() -> None:
    told: list[str] = []
    one = Submitted()
    one.add_done_callback(lambda _: told.append("first"))
    one.add_done_callback(lambda _: told.append("second"))

    one.set_result(True)

    assert told == ["first", "second"]


async def test_who_asks_behind_its_end_is_told_too() -> None:
    told: list[bool] = []
    one = Submitted()
    one.set_result(False)

    one.add_done_callback(lambda it: told.append(it.result()))

    assert told == [False]
    assert await one is False


async def test_one_who_fails_does_not_keep_it_from_the_others() -> None:
    told: list[str] = []
    said: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: said.append(context.get("exception")))
    wrong = ZeroDivisionError("a bug")

    def fail(_: Submitted) -> None:
        raise wrong

    one = Submitted()
    one.add_done_callback(fail)
    one.add_done_callback(lambda _: told.append("second"))

    one.set_result(True)

    assert told == ["second"]
    assert said == [wrong]


async def test_all_who_wait_get_what_it_came_to() -> None:
    good, bad = Submitted(), Submitted()
    waiting = [asyncio.ensure_future(one) for one in (good, good, bad)]
    await asyncio.sleep(0)

    good.set_result(True)
    bad.set_exception(ValueError("refused"))

    assert await asyncio.gather(*waiting[:2]) == [True, True]
    with pytest.raises(ValueError, match="refused"):
        await waiting[2]
    assert isinstance(bad.exception(), ValueError)
