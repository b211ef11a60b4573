"""An id that was never given out is unknown; one that has no reply yet is not."""

from __future__ import annotations

import asyncio

import pytest

from rolekit.bell import Bell
from rolekit.clock import ManualClock
from rolekit.flow.app_client import AppClient
from rolekit.flow.request import UnknownId
from rolekit.flow.runtime import Runtime
from rolekit.model.codec import Codec
from rolekit.store.base import Reply, Step
from rolekit.store.memory import MemoryStore
from rolekit.store.memory_tables import MemoryTables
from rolekit.testing import run_app
from rolekit.transport.memory import MemoryTransport
from tests.unit.programs_for_run_app import Issue, NewsFront, Summary, news

pytestmark = pytest.mark.anyio

LOST = "0123456789abcdef" * 2


async def test_what_was_sent_has_no_reply_yet_and_what_was_not_is_unknown() -> None:
    async with run_app(news, only=[NewsFront]) as running:
        client, http = running.client, running.http(NewsFront)
        issue = Issue(readers=[], text=await client.save(b"text"))
        json: dict[str, object] = {
            "readers": [],
            "text": {"id": issue.text.id, "size_bytes": 4},
        }
        key = {"Idempotency-Key": "1"}
        sent = [
            (await client.send(issue)).id,
            (await client.send(issue, delay_s=60)).id,
            (await client.send(issue, idempotency_key="k")).id,
            (await client.send_many([issue]))[0].id,
            (await http.post("/issues", json=json)).json()["id"],
            (await http.post("/issues", json=json, headers=key)).json()["id"],
        ]

        assert [await client.result(id_, Summary) for id_ in sent] == [None] * len(sent)
        with pytest.raises(UnknownId, match=LOST):
            await client.result(LOST, Summary)
        with pytest.raises(UnknownId, match=LOST):
            await anext(client.follow(LOST, until=Summary))
        assert (await http.get(f"/issues/{LOST}/live")).status_code == 404


async def test_an_id_that_has_replies_is_known_whoever_gave_it() -> None:
    plan, clock = news.plan(), ManualClock()
    store = MemoryStore(MemoryTables(clock=clock))
    codec = Codec(plan.types, plan.wire_names, plan.codec)
    runtime = Runtime(
        plan=plan,
        codec=codec,
        store=store,
        transport=MemoryTransport(),
        bell=Bell(),
        clock=clock,
        owner=1,
    )
    client = AppClient(runtime, None)
    summary = Summary(lines=["a"])
    name, version, body = codec.encode(summary)
    reply = Reply(root=LOST, id="0a" * 16, type=name, type_version=version, body=body)
    await store.commit(
        [Step(id="0b" * 16, generation=0, birth_ms=clock.now_ms(), replies=[reply])]
    )
    running = asyncio.create_task(client.run())

    result = await client.result(LOST, Summary)
    followed = [each async for each in client.follow(LOST, until=Summary)]

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (result, followed) == (summary, [summary])
