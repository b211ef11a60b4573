"""Who takes requests connects for sending before the first of them comes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from rolekit.errors import ConfigError, Unavailable
from rolekit.roles import host
from rolekit.roles.host import Instance, bound_socket
from rolekit.transport.memory import MemoryTransport
from tests.unit.fakes_flow import SOON_S, services_of
from tests.unit.shop import Front, Work, shop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.roles.base import Role

pytestmark = pytest.mark.anyio


class Noting(MemoryTransport):
    """Notes when it is connected for sending, among the rest; may be refused, or wait."""

    def __init__(self, error: Exception | None = None, *, answers: bool = True) -> None:
        super().__init__()
        self.error = error
        self.answers = answers
        self.connecting = asyncio.Event()
        self.noted: list[str] = []

    async def connect_to_send(self) -> None:
        self.noted.append("connects")
        self.connecting.set()
        if self.error is not None:
            raise self.error
        if not self.answers:
            await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def made(role: type[Role], transport: Noting) -> AsyncGenerator[Instance]:
    """Make an instance, with its services running."""
    services = services_of(shop.plan(), transport=transport)
    with bound_socket("127.0.0.1:0") as listening:
        async with services.running(), asyncio.timeout(SOON_S):
            yield Instance(role, services, listening=listening)


async def lived(role: type[Role], transport: Noting) -> list[str]:
    """Run an instance until it is ready; return what happened, in order."""
    async with made(role, transport) as instance:

        def ready() -> None:
            transport.noted.append("ready")
            instance.stop(0)

        await instance.run(ready)
    return transport.noted


async def test_a_front_has_connected_when_it_is_ready() -> None:
    assert await lived(Front, Noting()) == ["connects", "ready"]


@pytest.mark.parametrize(
    "error", [Unavailable("Nobody answers."), ConfigError("This vhost is full.")]
)
async def test_a_front_is_ready_though_it_is_refused(error: Exception) -> None:
    with capture_logs() as logs:
        assert await lived(Front, Noting(error)) == ["connects", "ready"]

    assert [line["reason"] for line in logs if "sending" in line["event"]] == [str(error)]


async def test_a_front_is_ready_though_nobody_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host, "TO_SEND_S", 0.01)

    with capture_logs():
        assert await lived(Front, Noting(answers=False)) == ["connects", "ready"]


async def test_a_front_that_is_told_to_stop_does_not_wait_for_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(host, "TO_SEND_S", SOON_S * 2)
    transport = Noting(answers=False)

    async with made(Front, transport) as instance, asyncio.TaskGroup() as tasks:
        tasks.create_task(instance.run(lambda: None))
        await transport.connecting.wait()
        instance.stop(0)


async def test_a_worker_connects_when_it_has_something_to_send() -> None:
    assert await lived(Work, Noting()) == ["ready"]
