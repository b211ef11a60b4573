"""The demo as a user runs it, on a smaller load."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import TYPE_CHECKING

import pytest

from examples.mailflow.fleet import ROOT

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
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "examples.mailflow.demo", "--once", "--copies", "200",
        "--home", str(tmp_path / "home"),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()

    text = out.decode()
    found = LAST_LINE.fullmatch(text.splitlines()[-1])
    assert found, text
    mails, copies, delivered = map(int, found.groups())
    assert process.returncode == 0
    assert mails >= 56
    assert 200 <= copies <= 210
    assert 0 < delivered < copies


async def test_a_database_that_is_not_there_ends_the_demo_with_a_sentence(
    tmp_path: Path,
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "examples.mailflow.demo", "--once",
        "--home", str(tmp_path / "home"), "--database", "postgresql://127.0.0.1:1/none",
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()

    text = out.decode()
    assert process.returncode == 1
    assert "The demo failed." in text
    assert "Traceback" not in text
