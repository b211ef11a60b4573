"""Messages whose guests listen, or have folders, and are killed in the middle of a call."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rolekit import App, Backoff, Context, Message, VMRole, handle
from rolekit.guest import (
    Container,
    Files,
    Guest,
    Http,
    Lmtp,
    Process,
    Sandbox,
    Serves,
    Smtp,
)
from rolekit.testing import run_app
from tests.patience import patient
from tests.process.guest_programs import LIMITS, Leftovers, leftovers_in
from tests.process.guest_servers import COUNT, PORT, http_server, mail_server
from tests.process.test_guest_files import WORKER
from tests.process.test_guest_serves import Counter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine import PrivateEngine

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

PROTOCOLS = ("http", "smtp", "lmtp", "files", "serves")


class Job(Message):
    """Which guest is to be killed at the first attempt."""

    protocol: str


@pytest.fixture
def left(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Leftovers]:
    if "container" in request.node.name:
        engine: PrivateEngine = request.getfixturevalue("engine")
        monkeypatch.setenv("DOCKER_HOST", engine.url)
    with tempfile.TemporaryDirectory(prefix="rk-") as folder:  # short: sockets are in it
        leftovers = leftovers_in(Path(folder), monkeypatch)
        yield leftovers
        if "container" in request.node.name:
            engine = request.getfixturevalue("engine")
            assert engine.docker("ps", "--all", "--quiet") == ""
        assert leftovers.all() == []


@pytest.mark.parametrize(
    "host",
    [Process(), Sandbox(), Container(image="rolekit-test:base")],
    ids=["process", "sandbox", "container"],
)
async def test_each_message_has_one_effect_when_its_server_is_killed(
    host: Process | Sandbox | Container, left: Leftovers
) -> None:
    born: list[object] = []
    token = left.token

    class Legacy(VMRole):
        http = Guest(Http(*http_server(token, PORT)), host=host, limits=LIMITS)
        smtp = Guest(Smtp(*mail_server(token, PORT, "smtp")), host=host, limits=LIMITS)
        lmtp = Guest(Lmtp(*mail_server(token, PORT, "lmtp")), host=host, limits=LIMITS)
        serves = Guest(
            Serves(Counter, "perl", "-e", COUNT, PORT, token), host=host, limits=LIMITS
        )
        files = Guest(
            Files("perl", "-e", WORKER, "{in}", "{out}", token), host=host, limits=LIMITS
        )

        async def on_start(self) -> None:
            born.append(self)

        @handle(retry=Backoff(attempts=9))
        async def work(self, job: Job, ctx: Context) -> None:
            await self.ask(job.protocol, is_fatal=ctx.attempt == 1)
            ctx.write("insert into done values ($1)", job.protocol)

        async def ask(self, protocol: str, *, is_fatal: bool) -> None:
            match protocol:
                case "http":
                    await self.http.request("POST", "/kill" if is_fatal else "/fine")
                case "smtp" | "lmtp":
                    guest = self.smtp if protocol == "smtp" else self.lmtp
                    to = "kill@x" if is_fatal else "a@x"
                    (reply,) = await guest.send("me@x", [to], b"Subject: x\r\n\r\nx\r\n")
                    reply.check()
                case "files":
                    await self.files.drop(b"kill" if is_fatal else b"fine")
                case _:
                    await self.serves.tell(b"die" if is_fatal else b"count")

    async with run_app(App("legacy", roles=[Legacy])) as running:
        for protocol in PROTOCOLS:
            await running.client.send(Job(protocol=protocol))
        async with asyncio.timeout(patient(150)):
            while len(running.writes) < len(PROTOCOLS):
                await running.idle(timeout_s=90)
                await running.advance(3600)

        assert sorted(args[0] for _, args in running.writes) == sorted(PROTOCOLS)  # type: ignore[type-var]
        assert running.dead == []
        assert len(born) == 1
