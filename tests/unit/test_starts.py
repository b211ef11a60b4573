"""Turns at starting: bounded, in order, and nobody is held up for long."""

from __future__ import annotations

import asyncio

import pytest

from rolekit.supervisor.starts import Starts
from tests.patience import patient

pytestmark = pytest.mark.anyio


async def test_no_more_start_at_a_time_than_is_said() -> None:
    starts = Starts(2, longest_s=60)
    overs = [await starts.turn(), await starts.turn()]
    third = asyncio.ensure_future(starts.turn())
    await asyncio.sleep(0)
    waited = not third.done()

    overs[0]()
    over = await third

    assert waited
    for one in (over, overs[1]):
        one()


async def test_a_turn_that_is_ended_twice_lets_in_one() -> None:
    starts = Starts(1, longest_s=60)
    over = await starts.turn()

    over()
    over()
    second = await starts.turn()
    third = asyncio.ensure_future(starts.turn())
    await asyncio.sleep(0)

    assert not third.done()
    second()
    (await third)()


async def test_one_that_takes_long_does_not_hold_up_the_rest() -> None:
    starts = Starts(1, longest_s=0.01)
    await starts.turn()

    async with asyncio.timeout(patient(5)):
        over = await starts.turn()

    over()
