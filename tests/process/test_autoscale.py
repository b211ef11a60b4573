"""A burst on a role that scales by itself, in a real fleet: up, down, and nothing lost."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

# Imported now, since importing it later would block the loop.
import rolekit.transport.rabbitmq  # noqa: F401  # pyright: ignore[reportUnusedImport]
from benchmarks.own.burst import burst, supervised
from rolekit.config import Config

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.servers]

MESSAGES = 5000
"""Enough that the most are needed, also when not all were sent at the first look."""


@pytest.mark.timeout(120)
async def test_a_burst_takes_a_role_from_its_least_to_its_most_and_back(
    tmp_path: Path, rolekit_database: str, broker_url: str
) -> None:
    config = Config(database=rolekit_database, broker=broker_url)
    command = [sys.executable, "-m", "tests.process.burst_main"]

    with supervised(command, tmp_path, config) as control:
        record = await burst(config, control, MESSAGES)

    print(record.counts, f"{record.samples[-1].at_s} s", record.reasons)  # noqa: T201 - measured
    assert (record.rows, record.distinct) == (MESSAGES, MESSAGES)
    assert (record.counts[0], max(record.counts), record.counts[-1]) == (1, 16, 1)
    assert record.flaps() == 0
    assert "wait" in record.reasons[0][1] or "oldest" in record.reasons[0][1]
    assert record.reasons[-1][1].startswith(f"{record.counts[-2]} \u2192 1: for 2 s ")
