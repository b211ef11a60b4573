"""Server-sent events, without a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import anyio
import pytest
from structlog.testing import capture_logs

from rolekit import web
from rolekit.roles.http_replies import encode
from rolekit.roles.http_sse import Events
from rolekit.roles.web import WebRole
from tests.unit.fakes_web import FakeClient
from tests.unit.web_front import Front, Mail, Progress, Report, calling

pytestmark = pytest.mark.anyio


def followed() -> FakeClient:
    client = FakeClient()
    client.replies["m1"] = [Progress(done=1), Progress(done=2), Report(lines=["b@x"])]
    return client


async def test_each_item_is_an_event_with_name_cursor_and_data() -> None:
    async with calling(Front(), followed()) as http:
        answer = await http.get("/mail/m1/live")

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text == (
        'event: Progress\nid: 1\ndata: {"done":1}\n\n'
        'event: Progress\nid: 2\ndata: {"done":2}\n\n'
        'event: Report\nid: 3\ndata: {"lines":["b@x"]}\n\n'
    )


async def test_a_reader_that_comes_back_goes_on_behind_its_last_event() -> None:
    async with calling(Front(), followed()) as http:
        answer = await http.get("/mail/m1/live", headers={"Last-Event-ID": "2"})

    assert answer.text == 'event: Report\nid: 3\ndata: {"lines":["b@x"]}\n\n'


async def test_a_reader_that_has_seen_everything_is_told_to_stop() -> None:
    async with calling(Front(), followed()) as http:
        answer = await http.get("/mail/m1/live", headers={"Last-Event-ID": "3"})

    assert answer.status_code == 204


async def test_an_error_before_the_first_item_has_its_status() -> None:
    async with calling(Front(), followed()) as http:
        answer = await http.get("/mail/m2/live")

    assert answer.status_code == 404


async def test_a_stream_takes_no_idempotency_key() -> None:
    class Live(WebRole):
        @web.post("/live")
        async def live(self, mail: Mail) -> AsyncIterator[Progress]:
            yield Progress(done=len(mail.recipients))

    body = {"sender": "a@x", "recipients": ["b@x"]}
    async with calling(Live()) as http:
        plain = await http.post("/live", json=body)
        keyed = await http.post("/live", json=body, headers={"Idempotency-Key": "k"})

    assert plain.text == 'event: Progress\ndata: {"done":1}\n\n'
    assert keyed.status_code == 400


class _Generators(WebRole):
    closed = False

    @web.get("/plain")
    def plain(self) -> Iterator[Progress]:
        yield Progress(done=1)

    @web.get("/breaks")
    async def breaks(self) -> AsyncIterator[Progress]:
        yield Progress(done=1)
        raise ZeroDivisionError("secret")

    @web.get("/slow")
    async def slow(self) -> AsyncIterator[Progress]:
        try:
            await anyio.sleep(0.05)
            yield Progress(done=1)
        finally:
            self.closed = True

    @web.get("/wrapped")
    async def wrapped(self) -> AsyncIterator[Progress]:
        async for item in self.client.follow("m1", Progress, until=Report):
            if isinstance(item, Progress):
                yield Progress(done=item.done * 10)


async def test_a_plain_generator_is_iterated_too() -> None:
    async with calling(_Generators()) as http:
        answer = await http.get("/plain")

    assert answer.text == 'event: Progress\ndata: {"done":1}\n\n'


async def test_an_error_in_the_middle_is_an_event_and_logged() -> None:
    with capture_logs() as logs:
        async with calling(_Generators()) as http:
            answer = await http.get("/breaks")

    assert "event: problem\ndata: {" in answer.text
    assert "secret" not in answer.text
    assert [log["path"] for log in logs] == ["/breaks"]


async def test_a_generator_around_follow_keeps_the_cursor() -> None:
    async with calling(_Generators(), followed()) as http:
        answer = await http.get("/wrapped")

    assert answer.text.startswith('event: Progress\nid: 1\ndata: {"done":10}\n\n')


async def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Events, "first_s", 0.01)
    monkeypatch.setattr(Events, "heartbeat_s", 0.01)
    async with calling(_Generators()) as http:
        answer = await http.get("/slow")

    assert answer.text.startswith(": still here\n\n")
    assert answer.text.endswith('data: {"done":1}\n\n')


async def test_an_iterator_that_waits_for_its_reader_is_closed_when_the_reader_goes() -> None:
    stuck, closed = anyio.Event(), anyio.Event()

    async def items() -> AsyncIterator[Progress]:
        try:
            for number in range(10):
                yield Progress(done=number)
        finally:
            closed.set()

    async def send(message: object) -> None:
        if b"data" in str(message).encode():
            stuck.set()
            await anyio.sleep_forever()

    async def receive() -> dict[str, object]:
        await stuck.wait()
        await anyio.wait_all_tasks_blocked()
        return {"type": "http.disconnect"}

    events = Events(items(), encode=encode, closing=anyio.Event(), path="/live")
    await events({"type": "http", "method": "GET"}, receive, send)

    assert closed.is_set()


async def test_head_does_not_start_the_iterator() -> None:
    role = _Generators()
    async with calling(role) as http:
        answer = await http.head("/slow")

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert not role.closed
