"""How much of a queue an instance holds."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolekit.flow.pacing import PACE_S, Pacing
from rolekit.model.pace import MOST, grown, shrunk


@pytest.mark.parametrize(
    ("window", "handled", "expected"),
    [
        (20, 0, 20),
        (20, 15, 20),  # 300/s: 15 in a moment
        (20, 25, 80),  # 500/s: 25 in a moment
        (80, 750, 320),
        (320, 2_500, 1280),
        (1280, 25_000, 1280),  # no more than the most
    ],
)
def test_a_window_grows_to_what_is_got_through_in_a_moment(
    window: int, handled: int, expected: int
) -> None:
    assert grown(window, 20, handled, 0.05) == expected


@pytest.mark.parametrize(
    ("window", "handled", "expected"),
    [
        (320, 5_000, 320),  # 250 in a moment: near enough
        (320, 300, 80),  # 15 in a moment
        (80, 0, 20),
        (20, 0, 20),  # never less than runs
    ],
)
def test_a_window_shrinks_when_it_is_far_too_much(
    window: int, handled: int, expected: int
) -> None:
    assert shrunk(window, 20, handled, 1.0) == expected


@given(
    st.integers(1, 5000), st.lists(st.integers(0, 1_000_000), max_size=20), st.floats(0.01, 5)
)
def test_a_window_stays_between_what_runs_and_the_most(
    least: int, counts: list[int], seconds: float
) -> None:
    window = least
    for handled in counts:
        window = shrunk(grown(window, least, handled, seconds), least, handled, seconds)
        assert least <= window <= max(MOST, least)


@given(st.integers(1, 300), st.integers(0, 100_000))
def test_at_a_steady_rate_a_window_that_grew_does_not_shrink(least: int, rate: int) -> None:
    window = least
    for _ in range(10):
        window = grown(window, least, rate, 1.0)

    assert shrunk(window, least, rate, 1.0) == window


class Windows:
    """Notes how windows change."""

    def __init__(self, least: int) -> None:
        self.changes: list[tuple[str, int]] = []
        self.pacing = Pacing(["q", "other"], least, self._resize)

    def _resize(self, queue: str, window: int, is_smaller: bool) -> None:  # noqa: FBT001 - as it is called
        del is_smaller
        self.changes.append((queue, window))

    def handle(self, count: int, queue: str = "q") -> None:
        for _ in range(count):
            self.pacing.handled(queue)

    async def looked(self) -> None:
        """Return when it has looked."""
        self.pacing.look_soon()
        await asyncio.sleep(PACE_S)
        await asyncio.sleep(0.01)


@pytest.mark.anyio
async def test_a_window_grows_as_soon_as_it_is_sure_to_be_too_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = asyncio.get_running_loop().time()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now_s)
    windows = Windows(20)
    windows.pacing.look_soon()

    windows.handle(19)
    before = [*windows.changes]
    windows.handle(1)
    windows.handle(79)
    after = [*windows.changes]
    windows.handle(1)
    windows.pacing.close()

    assert before == []
    assert after == [("q", 80)]
    assert windows.changes == [("q", 80), ("q", 320)]


@pytest.mark.anyio
async def test_what_was_handled_before_work_came_says_nothing_of_how_quick_that_is() -> None:
    windows = Windows(20)
    windows.handle(30)

    await windows.looked()
    windows.pacing.close()

    assert windows.changes == []


@pytest.mark.anyio
async def test_a_window_that_grew_in_a_while_is_let_be_in_it() -> None:
    # The first while ends with the first look: a clock began long before work came.
    windows = Windows(20)
    windows.pacing.look_soon()
    windows.handle(20_000)  # more than in a moment, however slow the machine is
    grew_to = windows.changes[-1]

    await windows.looked()
    windows.pacing.close()

    assert windows.changes[-1] == grew_to
