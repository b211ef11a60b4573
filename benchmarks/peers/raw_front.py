"""aiohttp and aio-pika by hand: each request a message, its answer through a reply queue."""

from __future__ import annotations

import asyncio
import json
import time

import aio_pika
from aiohttp import web

from benchmarks import meter
from benchmarks.http_load import Asker
from benchmarks.peers.raw_aio_pika import FIRST, Raw, message


class Front:
    """Takes questions over HTTP, and waits for their answers by correlation id."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self.waiting: dict[str | None, asyncio.Future[bytes]] = {}
        self.replies = ""

    async def open(self) -> int:
        """Consume questions and answers; return the port."""
        replies = await self.raw.channel.declare_queue(exclusive=True)
        self.replies = replies.name
        await replies.consume(self._take, no_ack=True)
        await self.raw.first.consume(self._answer)
        app = web.Application()
        app.router.add_post("/questions", self._ask)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port: int = runner.addresses[0][1]
        return port

    async def _ask(self, request: web.Request) -> web.Response:
        question = message((await request.json())["number"])
        question.correlation_id, question.reply_to = question.message_id, self.replies
        future = self.waiting[question.correlation_id] = asyncio.Future()
        await self.raw.exchange.publish(question, routing_key=FIRST)
        return web.json_response(json.loads(await future))

    async def _answer(self, arrived: aio_pika.abc.AbstractIncomingMessage) -> None:
        said = aio_pika.Message(
            json.dumps({"number": json.loads(arrived.body)["number"]}).encode(),
            correlation_id=arrived.correlation_id,
        )
        await self.raw.exchange.publish(said, routing_key=str(arrived.reply_to))
        await arrived.ack()

    async def _take(self, arrived: aio_pika.abc.AbstractIncomingMessage) -> None:
        self.waiting.pop(arrived.correlation_id).set_result(arrived.body)


async def main() -> None:
    """Ask at a rate; say how long answers took."""
    raw = Raw(meter.job())
    await raw.open()
    asker = Asker(await Front(raw).open(), "/questions")
    ages: list[float] = []

    async def one(number: int, due_s: float) -> None:
        assert (await asker.ask(meter.fields(number)))["number"] == number
        ages.append(time.perf_counter() - due_s)

    await one(0, time.perf_counter())
    ages.clear()
    with raw.meter.running():
        await meter.open_loop(raw.job, one)
    raw.meter.report(**meter.quantiles(ages))
    meter.leave()


if __name__ == "__main__":
    asyncio.run(main())
