"""A role of two stages, whose spans are kept here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit import Context, Message, Reject, WorkerRole, handle
from rolekit.flow.tracing import Tracing
from rolekit.observe.tracing import Sampling, Tracer
from tests.unit.fakes_flow import Line, working

if TYPE_CHECKING:
    from collections.abc import Callable

    from rolekit.model.span import Span


class Ask(Message):
    """Starts it."""

    n: int


class Told(Message):
    """Goes on."""

    n: int


class Talks(WorkerRole):
    """Two stages; notes what each saw in its headers."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        self.on_ask: Callable[[], None] = lambda: None

    @handle
    async def ask(self, ask: Ask, ctx: Context) -> Told:
        self.headers.append(dict(ctx.headers))
        self.on_ask()
        if ask.n < 0:
            raise Reject("below zero")
        return Told(n=ask.n)

    @handle
    async def told(self, told: Told, ctx: Context) -> None:
        self.headers.append(dict(ctx.headers))


class Kept:
    """The spans that a process shipped, as they ended."""

    def __init__(self) -> None:
        self.began: list[Span] = []
        self.spans: list[Span] = []

    def ship(self, span: Span) -> None:
        (self.spans if span.ended_ns else self.began).append(span)

    def tracing(self, ratio: float, *, first_per_s: int = 0) -> Tracing:
        sampling = Sampling(ratio=ratio, first_per_s=first_per_s)
        tracer = Tracer(self.ship, sampling, role="Talks", instance="Talks/0")
        return Tracing(tracer, system="memory")

    def named(self, name: str) -> Span:
        (found,) = [span for span in self.spans if span.name == name]
        return found


async def through(line: Line[Talks], n: int, headers: dict[str, str] | None = None) -> None:
    """Send one message, and wait until it is through."""
    async with working(line):
        await line.client.send(Ask(n=n), headers=headers)
        await line.idle()
