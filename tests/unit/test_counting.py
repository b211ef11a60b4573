"""Counting, where the broker does not answer."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from rolekit.transport.rabbitmq import counting as under_test
from rolekit.transport.rabbitmq.counting import Counting, Counts

if TYPE_CHECKING:
    from rolekit.transport.rabbitmq.session import Session

pytestmark = pytest.mark.anyio


class SlowChannel:
    """A channel that answers when it is let."""

    def __init__(self) -> None:
        self.calls = self
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()
        self.is_closed = False

    async def queue_declare(self, name: str, *, passive: bool) -> SimpleNamespace:
        assert passive
        assert not self.asked.is_set() or self.may_answer.is_set(), "asked twice at once"
        self.asked.set()
        await self.may_answer.wait()
        return SimpleNamespace(message_count=len(name), consumer_count=0)

    async def close(self) -> None:
        self.is_closed = True


class Opens:
    """A session that opens them."""

    def __init__(self) -> None:
        self.channels: list[SlowChannel] = []

    async def channel(self) -> SlowChannel:
        self.channels.append(SlowChannel())
        return self.channels[-1]


async def test_an_answer_to_who_waits_no_more_is_not_taken_for_the_next_one() -> None:
    counting, opens = Counting(), Opens()
    session = cast("Session", opens)
    asking = asyncio.create_task(counting.count(session, ["long"]))
    await asyncio.sleep(0)
    first = opens.channels[0]
    await first.asked.wait()

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    asking = asyncio.create_task(counting.count(session, ["a"]))
    await asyncio.sleep(0)
    opens.channels[-1].may_answer.set()

    assert await asking == {"a": Counts(messages=1)}
    assert first.is_closed
    assert len(opens.channels) == 2


async def test_a_queue_that_does_not_answer_keeps_no_other_question_waiting() -> None:
    counting, opens = Counting(), Opens()
    session = cast("Session", opens)
    stuck = asyncio.create_task(counting.count(session, ["stuck"]))
    other = asyncio.create_task(counting.count(session, ["other"]))
    await asyncio.sleep(0)
    opens.channels[1].may_answer.set()

    assert await other == {"other": Counts(messages=5)}
    opens.channels[0].may_answer.set()
    assert await stuck == {"stuck": Counts(messages=5)}
    assert [one.is_closed for one in opens.channels] == [True, False]
    assert await counting.count(session, ["again"]) == {"again": Counts(messages=5)}
    assert len(opens.channels) == 2


async def test_a_question_that_is_not_answered_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "ANSWER_S", 0.01)
    opens = Opens()

    with pytest.raises(TimeoutError):
        await Counting().count(cast("Session", opens), ["stuck"])

    assert opens.channels[0].is_closed
