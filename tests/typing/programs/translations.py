"""Program 4: a batch of calls to a busy service, loaded in order, driven by a script."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from collections.abc import AsyncIterator

from rolekit import (
    App,
    Backoff,
    Blob,
    Context,
    Hole,
    Message,
    Rate,
    Reply,
    Retry,
    Run,
    WorkerRole,
    gather,
    handle,
)
from tests.typing.programs.standins import TooManyRequests, Translator, Warehouse


class Book(Message):
    table: str
    lines: Blob


class Line(Message):
    row: int
    text: str

    @property
    def tokens(self) -> int:
        return len(self.text) // 3


class Translated(Message):
    row: int
    text: str


class Loaded(Reply):
    rows: int


class Reader(WorkerRole):
    @handle(timeout_s=900)
    async def lines(self, book: Book, ctx: Context) -> AsyncIterator[Line]:
        for row, line in enumerate((await ctx.load(book.lines)).splitlines()):
            yield Line(row=row, text=line.decode())


class Interpreter(WorkerRole):
    instances = 2
    concurrency = 200
    service: Translator

    async def on_start(self) -> None:
        self.service = await self.enter(Translator())

    @handle(
        record=True,
        timeout_s=120,
        rate=[
            Rate(500, per_s=60, name="calls"),
            Rate(200_000, per_s=60, cost="tokens", name="tokens"),
        ],
        retry=Backoff(attempts=6, first_s=5),
    )
    async def translate(self, line: Line) -> Translated:
        try:
            return Translated(row=line.row, text=await self.service.complete(line.text))
        except TooManyRequests as busy:
            raise Retry("busy", delay_s=busy.retry_after_s, counts=False) from busy


class Binder(WorkerRole):
    warehouse: Warehouse

    async def on_start(self) -> None:
        self.warehouse = await self.enter(Warehouse())

    @gather(size=500, age_s=5)
    async def load(self, book: Book, run: Run[Translated | Hole]) -> Loaded | None:
        rows = [(part.row, part.text) for part in run if isinstance(part, Translated)]
        await self.warehouse.load(book.table, rows, job_id=run.id)
        return Loaded(rows=run.offset + len(run)) if run.is_last else None


app = App("translations", roles=[Reader, Interpreter, Binder])


async def start(lines: bytes) -> list[int]:
    """Send one book, and wait until it is loaded."""
    async with app.client() as client:
        book = Book(table="poems", lines=await client.save(lines))
        receipt = await client.send(book, idempotency_key="2026-08-22")
        return [done.rows async for done in client.follow(receipt, until=Loaded)]
