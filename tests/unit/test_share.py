"""A busy process remembers a share of all traces, for long enough to be asked for it."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import TYPE_CHECKING

import pytest

from rolekit.flow import remembered
from rolekit.flow.share import REACH_S, Share
from rolekit.model.span import Recall
from tests.unit.fakes_flow import Line, working
from tests.unit.fakes_talks import Ask, Kept, Talks
from tests.unit.test_late import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 1_000


def roots() -> Iterator[str]:
    """Ids as messages have them."""
    draw = Random(7)  # noqa: S311 - the same each time
    while True:
        yield f"{draw.getrandbits(128):032x}"


def remember(share: Share, *, per_s: int, for_s: float, from_s: float) -> list[float]:
    """Let so much come; return when that came of which is remembered, at most `MOST`."""
    kept: deque[float] = deque(maxlen=MOST)
    for number, root in zip(range(int(per_s * for_s)), roots(), strict=False):
        now_s = from_s + number / per_s
        if root < share.below:
            kept.append(now_s)
            share.took(now_s)
    return list(kept)


def test_who_has_time_remembers_all() -> None:
    kept = remember(Share(MOST), per_s=200, for_s=4.5, from_s=1e9)

    assert len(kept) == 900


@pytest.mark.parametrize("per_s", [1_500, 20_000])
def test_what_is_remembered_reaches_back_for_long_enough_and_not_for_much_longer(
    per_s: int,
) -> None:
    kept = remember(Share(MOST), per_s=per_s, for_s=20, from_s=1e9)

    assert len(kept) == MOST
    assert REACH_S * 0.9 < kept[-1] - kept[0] < REACH_S * 5


def test_all_is_remembered_again_when_there_is_time_again() -> None:
    share = Share(MOST)
    remember(share, per_s=20_000, for_s=5, from_s=1e9)
    assert any(root >= share.below for root, _ in zip(roots(), range(9), strict=False))

    remember(share, per_s=50, for_s=30, from_s=1e9 + 5)

    assert all(root < share.below for root, _ in zip(roots(), range(99), strict=False))


def test_a_trace_that_the_busier_remember_the_others_do_too() -> None:
    busy, busier = Share(MOST), Share(MOST)
    remember(busy, per_s=2_000, for_s=9, from_s=1e9)
    remember(busier, per_s=30_000, for_s=9, from_s=1e9)
    some = [root for root, _ in zip(roots(), range(9_999), strict=False)]

    left = [{root for root in some if root < share.below} for share in (busy, busier)]

    assert 0 < len(left[1]) < len(left[0]) < len(some)
    assert left[1] < left[0]


@pytest.mark.anyio
async def test_what_comes_at_once_does_not_push_out_what_came_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Clock(monkeypatch)  # it stands still
    monkeypatch.setattr(remembered, "MOST", 20)
    kept = Kept()
    tracing = kept.tracing(0)
    line = Line(Talks, tracing=tracing)

    async with working(line):
        first = await line.client.send_many([Ask(n=n) for n in range(10)])
        await line.idle()
        await line.client.send_many([Ask(n=n) for n in range(10)])
        await line.idle()
        tracing.memory.recall([Recall(first[-1].id, "ab" * 16)])

    assert {span.name for span in kept.spans} >= {"process Talks.ask", "process Talks.told"}
