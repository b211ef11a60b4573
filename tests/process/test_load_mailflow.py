"""Mailflow under load while its broker goes away: `python -m examples.mailflow.load`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import pytest

from examples.mailflow import fleet
from tests.patience import patient

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(300)]


async def test_nothing_is_lost_while_connections_are_closed_and_the_broker_is_restarted(
    tmp_path: Path,
) -> None:
    command = ("broker", "--broker", "private", "--for", "16", "--rate", "1")
    load = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "examples.mailflow.load", *command, "--out", tmp_path),
        cwd=fleet.ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(patient(200)):
        out, _ = await load.communicate()

    assert load.returncode == 0, out.decode()
    result = json.loads((tmp_path / "rabbitmq" / "mailflow-broker.json").read_text("utf-8"))
    assert result["answered"] == result["due"] > 0
    assert (result["failed"], result["unaccounted"]) == (0, {})
    checked = result["checked"]
    assert [checked[what] for what in ("lost", "repeated", "out_of_order")] == [0, 0, 0]
    cut, restarted = result["marks"]
    assert int(cut["text"].removeprefix("cut connections with the broker: ")) > 1
    assert (restarted["text"], restarted["problem"]) == ("restart the broker", "")
    # From when it was told to stop until it spoke again.
    assert restarted["took_s"] > 1
