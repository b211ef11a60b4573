"""Clients that share no code with this project: curl and swaks. What they send arrives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import pytest

from examples.mailflow import fleet
from examples.mailflow.samples import all_samples
from rolekit.store import embedded
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from examples.mailflow.load import Target

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(120)]

SAMPLES = {sample.name: sample.raw for sample in all_samples()}
ARRIVES_S = patient(30)
TO = "bob@mail.example"


@dataclass(frozen=True, slots=True)
class Post:
    """A running mailflow, and what lies in its mailboxes."""

    target: Target
    connection: asyncpg.Connection[asyncpg.Record]

    async def arrived(self, mail_id: str) -> bytes:
        """Wait for a mail to lie in its mailbox; return its bytes."""
        async with asyncio.timeout(ARRIVES_S):
            while True:
                raw: bytes | None = await self.connection.fetchval(
                    "select raw from mail.letter join mail.mailbox on letter = letter.id"
                    " where mail_id = $1",
                    mail_id,
                )
                if raw is not None:
                    return raw
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def open_post(folder: Path) -> AsyncGenerator[Post]:
    home = fleet.Home(folder=folder, settings=fleet.addresses())
    async with embedded.server(folder) as url, fleet.running(home) as ready:
        connection = await asyncpg.connect(url)
        try:
            yield Post(ready.target, connection)
        finally:
            await connection.close()


@pytest.fixture(scope="module")
async def post(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Post]:
    async with open_post(tmp_path_factory.mktemp("post")) as opened:
        yield opened


def needs(program: str) -> str:
    """Find a program, or fail and say how to get it: another client would prove nothing."""
    found = shutil.which(program)
    if found is None:
        pytest.fail(
            f"{program} is not installed, and this test is about {program} itself. "
            f"`make test` installs it when run as root; else: apt-get install {program}."
        )
    return found


async def run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode(errors="replace")
    return out.decode(errors="replace")


@pytest.mark.parametrize("name", ["plain", "bare LF", "NUL and control bytes", "six levels"])
async def test_what_curl_uploads_arrives_byte_for_byte(
    post: Post, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "mail.eml"
    file.write_bytes(SAMPLES[name])

    out = await run(
        needs("curl"), "--silent", "--show-error", "--fail-with-body",
        "--header", "Content-Type: message/rfc822", "--data-binary", f"@{file}",
        f"{post.target.front}/mail/raw?sender=ada@mail.example&to={TO}",
    )  # fmt: skip

    assert await post.arrived(json.loads(out)["id"]) == SAMPLES[name]


@pytest.mark.parametrize("name", ["plain", "8bit utf-8", "s/mime signature"])
async def test_what_curl_sends_by_smtp_arrives_byte_for_byte(
    post: Post, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "mail.eml"
    file.write_bytes(SAMPLES[name])

    out = await run(
        needs("curl"), "--silent", "--show-error", "--verbose", "--upload-file", str(file),
        "--mail-from", "ada@mail.example", "--mail-rcpt", TO,
        f"smtp://{post.target.smtp_host}:{post.target.smtp_port}/client.example",
    )  # fmt: skip

    assert await post.arrived(queued_as(out)) == SAMPLES[name]


@pytest.mark.parametrize("name", ["plain", "dots at the start of lines", "six levels"])
async def test_what_swaks_sends_arrives_byte_for_byte(
    post: Post, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "mail.eml"
    file.write_bytes(SAMPLES[name].removesuffix(b"\r\n"))  # swaks adds a line end of its own

    out = await run(
        needs("swaks"), "--server", post.target.smtp_host, "--port", str(post.target.smtp_port),
        "--helo", "client.example", "--from", "ada@mail.example", "--to", TO,
        "--data", f"@{file}", "--pipeline",
    )  # fmt: skip

    assert await post.arrived(queued_as(out)) == SAMPLES[name]


def queued_as(out: str) -> str:
    """Find the receipt in what a client printed."""
    [line] = [line for line in out.splitlines() if "250 2.0.0 queued as " in line]
    return line.split()[-1]
