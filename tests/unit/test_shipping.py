"""What begins is written before the loop turns; what ends, with it or soon."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest
from structlog.testing import capture_logs

from rolekit import link
from rolekit.database import Database
from rolekit.flow.tracing import Tracing
from rolekit.model.span import Span
from rolekit.observe.tracing import Sampling, Tracer
from rolekit.transport.rabbitmq import RabbitTransport
from rolekit.wiring import shipping as under_test
from rolekit.wiring.parts import build
from rolekit.wiring.shipping import Shipping
from tests.unit.shop import shop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

pytestmark = [pytest.mark.anyio]


def span(n: int, *, ended_ns: int = 0) -> Span:
    return Span(
        trace="ab" * 16, id=f"{n:016x}", name="process X", begun_ns=1, ended_ns=ended_ns
    )


@asynccontextmanager
async def line() -> AsyncGenerator[tuple[Shipping, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)  # noqa: FBT003 - the only way to say it
    _, writer = await asyncio.open_connection(sock=ours)
    with theirs:
        yield Shipping(writer), theirs
        writer.close()


def told(theirs: socket.socket) -> list[object]:
    """Return the spans that were written until now."""
    try:
        lines = theirs.recv(65536).splitlines()
    except BlockingIOError:
        return []
    return [one.span for one in map(link.from_instance, lines) if isinstance(one, link.Traced)]


async def test_what_began_and_ended_in_a_turn_goes_once_and_before_what_comes_after() -> None:
    async with line() as (shipping, theirs):
        shipping.ship(span(1))
        shipping.ship(span(2))
        shipping.ship(span(1, ended_ns=5))
        after: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: after.set_result(told(theirs)))

        assert await after == [span(1, ended_ns=5), span(2)]

        shipping.ship(span(3))
        await asyncio.sleep(0)
        assert told(theirs) == [span(3)]


async def test_ends_wait_for_what_begins_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "HELD_S", 3600)
    async with line() as (shipping, theirs):
        shipping.ship(span(1, ended_ns=5))
        shipping.ship(span(2, ended_ns=6))
        await asyncio.sleep(0)
        before = told(theirs)

        shipping.ship(span(3))
        await asyncio.sleep(0)

        assert before == []
        assert told(theirs) == [span(1, ended_ns=5), span(2, ended_ns=6), span(3)]


async def test_ends_go_soon_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "HELD_S", 0.001)
    async with line() as (shipping, theirs):
        for number in (1, 2):  # a timer that went off is set again
            shipping.ship(span(number, ended_ns=5))

            async with asyncio.timeout(10):
                while not (found := told(theirs)):  # noqa: ASYNC110 - a socket has none
                    await asyncio.sleep(0.001)

            assert found == [span(number, ended_ns=5)]


async def test_what_is_held_is_written_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "HELD_S", 3600)
    async with line() as (shipping, theirs):
        shipping.ship(span(1, ended_ns=5))

        shipping.flush()

        assert told(theirs) == [span(1, ended_ns=5)]


async def test_what_begins_can_be_written_before_the_turn_ends_and_takes_ends_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(under_test, "HELD_S", 3600)
    async with line() as (shipping, theirs):
        shipping.ship(span(1, ended_ns=5))
        shipping.flush_begun()
        assert told(theirs) == []

        shipping.ship(span(2))
        shipping.flush_begun()

        assert told(theirs) == [span(1, ended_ns=5), span(2)]


async def test_a_span_that_cannot_be_written_takes_no_other_with_it() -> None:
    async with line() as (shipping, theirs):
        shipping.ship(msgspec.structs.replace(span(1), attributes={"half": "\udcff"}))
        shipping.ship(span(2))
        with capture_logs() as logs:
            shipping.flush_begun()

        assert told(theirs) == [span(2)]
        assert [(log["event"], log["span"]) for log in logs] == [
            ("a span is left out", "process X")
        ]

        shipping.ship(span(3))
        shipping.flush_begun()
        assert told(theirs) == [span(3)]


async def test_an_end_is_held_although_what_began_was_written_within_the_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(under_test, "HELD_S", 3600)
    async with line() as (shipping, theirs):
        shipping.ship(span(1))
        shipping.flush_begun()
        shipping.ship(span(1, ended_ns=5))
        await asyncio.sleep(0)

        assert told(theirs) == [span(1)]


@pytest.mark.parametrize(
    ("broker", "count"), [("", 1), ("postgresql://nowhere/b", 2), ("amqp://nowhere", 2)]
)
def test_spans_go_before_whatever_is_written_to_a_broker_or_a_database(
    broker: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []

    def note(_transport: RabbitTransport, call: Callable[[], None]) -> None:
        told.append(call)

    def flush() -> None:
        """Called by nobody here."""

    def opened(url: str, *, before_use: Callable[[], None], **_: object) -> Database:
        told.append(before_use)
        return Database(url, "shop")

    monkeypatch.setattr(RabbitTransport, "call_before_write", note)
    monkeypatch.setattr("rolekit.wiring.parts.Database", opened)
    tracing = Tracing(
        Tracer(lambda _: None, Sampling(), role="Work", instance="Work/0"), system="rabbitmq"
    )
    tracing.flush = flush
    build(shop.plan(), 1, "postgresql://nowhere/a", broker, tracing=tracing)

    assert told == [flush] * count
