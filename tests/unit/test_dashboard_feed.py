"""What pages are told: it does not wait for what takes long, and that costs little."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import anyio
import pytest

from rolekit.dashboard.feed import Feed, pause_s
from tests.browser.board import MadeUpFleet
from tests.patience import patient

if TYPE_CHECKING:
    from rolekit.supervisor.usage import FleetUsage

pytestmark = pytest.mark.anyio


class Slow(MadeUpFleet):
    """Does not say what processes use until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Event()
        self.was_asked = threading.Event()

    def usage(self) -> FleetUsage:
        self.was_asked.set()
        self.let.wait(15)
        return super().usage()


async def test_pages_are_told_while_processes_are_still_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rolekit.dashboard.feed.EVERY_S", 0.01)
    fleet = Slow()
    feed = Feed(fleet)
    told = 0
    try:
        with anyio.fail_after(patient(15)):
            async for _ in feed.listen():
                told += 1
                if told >= 3 and fleet.was_asked.is_set():
                    break
    finally:
        fleet.let.set()

    assert told >= 3
    assert len(feed.places("Role3")) == 20


@pytest.mark.parametrize(
    ("took_s", "is_first", "pause"),
    [(0.001, False, 2), (0.4, False, 40), (0.4, True, 5), (9, False, 120)],
)
def test_what_takes_longer_is_asked_less_often(
    took_s: float, pause: float, *, is_first: bool
) -> None:
    assert pause_s(took_s, is_first=is_first) == pytest.approx(pause)
