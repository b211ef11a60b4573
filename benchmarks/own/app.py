"""The app that is measured: typed messages, handler classes, nothing tuned.

Each case has a role of its own, so that an instance consumes what the case needs and no
more. `HITS` counts what arrived where a case ends.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

from rolekit import (
    App,
    Backoff,
    Context,
    Message,
    Reply,
    Run,
    State,
    WebRole,
    WorkerRole,
    field,
    gather,
    handle,
    web,
)

KEYS = 1000
PARTS = 1000
CULPRIT = -1

TABLE = "create table if not exists public.effect (number bigint not null check (number >= 0))"


class Hits:
    """What a case does when a message comes to its first stage, and to its end."""

    def __init__(self) -> None:
        self.start: Callable[[], None] = lambda: None
        self.hit: Callable[[], None] = lambda: None
        self.ages: list[float] = []


HITS = Hits()


class Noop(Message):
    """Handled, with nothing to record."""

    number: int
    fill: str


class First(Message):
    """Goes through a direct step."""

    number: int
    fill: str
    sent_s: float = 0


class Second(Message):
    """What a direct step gives."""

    number: int
    fill: str
    sent_s: float = 0


class Counted(Message):
    """Adds to the state of its key, and goes on."""

    number: int
    fill: str


class Stored(Message):
    """Writes a row, and goes on."""

    number: int
    fill: str


class Passed(Message):
    """What a recorded step gives."""

    number: int
    fill: str


class Entered(Message):
    """Adds to the state of its account, in the order in which it came."""

    number: int
    fill: str

    @property
    def account(self) -> int:
        """Its key."""
        return self.number % KEYS


class Kept(Message):
    """What a step of an account gives."""

    number: int
    fill: str


class Job(Message):
    """Split into parts."""

    parts: int


class Part(Message):
    """One part."""

    number: int
    fill: str


class Done(Message):
    """One part, handled."""

    number: int
    fill: str


class JobDone(Reply):
    """Every part came, in order."""

    parts: int


class Held(Message):
    """Split into parts that nobody handles here."""

    parts: int


class HeldPart(Message):
    """A part that stays where it is."""

    number: int


class HeldDone(Message):
    """What never comes."""

    number: int


class Question(Message):
    """Asked, and answered at once."""

    number: int
    fill: str


class Answer(Reply):
    """The answer."""

    number: int


class Tally(State):
    """How many messages a key had."""

    count: int = field(default=0)


class Sinks(WorkerRole):
    """Takes and does nothing."""

    @handle
    async def noop(self, message: Noop) -> None:
        """Do nothing."""
        del message
        HITS.hit()


class Stages(WorkerRole):
    """Two stages in a row: a direct step."""

    @handle
    async def first(self, message: First) -> Second:
        """Pass on."""
        HITS.start()
        return Second(number=message.number, fill=message.fill, sent_s=message.sent_s)

    @handle
    async def second(self, message: Second) -> None:
        """Take what the first stage gave."""
        if message.sent_s:
            HITS.ages.append(time.perf_counter() - message.sent_s)
        HITS.hit()


class Effects(WorkerRole):
    """Recorded steps: exactly once, with an effect each and an output."""

    @handle
    async def counted(self, message: Counted, ctx: Context) -> Passed:
        """Add to the state of 1 of 1,000 keys."""
        HITS.start()
        tally = await ctx.state(Tally, str(message.number % KEYS))
        tally.count += 1
        return Passed(number=message.number, fill=message.fill)

    @handle(retry=Backoff(attempts=1))
    async def stored(self, message: Stored, ctx: Context) -> Passed:
        """Write one row; the row of a culprit is refused by the database."""
        HITS.start()
        ctx.write("insert into public.effect (number) values ($1)", message.number)
        return Passed(number=message.number, fill=message.fill)

    @handle
    async def passed(self, message: Passed) -> None:
        """Take what a recorded step gave."""
        del message
        HITS.hit()


class Ledger(WorkerRole):
    """The same as `Effects`, one after another for each of 1,000 keys."""

    @handle(key="account")
    async def entered(self, message: Entered, ctx: Context) -> Kept:
        """Add to the state of the key."""
        HITS.start()
        tally = await ctx.state(Tally)
        tally.count += 1
        return Kept(number=message.number, fill=message.fill)

    @handle
    async def kept(self, message: Kept) -> None:
        """Take what a step of a key gave."""
        del message
        HITS.hit()


class Sequences(WorkerRole):
    """Splits a job, handles the parts, and takes them in order."""

    @handle
    async def split(self, job: Job) -> AsyncIterator[Part]:
        """Split."""
        for number in range(job.parts):
            yield Part(number=number, fill="x" * 230)

    @handle
    async def work(self, part: Part) -> Done:
        """Handle a part."""
        return Done(number=part.number, fill=part.fill)

    @gather(size=PARTS)
    async def collect(self, job: Job, run: Run[Done]) -> JobDone | None:
        """Take the parts in order."""
        assert [part.number for part in run] == list(range(run.offset, run.offset + len(run)))
        return JobDone(parts=job.parts) if run.is_last else None


class Openers(WorkerRole):
    """Opens sequences that stay open, because no `Holders` run."""

    @handle
    async def hold(self, job: Held) -> AsyncIterator[HeldPart]:
        """Split."""
        for number in range(job.parts):
            yield HeldPart(number=number)

    @gather
    async def wait(self, job: Held, run: Run[HeldDone]) -> None:
        """Take what never comes."""


class Holders(WorkerRole):
    """Would handle the parts."""

    @handle
    async def held(self, part: HeldPart) -> HeldDone:
        """Handle a part."""
        return HeldDone(number=part.number)


class Answers(WorkerRole):
    """Answers questions."""

    @handle
    async def answer(self, question: Question) -> Answer:
        """Answer."""
        return Answer(number=question.number)


class Front(WebRole):
    """Takes questions over HTTP."""

    @web.post("/questions")
    async def ask(self, question: Question) -> Answer:
        """Send the question, and wait for its answer."""
        return await self.client.ask(question, Answer)


ROLES = (Sinks, Stages, Effects, Ledger, Sequences, Openers, Holders, Answers, Front)
app = App("bench", roles=list(ROLES))
twin = App("bench-twin", roles=list(ROLES))
"""The same once more, for what is compared with itself in one process."""
