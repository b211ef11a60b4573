"""Asking about deaths when something comes again: one wait for all that comes at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from rolekit.flow.suspicion import CALM_S, NOTED_S, Suspicions
from rolekit.model.envelope import Packet
from rolekit.transport.base import Delivery

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.anyio


class Noted:
    """Deaths that a test notes."""

    def __init__(self) -> None:
        self.crashed: dict[tuple[str, int], int] = {}

    async def suspicions(self, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        return {key: self.crashed[key] for key in keys if key in self.crashed}

    async def begin_alone(self, message_id: str, generation: int) -> None:
        """Note nothing."""

    async def end_alone(self, message_id: str, generation: int) -> None:
        """Note nothing."""


class Asked:
    """Suspicions whose waits are written down instead of waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.deaths = Noted()
        self.suspicions = Suspicions(self.deaths)
        self.waits: list[float] = []
        self.now_s = asyncio.get_running_loop().time()
        monkeypatch.setattr("rolekit.flow.suspicion.asyncio.sleep", self._sleep)

    async def flag(self, after_s: float) -> Delivery:
        """Ask about one that came so long after the first; say how it was flagged."""
        delivery = Delivery(Packet(queue="q", id="a" * 32, head=b"", body=b""), 1, True)  # noqa: FBT003 - flagged
        await self.suspicions.flag([delivery], self.now_s + after_s)
        return delivery

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


async def test_what_comes_in_numbers_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Asked(monkeypatch)

    for number in range(100):
        await asked.flag(number * 0.004)

    assert len(asked.waits) == 1
    assert 0 < asked.waits[0] <= NOTED_S


async def test_what_comes_later_is_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)

    await asked.flag(0)
    await asked.flag(CALM_S)

    assert len(asked.waits) == 2


async def test_after_a_death_each_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    asked.deaths.crashed["a" * 32, 0] = 2

    first = await asked.flag(0)
    await asked.flag(0.01)

    assert (first.is_suspect, first.crashed) == (True, 2)
    assert len(asked.waits) == 2
