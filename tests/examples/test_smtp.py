"""The SMTP way in, on a real socket, with a client of rolekit in memory."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from examples.mailflow.messages import Compose
from examples.mailflow.samples import all_samples
from examples.mailflow.smtp import Smtp, submission_key
from rolekit.errors import IntakeFull
from rolekit.model.span import SpanKind
from rolekit.observe.tracing import Live, Sampling, Tracer, Untraced, current
from tests.examples.smtp_talk import Talk
from tests.unit.fakes_web import FakeClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from rolekit import Receipt
    from rolekit.model.message import AnyMessage
    from rolekit.model.span import Span

    Stop = Callable[[], Coroutine[None, None, None]]

pytestmark = pytest.mark.anyio

HELLO = b"Subject: hello\r\n\r\nworld\r\n"


class SlowClient(FakeClient):
    """Stores nothing before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked = asyncio.Event()
        self.may_store = asyncio.Event()

    async def send(
        self, message: AnyMessage, /, *, idempotency_key: str | None = None, **options: object
    ) -> Receipt:
        self.is_asked.set()
        await self.may_store.wait()
        return await super().send(message)


class TracedClient(FakeClient):
    """Notes what each send is part of."""

    def __init__(self) -> None:
        super().__init__()
        self.within: list[object] = []

    async def send(
        self, message: AnyMessage, /, *, idempotency_key: str | None = None, **options: object
    ) -> Receipt:
        self.within.append(current.get())
        return await super().send(message)


class KeyedClient(FakeClient):
    """Remembers the keys it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str | None] = []

    async def send(
        self, message: AnyMessage, /, *, idempotency_key: str | None = None, **options: object
    ) -> Receipt:
        self.keys.append(idempotency_key)
        return await super().send(message)


class Hosted(Smtp):
    """The role with a socket, as a host would give it."""

    def __init__(self, listener: socket.socket) -> None:
        listener.setblocking(False)  # noqa: FBT003
        self._listener = listener

    @property
    def listening(self) -> socket.socket:
        return self._listener


@contextlib.asynccontextmanager
async def listening(client: FakeClient, **settings: object) -> AsyncGenerator[int]:
    """Run the role as a host would; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        role = Hosted(listener)
        for name, value in settings.items():
            setattr(role, name, value)
        running = asyncio.create_task(role.run(client))
        try:
            yield listener.getsockname()[1]
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


async def test_a_mail_is_accepted_byte_for_byte() -> None:
    client = FakeClient()
    async with listening(client) as port, Talk.to(port) as talk:
        answer = await talk.mail("bob@mail.example", "eve@mail.example", data=HELLO)

    assert answer == "250 2.0.0 queued as m1"
    [mail] = client.sent
    assert isinstance(mail, Compose)
    assert mail.sender == "ada@mail.example"
    assert mail.recipients == ["bob@mail.example", "eve@mail.example"]
    assert client.blobs[mail.raw.id] == HELLO


@pytest.mark.parametrize(
    "raw",
    [sample.raw for sample in all_samples() if sample.fits_smtp],
    ids=[sample.name for sample in all_samples() if sample.fits_smtp],
)
async def test_each_sample_that_fits_arrives_byte_for_byte(raw: bytes) -> None:
    client = FakeClient()
    stuffed = (b"\r\n" + raw).replace(b"\r\n.", b"\r\n..")[2:]
    async with listening(client) as port, Talk.to(port) as talk:
        answer = await talk.mail("bob@mail.example", data=stuffed)

    assert answer.startswith("250 ")
    assert list(client.blobs.values()) == [raw]


@pytest.mark.parametrize("ratio", [0, 1])
async def test_the_trace_of_a_mail_begins_with_its_data(ratio: float) -> None:
    ended: list[Span] = []

    def ship(span: Span) -> None:
        if span.ended_ns:
            ended.append(span)

    sampling = Sampling(ratio=ratio, first_per_s=0)
    tracer = Tracer(ship, sampling, role="Smtp", instance="Smtp/0")
    client = TracedClient()
    async with listening(client, _tracer=tracer) as port, Talk.to(port) as talk:
        await talk.mail("bob@mail.example", data=HELLO)
        client.fails = IntakeFull("Too much is waiting.")
        await talk.mail("bob@mail.example", data=HELLO)

    if not ratio:
        assert ended == []
        assert [type(one) for one in client.within] == [Untraced] * 2
        return
    assert [(span.name, span.kind, span.error, span.detail) for span in ended] == [
        ("DATA", SpanKind.SERVER, "", ""),
        ("DATA", SpanKind.SERVER, "Refused", "451"),
    ]
    assert [one.span.id for one in client.within if isinstance(one, Live)] == [
        span.id for span in ended
    ]


