"""Apps whose handlers do something else on each run: sequences, and what splits them."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from collections.abc import AsyncIterator

from rolekit import App, Context, Hole, Message, Retry, Run, gather, handle
from tests.property.simulated_fate import RETRY, Fated, Over, Side, Start
from tests.property.simulated_lines import Batches, Keys, Passes, Streams

LONG_S = 70
"""So late are parts that come late."""


class Piece(Message):
    """`run` names the one run of the split that yielded it."""

    run: str
    i: int
    at: str


class Chunk(Message):
    run: str
    i: int
    at: str


class Raw(Message):
    run: str
    i: int
    deep: str
    j: int
    at: str


class Leaf(Message):
    run: str
    i: int
    deep: str
    j: int
    at: str


class Work(Fated):
    """Splits in a split, all of one sequence."""

    @handle(retry=RETRY)
    async def split(self, start: Start, ctx: Context[Side]) -> AsyncIterator[Piece]:
        run = await self.fate.enter(ctx)
        count = self.fate.random.choice((0, 1, 2, 3, 6))
        for i in range(count):
            yield Piece(run=run, i=i, at=run)
            if self.fate.happens(0.3):
                self.fate.fail()
        self.fate.splits[run] = count

    @handle(retry=RETRY)
    async def turn(self, piece: Piece, ctx: Context[Side]) -> Chunk | None:
        at = await self.fate.enter(ctx)
        return None if self.fate.happens() else Chunk(run=piece.run, i=piece.i, at=at)

    @handle(retry=RETRY)
    async def deepen(self, chunk: Chunk, ctx: Context[Side]) -> AsyncIterator[Raw | Leaf]:
        deep = await self.fate.enter(ctx)
        for j in range(self.fate.random.choice((0, 1, 1, 2, 4))):
            made = Raw if self.fate.happens(0.5) else Leaf
            yield made(run=chunk.run, i=chunk.i, deep=deep, j=j, at=deep)

    @handle(retry=RETRY)
    async def polish(self, raw: Raw, ctx: Context[Side]) -> Leaf | None:
        at = await self.fate.enter(ctx)
        if self.fate.happens():
            return None
        return Leaf(run=raw.run, i=raw.i, deep=raw.deep, j=raw.j, at=at)


class Holes(Work):
    @gather(retry=RETRY, deadline_s=10_000, size=3)
    async def collect(
        self, start: Start, run: Run[Leaf | Hole], ctx: Context[Side]
    ) -> AsyncIterator[Over]:
        at = await self.fate.gather(ctx, run)
        self.note(ctx, run)
        if run.is_last:
            yield Over(name=start.name, at=at)


class Skips(Work):
    @gather(retry=RETRY, on_dead="skip", size=2)
    async def collect(
        self, start: Start, run: Run[Leaf], ctx: Context[Side]
    ) -> AsyncIterator[Over]:
        at = await self.fate.gather(ctx, run)
        self.note(ctx, run)
        if run.is_last:
            yield Over(name=start.name, at=at)


class Waits(Work):
    dead = "replayed"

    @gather(retry=RETRY)
    async def collect(
        self, start: Start, run: Run[Leaf], ctx: Context[Side]
    ) -> AsyncIterator[Over]:
        at = await self.fate.gather(ctx, run)
        self.note(ctx, run)
        if run.is_last:
            yield Over(name=start.name, at=at)


class Lists(Work):
    @gather(retry=RETRY, on_dead="skip")
    async def collect(self, start: Start, leaves: list[Leaf], ctx: Context[Side]) -> Over:
        run = Run(leaves, is_last=True)
        at = await self.fate.gather(ctx, run)
        self.note(ctx, run)
        return Over(name=start.name, at=at)


class Late(Work):
    """Some parts come long after the deadline of their sequence."""

    ends_s = 4

    @handle(retry=RETRY)
    async def polish(self, raw: Raw, ctx: Context[Side]) -> Leaf | None:
        if ctx.attempt == 1 and self.fate.happens(0.2):
            raise Retry("drawn: it comes late", delay_s=LONG_S, counts=False)
        return await super().polish(raw, ctx)

    @gather(retry=RETRY, deadline_s=ends_s, size=3)
    async def collect(
        self, start: Start, run: Run[Leaf | Hole], ctx: Context[Side]
    ) -> AsyncIterator[Over]:
        at = await self.fate.gather(ctx, run)
        self.note(ctx, run)
        if run.is_last:
            yield Over(name=start.name, at=at)


class Nests(Fated):
    """A sequence in each position of another: what the inner gather gives goes to the outer."""

    @handle(retry=RETRY)
    async def split(self, start: Start, ctx: Context[Side]) -> AsyncIterator[Piece]:
        run = await self.fate.enter(ctx)
        count = self.fate.random.choice((0, 1, 3))
        for i in range(count):
            yield Piece(run=run, i=i, at=run)
        self.fate.splits[run] = count

    @handle(retry=RETRY)
    async def deepen(self, piece: Piece, ctx: Context[Side]) -> AsyncIterator[Raw]:
        deep = await self.fate.enter(ctx)
        for j in range(self.fate.random.choice((0, 1, 3, 5))):
            yield Raw(run=piece.run, i=piece.i, deep=deep, j=j, at=deep)

    @gather(retry=RETRY, on_dead="skip", size=2)
    async def join(
        self, piece: Piece, run: Run[Raw], ctx: Context[Side]
    ) -> AsyncIterator[Leaf]:
        at = await self.fate.enter(ctx)
        kept = [raw for raw in run if not self.fate.happens(0.3)]
        for raw in kept:
            yield Leaf(run=raw.run, i=raw.i, deep=raw.deep, j=raw.j, at=at)

    @gather(retry=RETRY, size=3)
    async def collect(
        self, start: Start, run: Run[Leaf | Hole], ctx: Context[Side]
    ) -> AsyncIterator[Over]:
        at = await self.fate.gather(ctx, run)
        self.note(ctx, run)
        if run.is_last:
            yield Over(name=start.name, at=at)


ROLES: dict[str, type[Fated]] = {
    role.__name__: role
    for role in (Holes, Skips, Waits, Lists, Late, Nests, Keys, Passes, Streams, Batches)
}
APPS = {name: App(name, roles=[role]) for name, role in ROLES.items()}
