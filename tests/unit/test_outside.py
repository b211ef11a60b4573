"""What goes to another app: what is refused, and what travels."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from typing import Any, cast

import pytest

from rolekit import App, Message, Reply, WorkerRole, handle
from rolekit.errors import Unroutable
from rolekit.model.envelope import decode_head
from rolekit.testing import run_app
from rolekit.transport.base import INBOUND, outside_queue
from rolekit.transport.rabbitmq.topology import Names, remedy_for


class Order(Message):
    n: int


class Invoice(Message):
    n: int


class Noted(Message):
    n: int


class Answer(Reply):
    n: int


class Orders(WorkerRole):
    @handle
    async def take(self, order: Order) -> list[Invoice]:
        return [Invoice(n=order.n), Invoice(n=order.n + 1)]

    @handle
    async def note(self, order: Order) -> Noted:
        return Noted(n=order.n)

    @handle
    async def noted(self, noted: Noted) -> None: ...


app = App("shop", roles=[Orders], outside={Invoice: "billing", Noted: "audit"})


@pytest.mark.parametrize(
    ("outside", "why"),
    [
        ({Answer: "billing"}, "outside={Answer: 'billing'}: is a Reply"),
        ({Invoice: "shop"}, "outside={Invoice: 'shop'}: is this app itself"),
        ({Invoice: "2 much"}, "outside={Invoice: '2 much'}: names no app"),
        ({Invoice: ""}, "outside={Invoice: ''}: names no app"),
        ({int: "billing"}, "outside={int: 'billing'}: is no message class"),
    ],
)
def test_what_cannot_go_to_another_app_is_refused(outside: dict[type, str], why: str) -> None:
    wrong = App("shop", roles=[Orders], outside={Invoice: "billing", **outside})

    assert [str(problem)[: len(why)] for problem in wrong.problems()] == [why]


def test_each_app_has_one_queue_for_what_comes_from_others() -> None:
    shop, billing = Names("shop"), Names("billing")

    assert shop.of(outside_queue("billing")) == billing.of(INBOUND) == "billing.@in"
    assert "Start the app billing" in remedy_for(["Work.work", "~app.billing"])
    assert "Start the role" in remedy_for(["Work.work"])


@pytest.mark.anyio
async def test_what_goes_out_keeps_root_and_headers_and_has_an_id_of_its_own() -> None:
    async with run_app(app) as running:
        broker = cast("Any", running)._stage.broker  # noqa: SLF001 - who looks into a test's queues
        sent = await running.client.send(Order(n=1), headers={"tenant": "blue"})
        await running.idle()
        waiting = [
            entry.packet
            for name in ("~app.billing", "~app.audit")
            for entry in broker._queues[name].waiting  # noqa: SLF001 - likewise
        ]

        heads = [decode_head(packet.head) for packet in waiting]
        assert [head.type for head in heads] == ["Invoice", "Invoice", "Noted"]
        assert {head.root for head in heads} == {sent.id}
        assert [head.headers for head in heads] == [{"tenant": "blue"}] * 3
        assert len({packet.id for packet in waiting}) == 3
        assert running.seen(Noted) == [Noted(n=1)]


@pytest.mark.anyio
async def test_asking_and_streaming_to_another_app_are_refused() -> None:
    async with run_app(app) as running:
        with pytest.raises(Unroutable, match="the app billing, which cannot answer"):
            await running.client.ask(Invoice(n=1), Answer)
        with pytest.raises(Unroutable, match="which knows of no stream"):
            await running.client.send(Invoice(n=1), stream="s")
