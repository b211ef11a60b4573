"""An app that changes rows and sends on, for a test that watches what grows."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from rolekit import App, Context, Message, State, WorkerRole, handle

KEYS = 1000


class Take(Message):
    number: int


class Taken(Message):
    number: int


class Seen(State):
    times: int = 0


class Taking(WorkerRole):
    """Changes one row and one state of 1,000 for each message, and sends one on."""

    @handle
    async def take(self, message: Take, ctx: Context) -> Taken:
        seen = await ctx.state(Seen, key=str(message.number % KEYS))
        seen.times += 1
        ctx.write(
            "update public.counter set times = times + 1 where key = $1",
            message.number % KEYS,
            expect=1,
        )
        return Taken(number=message.number)


class Ending(WorkerRole):
    @handle
    async def end(self, message: Taken, ctx: Context) -> None:
        ctx.write(
            "update public.total set times = times + 1 where id = $1", message.number % 64
        )


app = App("steady", roles=[Taking, Ending])
