"""Program 3: one guest at a time, a call to the outside, compensation, a reminder."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import httpx

from rolekit import (
    App,
    Backoff,
    Circuit,
    Context,
    DeadLetter,
    Message,
    Rate,
    Reply,
    Retry,
    Secret,
    State,
    WebRole,
    WorkerRole,
    handle,
    web,
)


class Reserve(Message):
    booking_id: str
    visitor_id: str
    cents: int


class Debit(Message):
    booking_id: str
    visitor_id: str
    cents: int


class Debited(Message):
    booking_id: str
    visitor_id: str


class Declined(Message):
    booking_id: str
    visitor_id: str
    cents: int
    why: str


class Remind(Message):
    booking_id: str
    visitor_id: str


class Confirmed(Reply):
    booking_id: str


class Refused(Reply):
    booking_id: str
    why: str


class Owed(State):
    open_cents: int = 0


class BankReply(Message):
    status: int
    retry_after_s: float = 0


class Bookings(WorkerRole):
    instances = 4

    @handle(key="visitor_id")
    async def reserve(self, wish: Reserve, ctx: Context[Remind]) -> Debit | Refused:
        owed = await ctx.state(Owed)
        if owed.open_cents + wish.cents > 100_000:
            return Refused(booking_id=wish.booking_id, why="credit limit")
        owed.open_cents += wish.cents
        ctx.write(
            "insert into bookings (id, visitor, cents) values ($1, $2, $3)",
            wish.booking_id,
            wish.visitor_id,
            wish.cents,
        )
        ctx.send(Remind(booking_id=wish.booking_id, visitor_id=wish.visitor_id), delay_s=86_400)
        return Debit(booking_id=wish.booking_id, visitor_id=wish.visitor_id, cents=wish.cents)

    @handle(key="visitor_id", on_dead="skip")
    async def paid(self, paid: Debited, ctx: Context) -> Confirmed:
        ctx.write("update bookings set state = 'paid' where id = $1", paid.booking_id)
        return Confirmed(booking_id=paid.booking_id)

    @handle(key=("visitor_id",))
    async def undo(self, cause: Declined | DeadLetter[Debit], ctx: Context) -> Refused:
        debit = cause.message if isinstance(cause, DeadLetter) else cause
        (await ctx.state(Owed)).open_cents -= debit.cents
        ctx.write("update bookings set state = 'cancelled' where id = $1", debit.booking_id)
        return Refused(booking_id=debit.booking_id, why="payment")

    @handle(key="visitor_id")
    async def remind(self, remind: Remind, ctx: Context) -> None:
        tx = await ctx.tx()
        if await tx.fetch_one(
            int,
            "select 1 from bookings where id = $1 and state = 'new' for update",
            remind.booking_id,
        ):
            await tx.execute("insert into reminders (id) values ($1)", remind.booking_id)


class Bank(WorkerRole):
    concurrency = 50
    api_key: Secret
    http: httpx.AsyncClient

    async def on_start(self) -> None:
        self.http = await self.enter(httpx.AsyncClient(base_url="https://bank.example"))

    @handle(
        rate=Rate(50, per_s=1),
        circuit=Circuit(),
        timeout_s=20,
        retry=[Backoff(on=httpx.TransportError, attempts=12, max_s=300), Backoff(attempts=1)],
    )
    async def debit(self, debit: Debit, ctx: Context) -> Debited | Declined:
        answer = await ctx.once("debit", BankReply, self._pay, debit.cents, key=ctx.id)
        if answer.status == 402:
            return Declined(
                booking_id=debit.booking_id,
                visitor_id=debit.visitor_id,
                cents=debit.cents,
                why="card",
            )
        return Debited(booking_id=debit.booking_id, visitor_id=debit.visitor_id)

    async def _pay(self, cents: int, *, key: str) -> BankReply:
        headers = {"Idempotency-Key": key, "Authorization": f"Bearer {self.api_key}"}
        answer = await self.http.post("/debit", json={"cents": cents}, headers=headers)
        if answer.status_code == 429:
            delay_s = float(answer.headers.get("Retry-After", "5"))
            raise Retry("the bank is busy", delay_s=delay_s, counts=False)
        return BankReply(status=answer.status_code)


class Reception(WebRole):
    @web.post("/bookings")
    async def book(self, wish: Reserve) -> Confirmed | Refused:
        return await self.client.ask(wish, Confirmed, Refused, timeout_s=20)


app = App("bookings", roles=[Reception, Bookings, Bank])
