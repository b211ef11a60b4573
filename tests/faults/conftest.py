"""The broker that tests of this folder break, one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit.testing.broker import PrivateBroker
from tests.faults.rabbit import Rig, rig_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytest.register_assert_rewrite("tests.conformance.transport")


@pytest.fixture(scope="session")
def broken_broker() -> Iterator[PrivateBroker]:
    """One RabbitMQ that tests may stop, kill and starve; each leaves it as it found it."""
    with PrivateBroker() as broker:
        yield broker


@pytest.fixture
async def rig(broken_broker: PrivateBroker) -> AsyncIterator[Rig]:
    """A virtual host on it."""
    async with rig_on(broken_broker) as made:
        yield made
