"""An app with keys, whose handlers fail as they are told."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import asyncio

from rolekit import App, Backoff, Context, Message, Reject, Reply, State, WorkerRole, handle


class Put(Message):
    who: str
    n: int


class Take(Message):
    who: str
    n: int


class Skip(Message):
    who: str
    n: int


class Sum(Reply):
    total: int


class Ask(Message):
    who: str


class Total(State):
    total: int = 0


class Faults:
    """What goes wrong, and what was handled in which order."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []
        self.running: dict[str, int] = {}
        self.most = 0
        self.most_of_one = 0
        self.failing: dict[tuple[str, int], int] = {}
        self.rejected: set[tuple[str, int]] = set()
        self.gate: asyncio.Event | None = None

    async def meet(self, who: str, n: int) -> None:
        """Fail, wait or go on."""
        self.running[who] = self.running.get(who, 0) + 1
        self.most = max(self.most, sum(self.running.values()))
        self.most_of_one = max(self.most_of_one, self.running[who])
        try:
            await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
            if (who, n) in self.rejected:
                raise Reject("as told")
            if self.failing.get((who, n), 0):
                self.failing[who, n] -= 1
                raise ValueError("as told")
            self.done.append((who, n))
        finally:
            self.running[who] -= 1

    def of(self, who: str) -> list[int]:
        """Say what was handled for one key, in order."""
        return [n for name, n in self.done if name == who]


faults = Faults()


class Accounts(WorkerRole):
    partitions = 4
    concurrency = 8

    @handle(key="who", retry=Backoff(attempts=3, first_s=10, factor=1))
    async def put(self, put: Put, ctx: Context) -> None:
        assert ctx.key == put.who
        await faults.meet(put.who, put.n)
        (await ctx.state(Total)).total += put.n
        ctx.write("insert into done (who, n) values ($1, $2)", put.who, put.n)

    @handle(key="who", on_dead="skip", retry=Backoff(attempts=2, first_s=10, factor=1))
    async def skip(self, skip: Skip, ctx: Context) -> None:
        await faults.meet(skip.who, skip.n)
        ctx.write("insert into done (who, n) values ($1, $2)", skip.who, skip.n)

    @handle(key="who")
    async def take(self, take: Take) -> None:
        await faults.meet(take.who, take.n)

    @handle(key="who")
    async def ask(self, ask: Ask, ctx: Context) -> Sum:
        return Sum(total=(await ctx.state(Total)).total)


bank = App("bank", roles=[Accounts])
