"""The demo as a user runs it, on a smaller load."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from typing import TYPE_CHECKING

import pytest

from examples.mailflow.fleet import ROOT
from tests.integration.rabbit_queues import channel_to

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(180)]

LAST_LINE = re.compile(
    r"mailflow: (\d+) mails, (\d+) copies, delivered (\d+), lost 0, duplicates 0,"
    r" out of order 0, p50 \d+ ms, p99 \d+ ms"
)


async def test_once_ends_by_itself_with_nothing_lost_repeated_or_reordered(
    tmp_path: Path,
) -> None:
    code, text = await demo(tmp_path, "--copies", "200")

    assert_all_is_well(code, text, mails=56, copies=200)


async def test_on_rabbitmq_and_a_server_of_ones_own_the_last_line_is_the_same(
    tmp_path: Path, postgres15: str, broker_url: str
) -> None:
    code, text = await demo(
        tmp_path, "--copies", "80", ROLEKIT_DATABASE=postgres15, ROLEKIT_BROKER=broker_url
    )  # as `BROKER=amqp://… DATABASE=postgresql://… make demo ONCE=1` does

    assert_all_is_well(code, text, mails=20, copies=80)
    async with channel_to(broker_url) as channel:
        dead = await channel.declare_queue("mailflow.@dead", passive=True)
    assert dead.declaration_result.message_count == 0  # and it was there: mail went that way


async def demo(tmp_path: Path, *arguments: str, **settings: str) -> tuple[int | None, str]:
    """Run it once; return its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "examples.mailflow.demo", "--once",
        "--home", str(tmp_path / "home"), *arguments, env={**os.environ, **settings},
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode, out.decode()


def assert_all_is_well(code: int | None, text: str, *, mails: int, copies: int) -> None:
    """Hold the last line against what was sent: so many mails or more, and some copies more."""
    found = LAST_LINE.fullmatch(text.splitlines()[-1])
    assert found, text
    went, sent, delivered = map(int, found.groups())
    assert code == 0
    assert went >= mails
    assert copies <= sent <= copies + 10
    assert 0 < delivered < sent


async def test_a_database_that_is_not_there_ends_the_demo_with_a_sentence(
    tmp_path: Path,
) -> None:
    code, text = await demo(tmp_path, "--database", "postgresql://127.0.0.1:1/none")

    assert code == 1
    assert "The demo failed." in text
    assert "Traceback" not in text
