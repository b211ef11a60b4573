"""Small apps in the manner of users, for the tests of `run_app`."""

from __future__ import annotations

from collections.abc import AsyncIterator

from rolekit import (
    App,
    Backoff,
    Blob,
    Client,
    Context,
    Hole,
    Message,
    Receipt,
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

DAY_S = 86_400


# -- a newsletter: a split in a split, two gathers, live results ------------------------------


class Issue(Message):
    """One issue, for many readers."""

    readers: list[str]
    text: Blob


class Letter(Message):
    """A copy for one reader."""

    reader: str
    text: Blob


class Line(Message):
    """One line of a letter."""

    text: str


class Checked(Message):
    """A line, checked."""

    clean: bool


class Posting(Message):
    """A letter that may go out."""

    reader: str


class Posted(Message):
    """It went out."""

    reader: str


class Refused(Message):
    """It did not."""

    reader: str
    why: str


class Progress(Reply):
    """So far."""

    done: int
    of: int


class Summary(Reply):
    """In the end."""

    lines: list[str]


class Notes(State):
    """What the summary will say."""

    lines: list[str] = field(default_factory=list)


class Copier(WorkerRole):
    """Splits an issue."""

    @handle
    async def copy(self, issue: Issue) -> AsyncIterator[Letter]:
        for reader in issue.readers:
            yield Letter(reader=reader, text=issue.text)


class Censor(WorkerRole):
    """Splits a letter, and joins what was said about its lines."""

    @handle
    async def lines(self, letter: Letter, ctx: Context) -> AsyncIterator[Line]:
        for line in (await ctx.load(letter.text)).decode().splitlines():
            yield Line(text=f"{line} ({letter.reader})")

    @handle
    async def check(self, line: Line) -> Checked:
        return Checked(clean="damn" not in line.text)

    @gather
    async def judge(self, letter: Letter, lines: list[Checked]) -> Posting | Refused:
        if all(line.clean for line in lines):
            return Posting(reader=letter.reader)
        return Refused(reader=letter.reader, why="language")


class Post(WorkerRole):
    """Delivers."""

    domain: str = "here"

    @handle(retry=Backoff(attempts=3, first_s=60))
    async def post(self, posting: Posting, ctx: Context) -> Posted | Refused:
        if posting.reader.startswith("late") and ctx.attempt < 3:
            raise ConnectionError("no answer")
        if posting.reader.startswith("never"):
            raise ConnectionError("no answer")
        if not posting.reader.endswith("@" + self.domain):
            return Refused(reader=posting.reader, why="elsewhere")
        ctx.write("insert into box (reader) values ($1)", posting.reader)
        return Posted(reader=posting.reader)


class Reporter(WorkerRole):
    """Tells, in order, as it goes."""

    @gather(deadline_s=3600)
    async def report(
        self, issue: Issue, run: Run[Posted | Refused | Hole], ctx: Context
    ) -> AsyncIterator[Progress | Summary]:
        notes = await ctx.state(Notes)
        for part in run:
            match part:
                case Posted():
                    notes.lines.append(f"{part.reader}: posted")
                case Refused():
                    notes.lines.append(f"{part.reader}: {part.why}")
                case Hole():
                    notes.lines.append(f"lost: {part.reason}")
        yield Progress(done=len(notes.lines), of=len(issue.readers))
        if run.is_last:
            yield Summary(lines=notes.lines)


class NewsFront(WebRole):
    """The way in."""

    @web.post("/issues", status=202)
    async def publish(self, issue: Issue) -> Receipt:
        return await self.client.send(issue)

    @web.get("/issues/{id}/live")
    def live(self, id: str) -> AsyncIterator[Progress | Summary]:  # noqa: A002 - in the path
        return self.client.follow(id, Progress, until=Summary)


news = App("news", roles=[NewsFront, Copier, Censor, Post, Reporter])


# -- a shop: delays, effects, a transaction, a question ---------------------------------------


class Place(Message):
    """An order."""

    order: str


class Charge(Message):
    """Take the money."""

    order: str


class Nudge(Message):
    """Remind of an order that was not paid."""

    order: str


class PriceOf(Message):
    """A question."""

    sku: str


class Price(Reply):
    """An answer."""

    cents: int


class NoPrice(Reply):
    """Another."""

    why: str


class Orders(WorkerRole):
    """Takes orders, and reminds of them a day later."""

    @handle
    async def place(self, order: Place, ctx: Context[Nudge]) -> Charge:
        ctx.write("insert into orders (id) values ($1)", order.order)
        ctx.send(Nudge(order=order.order), delay_s=DAY_S)
        return Charge(order=order.order)

    @handle
    async def nudge(self, nudge: Nudge, ctx: Context) -> None:
        tx = await ctx.tx()
        if await tx.fetch_one(int, "select 1 from orders where id = $1", nudge.order):
            await tx.execute("insert into reminders (id) values ($1)", nudge.order)


class Payments(WorkerRole):
    """Charges; needs a key."""

    api_key: str

    @handle
    async def charge(self, charge: Charge, ctx: Context) -> None:
        ctx.write("update orders set paid_with = $2 where id = $1", charge.order, self.api_key)


class Pricer(WorkerRole):
    """Answers."""

    @handle
    async def price(self, question: PriceOf) -> Price | NoPrice:
        if question.sku == "broken":
            raise ValueError("no such shelf")
        return Price(cents=995) if question.sku else NoPrice(why="no sku")


class ShopFront(WebRole):
    """The way in."""

    @web.get("/price/{sku}")
    async def price(self, sku: str) -> Price | NoPrice:
        return await self.client.ask(PriceOf(sku=sku), Price, NoPrice, timeout_s=5)


shop = App("shop", roles=[ShopFront, Orders, Payments, Pricer], retry=Backoff(attempts=1))


# -- one whose roles end by themselves, or wait for ever --------------------------------------


class Tick(Message):
    """Sent by a role of its own accord."""

    n: int


class Clockwork(WorkerRole):
    """Sends three ticks, then fails."""

    async def run(self, client: Client) -> None:
        for n in range(3):
            await client.send(Tick(n=n))
        raise OSError("the spring is broken")


class Listener(WorkerRole):
    """Hears them."""

    @handle
    async def hear(self, tick: Tick) -> None: ...


clockwork = App("clockwork", roles=[Clockwork, Listener])
