"""Program 6: an existing FastAPI application asks a worker."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI

from rolekit import App, Client, Message, Reply, WebRole, WorkerRole, handle, web
from tests.typing.programs.standins import pool


class RateQuestion(Message):
    currency: str


class ExchangeRate(Reply):
    cents: int


class NoRate(Reply):
    why: str


class Exchange(WorkerRole):
    @handle
    async def rate(self, question: RateQuestion) -> ExchangeRate | NoRate:
        return ExchangeRate(cents=995) if question.currency else NoRate(why="no currency")


api = FastAPI()


@api.get("/rates/{currency}")
async def rate(currency: str, client: Annotated[Client, Depends(web.client)]) -> dict[str, int]:
    answer = await client.ask(
        RateQuestion(currency=currency), ExchangeRate, NoRate, timeout_s=2
    )
    match answer:
        case ExchangeRate():
            return {"cents": answer.cents}
        case NoRate():
            return {"cents": 0}


@api.post("/purchases")
async def purchase(
    currency: str, client: Annotated[Client, Depends(web.client)]
) -> dict[str, str]:
    async with pool.acquire() as db, db.transaction():
        await db.execute("insert into purchases (currency) values ($1)", currency)
        receipt = await client.send(RateQuestion(currency=currency), via=db)
    return {"id": receipt.id}


class Counter(WebRole):
    bind = "0.0.0.0:8000"
    instances = 2
    mounts = {"/": api}  # noqa: RUF012 - the base declares it a ClassVar


app = App("rates", roles=[Counter, Exchange])
