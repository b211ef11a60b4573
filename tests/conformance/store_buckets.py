"""What every store must do with rates: nobody gets a slot that another has."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rolekit.model.rates import Ask

if TYPE_CHECKING:
    from tests.conformance.store import Ground


def ask(
    bucket: str = "b",
    wanted: float = 1,
    *,
    first: float = 1,
    ahead_ms: float = 0,
    line_ms: float = 0,
) -> Ask:
    """Ask for units of a bucket of one a second, of which five may go at once.

    So slowly that a busy machine does not earn one between two calls.
    """
    return Ask(
        bucket, wanted, first, step_ms=1000.0, burst=5.0, ahead_ms=ahead_ms, line_ms=line_ms
    )


class Buckets:
    """Slots are reserved once, over all processes."""

    async def test_a_new_bucket_gives_its_burst_at_once_and_then_says_when(
        self, ground: Ground
    ) -> None:
        store = await ground.open()

        (first,) = await store.reserve([ask(wanted=50)])
        (second,) = await store.reserve([ask(wanted=50)])

        assert first.granted in (5, 6)  # the one that is due right now beside them
        assert first.start_ms == pytest.approx(-5000, abs=10)
        assert second.granted <= 1
        if not second.granted:
            assert 0 < second.start_ms <= 1000

    async def test_slots_ahead_are_reserved_up_to_the_horizon(self, ground: Ground) -> None:
        store = await ground.open()

        (some,) = await store.reserve([ask(wanted=50, ahead_ms=10000)])
        (none,) = await store.reserve([ask(wanted=50, ahead_ms=5000)])

        assert some.granted in (15, 16)
        assert none.granted == 0
        assert 5000 < none.start_ms <= 11_000

    async def test_the_first_message_gets_all_it_costs_or_nothing(self, ground: Ground) -> None:
        store = await ground.open()

        (costly,) = await store.reserve([ask(wanted=40, first=30)])
        (after,) = await store.reserve([ask()])

        assert costly.granted == 30
        assert after.granted == 0
        assert after.start_ms == pytest.approx(25_000, abs=5000)

    async def test_several_buckets_are_asked_at_once_each_on_its_own(
        self, ground: Ground
    ) -> None:
        store = await ground.open()
        await store.reserve([ask("full", wanted=50)])

        grants = await store.reserve([ask("new", wanted=3), ask("full", wanted=3)])

        by_bucket = {grant.bucket: grant.granted for grant in grants}
        assert by_bucket["new"] == 3
        assert by_bucket["full"] <= 1

    async def test_what_gets_no_slot_lines_up_behind_those_who_did(
        self, ground: Ground
    ) -> None:
        store = await ground.open()

        (whole,) = await store.reserve([ask(wanted=5, ahead_ms=10000, line_ms=50000)])
        (some,) = await store.reserve([ask(wanted=50, ahead_ms=10000, line_ms=50000)])
        (plain,) = await store.reserve([ask(wanted=1, ahead_ms=10000)])
        (behind,) = await store.reserve([ask(wanted=2, ahead_ms=10000, line_ms=50000)])

        assert (whole.granted, whole.place_ms) == (5, 0)
        assert some.granted in (10, 11, 12)
        assert some.place_ms == pytest.approx(some.start_ms + some.granted * 1000, abs=10)
        assert (plain.granted, plain.place_ms) == (0, 0)
        in_line = some.place_ms + (50 - some.granted) * 1000
        assert behind.granted == 0
        assert behind.place_ms == pytest.approx(in_line, abs=9000)

    async def test_a_line_is_no_longer_than_it_may_be(self, ground: Ground) -> None:
        store = await ground.open()

        await store.reserve([ask(wanted=500, line_ms=20000)])
        await store.reserve([ask(wanted=500, line_ms=20000)])
        (last,) = await store.reserve([ask(wanted=500, line_ms=20000)])
        (later,) = await store.reserve([ask(wanted=1, ahead_ms=30000)])

        assert last.granted <= 1
        assert last.place_ms <= 20_000
        assert later.granted == 1, "who stands in the line has taken no slots"

    async def test_of_many_that_ask_together_nobody_gets_what_another_has(
        self, ground: Ground
    ) -> None:
        stores = [await ground.open() for _ in range(4)]

        answers = await asyncio.gather(
            *(store.reserve([ask(wanted=7, ahead_ms=20000), ask("c")]) for store in stores * 2)
        )

        spans = sorted(
            (round(grant.start_ms), grant.granted)
            for grants in answers
            for grant in grants
            if grant.bucket == "b" and grant.granted
        )
        assert sum(units for _, units in spans) <= 5 + 20 + 2
        assert sum(units for _, units in spans) >= 24
