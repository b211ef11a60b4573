"""What a load report says of the servers that took part."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

# Imported now, since importing it later would block the loop.
import rolekit.transport.rabbitmq  # noqa: F401  # pyright: ignore[reportUnusedImport]
from rolekit import wiring

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.servers]


async def test_versions_of_both_servers_are_found(
    rolekit_database: str, rolekit_broker: str
) -> None:
    found = await wiring.server_versions(rolekit_database, rolekit_broker)

    assert set(found) == {"PostgreSQL", "RabbitMQ"}
    assert all(re.fullmatch(r"\d+(\.\d+)+", version) for version in found.values())


async def test_of_a_server_that_does_not_answer_nothing_is_said(tmp_path: Path) -> None:
    nowhere = f"postgresql://nobody@/nothing?host={tmp_path}"

    assert await wiring.server_versions(nowhere, "") == {}
