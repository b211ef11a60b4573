"""What waited too long is traced from there on, as many a second as may be."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from rolekit.flow import pipeline
from rolekit.flow import tracing as tracing_module
from rolekit.flow.tracing import LATE_AGAIN_S
from tests.unit.fakes_flow import Line, working
from tests.unit.fakes_talks import Ask, Kept, Talks

if TYPE_CHECKING:
    from rolekit.flow.runtime import Arrival

pytestmark = [pytest.mark.anyio]


class Clock:
    """The time of day, as the flow reads it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = time.time()
        for module in (pipeline, tracing_module):
            monkeypatch.setattr(module, "time", self)

    def time(self) -> float:
        return self.now_s


async def test_what_waited_too_long_is_traced_from_there_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, kept = Clock(monkeypatch), Kept()
    line = Line(Talks, tracing=kept.tracing(0))

    async with working(line):
        await line.send(Ask(n=1))
        await line.idle()
        assert kept.spans == []
        clock.now_s += 2
        await line.send(Ask(n=2))
        await line.idle()

    assert kept.named("process Talks.ask").is_slow
    assert kept.named("process Talks.told").parent == kept.named("send Talks.told").id


async def test_in_a_backlog_messages_are_not_asked_about_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, kept = Clock(monkeypatch), Kept()
    tracing = kept.tracing(0)
    monkeypatch.setattr(tracing.tracer, "keeps_late", lambda: False)
    line, asked = Line(Talks, tracing=tracing), list[str]()
    begin = tracing.begin

    def count(arrival: Arrival, now_s: float) -> Arrival:
        asked.append(arrival.packet.id)
        return begin(arrival, now_s)

    monkeypatch.setattr(tracing, "begin", count)
    clock.now_s += 2
    async with working(line):
        await line.send(*(Ask(n=n) for n in range(20)))
        await line.idle()
        assert len(asked) == 1
        clock.now_s += 2 * LATE_AGAIN_S
        await line.send(Ask(n=20))
        await line.idle()

    assert len(asked) == 2
