"""Splits of any length, gathered in order and in any order; both say what they were handed."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from collections.abc import AsyncIterator

from rolekit import App, Context, Message, Reply, Run, State, WorkerRole, gather, handle


class Ordered(Message):
    parts: int


class Heaped(Message):
    parts: int


class Part(Message):
    n: int
    text: str = "x" * 200


class Made(Message):
    n: int
    text: str


class Grain(Message):
    n: int
    text: str = "x" * 200


class Ground(Message):
    n: int
    text: str


class Told(Reply):
    parts: int
    total: int
    is_in_order: bool


class Sum(State):
    parts: int = 0
    total: int = 0
    is_in_order: bool = True


class Splitting(WorkerRole):
    @handle
    async def split(self, ordered: Ordered) -> AsyncIterator[Part]:
        for n in range(ordered.parts):
            yield Part(n=n)

    @handle
    async def heap(self, heaped: Heaped) -> AsyncIterator[Grain]:
        for n in range(heaped.parts):
            yield Grain(n=n)


class Working(WorkerRole):
    @handle
    async def make(self, part: Part) -> Made:
        return Made(n=part.n, text=part.text)

    @handle
    async def grind(self, grain: Grain) -> Ground:
        return Ground(n=grain.n, text=grain.text)


class Gathering(WorkerRole):
    @gather
    async def collect(self, ordered: Ordered, run: Run[Made], ctx: Context) -> Told | None:
        total = await ctx.state(Sum)
        expected = range(run.offset, run.offset + len(run))
        total.is_in_order = total.is_in_order and [made.n for made in run] == [*expected]
        return told(total, run)

    @gather(ordered=False)
    async def count(self, heaped: Heaped, run: Run[Ground], ctx: Context) -> Told | None:
        return told(await ctx.state(Sum), run)


def told(total: Sum, run: Run[Made] | Run[Ground]) -> Told | None:
    total.parts += len(run)
    total.total += sum(each.n for each in run)
    if not run.is_last:
        return None
    return Told(parts=total.parts, total=total.total, is_in_order=total.is_in_order)


app = App("long", roles=[Splitting, Working, Gathering])