async def test_250_comes_only_after_the_mail_was_stored() -> None:
    client = SlowClient()
    async with listening(client) as port, Talk.to(port) as talk:
        answer = asyncio.create_task(talk.mail("bob@mail.example", data=HELLO))
        await client.is_asked.wait()
        is_early = answer.done()
        client.may_store.set()

        assert not is_early
        assert (await answer).startswith("250 ")


async def test_a_mail_that_cannot_be_stored_gets_451_and_nothing_was_accepted() -> None:
    client = FakeClient()
    client.fails = IntakeFull("Too much is waiting.")
    async with listening(client) as port, Talk.to(port) as talk:
        answer = await talk.mail("bob@mail.example", data=HELLO)

    assert answer.startswith("451 4.3.0")
    assert client.sent == []


@pytest.mark.parametrize(
    "data",
    [
        b"Subject: x\r\n\r\nbare\nLF\r\n",
        b"Subject: x\r\n\r\nbare\rCR\r\n",
        b"a\r\n\r\nfirst\n.\r\nMAIL FROM:<e@mail.example>\r\nRCPT TO:<x@x>\r\nDATA\r\n",
        b"a\r\n\r\nfirst\n.\nMAIL FROM:<e@mail.example>\r\n",
        b"a\r\n\r\nfirst\r.\r\nMAIL FROM:<e@mail.example>\r\n",
        b"a\r\n\r\nfirst\r\n.\nMAIL FROM:<e@mail.example>\r\n",
    ],
)
async def test_a_message_with_lone_line_ends_is_refused_whole(data: bytes) -> None:
    client = FakeClient()
    async with listening(client) as port, Talk.to(port) as talk:
        answer = await talk.mail("bob@mail.example", data=data)
        after = await talk.say("NOOP")

    assert answer.startswith("554 5.6.0")
    assert after.startswith("250")
    assert client.sent == []


async def test_a_message_over_the_limit_gets_552_before_and_after_its_data() -> None:
    client = FakeClient()
    async with listening(client, max_bytes=1000) as port, Talk.to(port) as talk:
        hello = await talk.say("EHLO test")
        declared = await talk.say("MAIL FROM:<a@mail.example> SIZE=1001")
        sent = await talk.mail("bob@mail.example", data=b"x" * 98 + b"\r\n" + HELLO * 40)

    assert "250-SIZE 1000" in hello
    assert declared.startswith("552 ")
    assert sent.startswith("552 ")
    assert client.blobs == {}


async def test_a_line_over_the_limit_is_refused_and_the_session_goes_on() -> None:
    async with listening(FakeClient()) as port, Talk.to(port) as talk:
        answer = await talk.mail("bob@mail.example", data=b"x" * 5000 + b"\r\n")

        assert answer.startswith("500 ")
        assert (await talk.say("NOOP")).startswith("250")


async def test_one_recipient_too_many_gets_452_and_the_others_stay() -> None:
    client = FakeClient()
    async with listening(client, max_recipients=2) as port, Talk.to(port) as talk:
        await talk.say("EHLO test", "MAIL FROM:<a@mail.example>")
        codes = [
            (await talk.say(f"RCPT TO:<r{number}@mail.example>"))[:9] for number in range(3)
        ]
        await talk.say("DATA")
        talk.send(HELLO + b".\r\n")
        await talk.reply()

    assert codes == ["250 2.1.5", "250 2.1.5", "452 4.5.3"]
    [mail] = client.sent
    assert isinstance(mail, Compose)
    assert mail.recipients == ["r0@mail.example", "r1@mail.example"]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("MAIL FROM:<not an address>", "553"),
        ("MAIL FROM:<a@b@c>", "553"),
        ("MAIL FROM:<ζωή@mail.example>", "553"),
        ("MAIL FROM:<a@mail.example> BODY=BINARYMIME", "501"),
        ("MAIL FROM:<a@mail.example> NONSENSE=1", "555"),
        ("MAIL FROM:<>", "250"),
        ("MAIL FROM:<ζωή@mail.example> SMTPUTF8", "250"),
        ("RCPT TO:<bob@mail.example>", "503"),
        ("DATA", "503"),
        ("BDAT 10 LAST", "500"),
    ],
)
async def test_a_command_gets_the_code_of_the_rfc(command: str, code: str) -> None:
    async with listening(FakeClient()) as port, Talk.to(port) as talk:
        await talk.say("EHLO test")

        assert (await talk.say(command)).startswith(f"{code} ")


