"""Idempotency-Key: one commit of key, body, sends and reply."""

from __future__ import annotations

import anyio
import pytest
from structlog.testing import capture_logs

from rolekit import web
from rolekit.flow.request import Saved
from rolekit.model.message import Receipt
from rolekit.roles.web import WebRole
from tests.unit.fakes_web import FakeClient
from tests.unit.web_front import Front, Mail, calling

pytestmark = pytest.mark.anyio

MAIL = {"sender": "a@x", "recipients": ["b@x"]}
KEY = {"Idempotency-Key": "k1"}


async def test_a_repeat_gets_the_same_answer_and_sends_nothing() -> None:
    client = FakeClient()
    async with calling(Front(), client) as http:
        first = await http.post("/mail", json=MAIL, headers=KEY)
        again = await http.post("/mail", json=MAIL, headers=KEY)

    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert dict(again.headers) == dict(first.headers)
    assert len(client.sent) == 1


async def test_without_a_key_a_repeat_is_another_request() -> None:
    client = FakeClient()
    async with calling(Front(), client) as http:
        await http.post("/mail", json=MAIL)
        await http.post("/mail", json=MAIL)

    assert len(client.sent) == 2


@pytest.mark.parametrize(("path", "sender"), [("/mail", "c@x"), ("/mail?x=1", "a@x")])
async def test_a_key_with_another_request_is_422(path: str, sender: str) -> None:
    async with calling(Front()) as http:
        await http.post("/mail", json=MAIL, headers=KEY)
        other = await http.post(path, json=MAIL | {"sender": sender}, headers=KEY)

    assert other.status_code == 422


async def test_another_caller_has_keys_of_its_own() -> None:
    client = FakeClient()
    async with calling(Front(), client) as http:
        await http.post("/mail", json=MAIL, headers=KEY | {"Authorization": "Bearer a"})
        await http.post("/mail", json=MAIL, headers=KEY | {"Authorization": "Bearer b"})

    assert len(client.sent) == 2
    assert not any("Bearer" in part for key in client.kept for part in key)


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there"])
async def test_a_key_that_cannot_be_kept_is_bad_input(key: str) -> None:
    async with calling(Front()) as http:
        answer = await http.post("/mail", json=MAIL, headers={"Idempotency-Key": key})

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["path"] == "header.Idempotency-Key"


async def test_a_handler_that_fails_leaves_the_key_free() -> None:
    client = FakeClient()
    client.fails = ZeroDivisionError()
    with capture_logs():
        async with calling(Front(), client) as http:
            failed = await http.post("/mail", json=MAIL, headers=KEY)
            client.fails = None
            good = await http.post("/mail", json=MAIL, headers=KEY)

    assert [failed.status_code, good.status_code] == [500, 202]


async def test_a_key_under_way_is_409() -> None:
    begun, go = anyio.Event(), anyio.Event()

    class Slow(WebRole):
        @web.post("/slow")
        async def slow(self, mail: Mail) -> Receipt:
            begun.set()
            await go.wait()
            return await self.client.send(mail)

    statuses: list[int] = []
    async with calling(Slow()) as http, anyio.create_task_group() as tasks:

        async def call() -> None:
            statuses.append((await http.post("/slow", json=MAIL, headers=KEY)).status_code)

        tasks.start_soon(call)
        await begun.wait()
        await call()
        go.set()

    assert statuses == [409, 202]


async def test_the_reply_of_another_instance_that_came_first_is_given() -> None:
    client = FakeClient()
    theirs = Saved(status=202, media_type="application/json", body=b'{"id":"theirs"}')

    class Race(WebRole):
        @web.post("/race")
        async def race(self, mail: Mail) -> Receipt:
            client.kept["POST /race", "", "k1"] = ("", theirs)
            return await self.client.send(mail)

    async with calling(Race(), client) as http:
        answer = await http.post("/race", json=MAIL, headers=KEY)

    assert answer.json() == {"id": "theirs"}


async def test_a_streamed_body_counts_for_the_key() -> None:
    client = FakeClient()
    async with calling(Front(), client) as http:
        await http.post("/stream", content=b"one", headers=KEY)
        again = await http.post("/stream", content=b"one", headers=KEY)
        other = await http.post("/stream", content=b"two", headers=KEY)

    assert again.json() == {"done": 3}
    assert other.status_code == 422
    assert len(client.sent) == 1
