"""Apps whose handlers do something else on each run: keys, streams, batches."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit import Batch, Context, Hole, Message, Run, gather, handle
from tests.property.simulated_fate import RETRY, Fated, Side, Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

KEYS = ("ann", "bob", "cay")


class Ask(Message):
    """Becomes an order, by a step that may run again."""

    who: str
    n: int


class Order(Message):
    who: str
    n: int


class Bill(Message):
    who: str
    n: int


class Keyed(Fated):
    """What is done for one key after the other, and goes on to another step of that key."""

    partitions = 3
    pause_s = 0.2

    @classmethod
    def roots(cls) -> Sequence[Message]:
        draw = cls.fate.random
        makes = [draw.choice((Ask, Order, Order)) for _ in range(10)]
        return [make(who=draw.choice(KEYS), n=n) for n, make in enumerate(makes)]

    @handle(retry=RETRY)
    async def ask(self, ask: Ask) -> Order:
        self.fate.fail()
        return Order(who=ask.who, n=ask.n)

    async def serve(self, order: Order, ctx: Context[Side]) -> Bill | None:
        """Handle an order in its turn."""
        with self.fate.on_turn(order.who, ctx.id):
            await self.fate.enter(ctx)
            await self.count(ctx)
        return None if self.fate.happens(0.5) else Bill(who=order.who, n=order.n)

    async def charge(self, bill: Bill, ctx: Context[Side]) -> None:
        """Handle a bill in its turn."""
        with self.fate.on_turn(bill.who, ctx.id):
            await self.fate.enter(ctx)
            await self.count(ctx)

    async def count(self, ctx: Context[Side]) -> None:
        """Have an effect, and change what is kept of this key."""
        tally = await ctx.state(Tally)
        tally.sides += 1
        ctx.write("insert into served values ($1, $2, $3)", ctx.key, ctx.id, tally.sides)


class Keys(Keyed):
    dead = "replayed or dropped"

    @handle(key="who", retry=RETRY)
    async def place(self, order: Order, ctx: Context[Side]) -> Bill | None:
        return await self.serve(order, ctx)

    @handle(key="who", retry=RETRY)
    async def bill(self, bill: Bill, ctx: Context[Side]) -> None:
        await self.charge(bill, ctx)


class Passes(Keyed):
    @handle(key="who", retry=RETRY, on_dead="skip")
    async def place(self, order: Order, ctx: Context[Side]) -> Bill | None:
        return await self.serve(order, ctx)

    @handle(key="who", retry=RETRY, on_dead="skip")
    async def bill(self, bill: Bill, ctx: Context[Side]) -> None:
        await self.charge(bill, ctx)


class Tick(Message):
    n: int


class Tock(Message):
    n: int


class Drawn(Message):
    """What one run of a stream gave; `name` is that of the stream."""

    name: str
    offset: int
    ns: list[int]


class Streams(Fated):
    """What is sent into a stream, handled side by side, drawn in order, and painted so."""

    partitions = 2
    pause_s = 0.1
    dead = "replayed"

    @classmethod
    def roots(cls) -> Sequence[Message]:
        return [Tick(n=n) for n in range(12)]

    @handle(retry=RETRY)
    async def turn(self, tick: Tick, ctx: Context[Side]) -> Tock | None:
        await self.fate.enter(ctx)
        return None if self.fate.happens() else Tock(n=tick.n)

    @gather(retry=RETRY, size=3)
    async def draw(self, run: Run[Tock | Hole], ctx: Context[Side]) -> Drawn | None:
        await self.fate.gather(ctx, run)
        self.note(ctx, run)
        ns = [-1 if isinstance(each, Hole) else each.n for each in run]
        return Drawn(name=str(ctx.key), offset=run.offset, ns=ns) if run else None

    @handle(key="name", retry=RETRY)
    async def paint(self, drawn: Drawn, ctx: Context) -> None:
        self.fate.fail()
        ctx.write("insert into painted values ($1, $2)", drawn.offset, drawn.ns)


class Item(Message):
    n: int


class Batches(Fated):
    """What is handled together, and settled one by one."""

    pause_s = 0.03

    @classmethod
    def roots(cls) -> Sequence[Message]:
        return [Item(n=n) for n in range(12)]

    @handle(retry=RETRY, size=4, age_s=0.1)
    async def store(self, batch: Batch[Item], ctx: Context[Side]) -> list[Side | None]:
        at = await self.fate.enter(ctx)
        tally = await ctx.state(Tally, key="stored")
        given: list[Side | None] = []
        for index, id_ in enumerate(batch.ids):
            if self.fate.happens(self.fate.chance / 2):
                batch.retry(index, delay_s=0.1)
            elif self.fate.happens(self.fate.chance / 2):
                batch.reject(index, "drawn")
            else:
                tally.sides += 1
                ctx.write("insert into stored values ($1)", id_)
            given.append(None if self.fate.happens(0.7) else Side(sender=at, at=id_))
        ctx.write("insert into batches values ($1)", tuple(batch.ids))
        return given