@pytest.mark.parametrize(
    ("rcpt", "code"),
    [
        ("bob@far.example", "550 5.7.1"),
        ("bob", "553"),
        ("b..b@mail.example", "553"),
        ("bob@mail.example\rx", "5"),
        ("用户@mail.example", "553"),
        ("Bob@MAIL.Example", "250"),
    ],
)
async def test_a_recipient_gets_the_code_of_the_rfc(rcpt: str, code: str) -> None:
    async with listening(FakeClient()) as port, Talk.to(port) as talk:
        await talk.say("EHLO test", "MAIL FROM:<a@mail.example>")

        assert (await talk.say(f"RCPT TO:<{rcpt}>")).startswith(code)


async def test_addresses_beyond_ascii_are_taken_after_smtputf8() -> None:
    client = FakeClient()
    async with listening(client) as port, Talk.to(port) as talk:
        assert "250-SMTPUTF8" in await talk.say("EHLO test")
        await talk.say(
            "MAIL FROM:<ζωή@mail.example> SMTPUTF8", "RCPT TO:<用户@mail.example>", "DATA"
        )
        talk.send(HELLO + b".\r\n")
        await talk.reply()

    [mail] = client.sent
    assert isinstance(mail, Compose)
    assert (mail.sender, mail.recipients) == ("ζωή@mail.example", ["用户@mail.example"])


async def test_commands_may_come_in_one_packet() -> None:
    client = FakeClient()
    async with listening(client) as port, Talk.to(port) as talk:
        assert "250-PIPELINING" in await talk.say("EHLO test")
        answer = await talk.say(
            "MAIL FROM:<a@mail.example>",
            "RCPT TO:<b@mail.example>",
            "RCPT TO:<c@mail.example>",
            "DATA",
        )
        talk.send(HELLO + b".\r\nMAIL FROM:<d@mail.example>\r\nRSET\r\n")
        replies = [await talk.reply() for _ in range(3)]

    assert answer.startswith("354")
    assert [reply[:3] for reply in replies] == ["250", "250", "250"]
    assert len(client.sent) == 1


async def test_a_null_sender_is_an_empty_one() -> None:
    client = FakeClient()
    async with listening(client) as port, Talk.to(port) as talk:
        await talk.say("EHLO test", "MAIL FROM:<>", "RCPT TO:<b@mail.example>", "DATA")
        talk.send(HELLO + b".\r\n")
        await talk.reply()

    [mail] = client.sent
    assert isinstance(mail, Compose)
    assert mail.sender == ""


async def test_a_client_that_hangs_up_in_its_data_sent_nothing() -> None:
    client = FakeClient()
    async with listening(client) as port:
        async with Talk.to(port) as talk:
            await talk.say(
                "EHLO test", "MAIL FROM:<a@mail.example>", "RCPT TO:<b@mail.example>", "DATA"
            )
            talk.send(b"Subject: half\r\n")
        async with Talk.to(port) as other:
            await other.mail("bob@mail.example", data=HELLO)

    assert list(client.blobs.values()) == [HELLO]


async def test_a_mail_being_stored_gets_its_answer_when_the_listener_stops() -> None:
    client = SlowClient()
    async with Talking(client) as (stop, talk):
        answer = asyncio.create_task(talk.mail("bob@mail.example", data=HELLO))
        await client.is_asked.wait()
        stopping = asyncio.create_task(stop())
        await asyncio.wait({stopping}, timeout=0.1)
        client.may_store.set()
        await stopping

        assert (await answer).startswith("250 ")


class Talking:
    """A listener that the test stops by itself, and a client of it."""

    def __init__(self, client: FakeClient) -> None:
        self._client = client
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> tuple[Stop, Talk]:
        listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port: int = listener.getsockname()[1]
        running = asyncio.create_task(Hosted(listener).run(self._client))

        async def stop() -> None:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

        return stop, await self._stack.enter_async_context(Talk.to(port))

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


async def test_the_same_submission_has_the_same_key_and_another_one_has_not() -> None:
    client = KeyedClient()
    with_id = b"Message-ID: <1@x>\r\n" + HELLO
    async with listening(client) as port, Talk.to(port) as talk:
        for rcpt, data in (("b", with_id), ("b", with_id), ("c", with_id), ("b", HELLO)):
            await talk.mail(f"{rcpt}@mail.example", data=data)

    first, again, other, without = client.keys
    assert first == again
    assert first is not None
    assert other != first
    assert without is None


def test_a_message_id_in_the_body_is_no_message_id() -> None:
    assert submission_key("a@x", ["b@x"], b"Subject: x\r\n\r\nMessage-ID: <1@x>\r\n") is None
