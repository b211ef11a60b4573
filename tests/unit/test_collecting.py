"""Spans of a host come together: kept, bounded, ended for who died, and never in the way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from rolekit.errors import Unavailable
from rolekit.model.span import Span
from rolekit.observe import collecting
from rolekit.observe.collecting import Collector

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.anyio]


class Keeper:
    """Keeps spans, unless it is away."""

    def __init__(self) -> None:
        self.is_away = False
        self.kept: list[Span] = []

    async def keep(self, spans: Sequence[Span]) -> None:
        if self.is_away:
            raise Unavailable("The database is away.")
        self.kept += spans

    async def tidy(self) -> None: ...


def span(n: int, *, ended_ns: int = 0, trace: int = 1) -> Span:
    return Span(
        trace=f"{trace:032x}", id=f"{n:016x}", name="process X", begun_ns=1, ended_ns=ended_ns
    )


async def test_spans_of_an_instance_that_died_end_with_how_it_died() -> None:
    keeper, exported = Keeper(), list[Span]()
    collector = Collector(keeper.keep, keeper.tidy, exported.append)
    collector.take("Worker/0 7", span(1))
    collector.take("Worker/0 7", span(2))
    collector.take("Worker/0 7", span(2, ended_ns=5))

    collector.gone("Worker/0 7", "SIGKILL")
    await collector.flush()

    assert [(one.id[-1], one.error) for one in exported] == [("2", ""), ("1", "InstanceDied")]
    assert keeper.kept[-1].detail == "The instance ended: SIGKILL."
    assert keeper.kept[-1].ended_ns > 0


async def test_spans_of_an_instance_that_stopped_end_without_an_error() -> None:
    keeper = Keeper()
    collector = Collector(keeper.keep, keeper.tidy)
    collector.take("Worker/0 7", span(1))

    collector.gone("Worker/0 7", "")
    await collector.flush()

    assert (keeper.kept[-1].error, keeper.kept[-1].ended_ns > 0) == ("", True)


async def test_a_keeper_that_is_away_is_said_once_and_gets_what_waits_when_it_is_back() -> None:
    keeper = Keeper()
    collector = Collector(keeper.keep, keeper.tidy)
    keeper.is_away = True
    with capture_logs() as lines:
        for n in range(3):
            collector.take("a", span(n, ended_ns=2))
            assert not await collector.flush()
        keeper.is_away = False

        assert await collector.flush()

    assert [one.id[-1] for one in keeper.kept] == ["0", "1", "2"]
    assert [line["log_level"] for line in lines] == ["warning", "info"]


async def test_what_waits_is_bounded_and_what_was_dropped_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collecting, "MOST_OF_ONE", 5)
    keeper = Keeper()
    collector = Collector(keeper.keep, keeper.tidy)

    for n in range(8):
        collector.take("a", span(n, ended_ns=2))
    collector.take("a", span(99, ended_ns=2, trace=2))
    await collector.flush()

    assert len(keeper.kept) == 6
    assert collector.dropped == 3


async def test_what_comes_last_is_kept_when_it_ends() -> None:
    keeper = Keeper()
    collector = Collector(keeper.keep, keeper.tidy)
    running = asyncio.create_task(collector.run())
    await asyncio.sleep(0)
    collector.take("a", span(1, ended_ns=2))

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert [one.id[-1] for one in keeper.kept] == ["1"]


async def test_what_is_being_kept_when_it_ends_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(collecting, "EVERY_S", 0)
    kept, begun = list[Span](), asyncio.Event()

    async def keep(spans: Sequence[Span]) -> None:
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        kept.extend(spans)

    collector = Collector(keep, Keeper().tidy)
    running = asyncio.create_task(collector.run())
    collector.take("Worker/0 7", span(1, ended_ns=5))
    await begun.wait()
    collector.take("Worker/0 7", span(2, ended_ns=6))

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert [one.id[-1] for one in kept] == ["1", "2"]
