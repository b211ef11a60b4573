"""An app whose handlers do something else on each run, and note what they did."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import ClassVar

import rolekit
from rolekit import (
    App,
    Backoff,
    Context,
    Hole,
    Message,
    Reply,
    Run,
    State,
    WorkerRole,
    gather,
    handle,
)

RETRY = Backoff(attempts=3, first_s=0.2, max_s=1)


class Start(Message):
    name: str
    at: str


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


class Side(Message):
    sender: str
    at: str


class Over(Reply):
    name: str
    at: str


class Tally(State):
    sides: int = 0


Given = tuple[tuple[object, ...], int, bool]
"""Parts, how many were dropped, whether none follow."""


@dataclass
class Fate:
    """Draws what happens next, and keeps what handlers did.

    Attributes:
        chance: Of a fault, for each thing that can fail.
        splits: How many pieces each run of the split yielded to its end.
        runs: How many times any handler was called.
        given: What a gather was called with under each id.
        changed: Ids under which it was called with something else later.
    """

    seed: int
    chance: float = 0.1
    splits: dict[str, int] = field(default_factory=dict[str, int])
    runs: int = 0
    given: dict[str, Given] = field(default_factory=dict[str, "Given"])
    changed: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311 - what is drawn is no secret

    def happens(self, chance: float | None = None) -> bool:
        """Draw whether it does."""
        return self.random.random() < (self.chance if chance is None else chance)

    async def enter(self, ctx: Context[Side]) -> str:
        """Begin a run of a handler: take some time, send something, fail; return its name."""
        self.runs += 1
        name = f"{self.runs}@{asyncio.get_running_loop().time():.4f}"
        if self.happens(0.3):
            await asyncio.sleep(self.random.random() * 0.3)
        for _ in range(self.random.choice((0, 0, 0, 1, 2))):
            ctx.send(Side(sender=name, at=name), delay_s=self.random.choice((0, 0, 0.3)))
        self.fail()
        return name

    async def gather(self, ctx: Context[Side], run: Run[Leaf] | Run[Leaf | Hole]) -> str:
        """Begin a run of a gather, whatever becomes of it; return its name."""
        given = (tuple(run), run.dropped, run.is_last)
        if self.given.setdefault(ctx.id, given) != given:
            self.changed.append(ctx.id)
        return await self.enter(ctx)

    def fail(self) -> None:
        """Fail in one of the ways a handler can."""
        if self.happens():
            # A new one each time: an error that is raised again keeps all it went through.
            failure = self.random.choice(FAILURES)
            raise failure()


FAILURES: tuple[Callable[[], Exception], ...] = (
    lambda: ValueError("drawn"),
    lambda: rolekit.Retry("drawn"),
    lambda: rolekit.Retry("drawn", delay_s=0.1, counts=False),
    lambda: rolekit.Reject("drawn"),
)


class Fated(WorkerRole):
    """What all the apps below have in common."""

    fate: ClassVar[Fate]

    @handle(retry=RETRY)
    async def aside(self, side: Side, ctx: Context) -> None:
        tally = await ctx.state(Tally, key="all")
        tally.sides += 1
        self.fate.fail()
        ctx.write("insert into side values ($1)", ctx.id)

    def note(self, ctx: Context[Side], run: Run[Leaf] | Run[Leaf | Hole]) -> None:
        """Write down what was released; the store keeps it only with the commit."""
        ctx.write(
            "insert into released values ($1, $2, $3, $4, $5)",
            *(ctx.key, run.offset, tuple(run), run.dropped, run.is_last),
        )


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
    role.__name__: role for role in (Holes, Skips, Waits, Lists, Nests)
}
APPS = {name: App(name, roles=[role]) for name, role in ROLES.items()}
