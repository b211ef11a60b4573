"""What a supervisor measures roles by that scale by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

# Imported now, since importing it later would block the loop.
import rolekit.transport.rabbitmq  # noqa: F401  # pyright: ignore[reportUnusedImport]
from rolekit import App, Message, Reject, Run, WorkerRole, gather, handle, wiring
from rolekit.config import Config
from rolekit.supervisor.host import OpenSequences
from rolekit.testing import run_app

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from rolekit.supervisor.host import Backlog
    from rolekit.wiring.hosting import Host

pytestmark = [pytest.mark.anyio, pytest.mark.servers]

PATIENT = {"Writer.whole": 600.0}


class Compose(Message):
    """What is split."""

    parts: list[str]


class Word(Message):
    """A part."""

    text: str


class Said(Message):
    """What closes a position."""

    text: str


class Writer(WorkerRole):
    """Splits, and never says "dead"."""

    @handle
    async def split(self, compose: Compose) -> list[Word]:
        return [Word(text=text) for text in compose.parts]

    @handle
    async def say(self, word: Word) -> Said:
        if word.text == "dead":
            raise Reject("no such word")
        return Said(text=word.text)

    @gather
    async def whole(self, compose: Compose, run: Run[Said]) -> None: ...


app = App("backlogs", roles=[Writer])


async def measured(database: str, *sent: Sequence[str], oldest_s: float = 600) -> Backlog:
    """Send these, wait until nothing moves, and measure."""
    async with run_app(app, database=database) as running:
        for parts in sent:
            await running.client.send(Compose(parts=list(parts)))
        await running.idle()
        async with wiring.open_host(app.name, database, "") as host:
            return await host.backlog(
                ["Writer.say", "Writer.whole"], {"Writer.whole": oldest_s}
            )


async def test_a_sequence_that_stands_still_is_measured(rolekit_database: str) -> None:
    backlog = await measured(rolekit_database, ["a", "dead", "c"], ["a", "b"])

    assert set(backlog.stood_s) == {"Writer.whole"}
    assert 0 <= backlog.stood_s["Writer.whole"] < 60
    assert [backlog.depths[name].waiting for name in ("Writer.say", "Writer.whole")] == [0, 0]


async def test_sequences_in_flight_are_counted(rolekit_database: str) -> None:
    async with run_app(app, database=rolekit_database) as running:
        for parts in (["dead"], ["a", "b"], ["c", "dead"]):
            await running.client.send(Compose(parts=parts))
        await running.idle()
        async with wiring.open_host(app.name, rolekit_database, "") as host:
            found = await host.open_sequences(["Writer.whole", "Writer.nothing"])

    assert found["Writer.whole"].count == 2
    assert 0 <= found["Writer.whole"].stood_s < 60
    assert found["Writer.nothing"] == OpenSequences(0, 0.0)


async def test_one_that_stood_for_longer_than_asked_is_not(rolekit_database: str) -> None:
    assert (await measured(rolekit_database, ["dead"], oldest_s=0)).stood_s == {}


async def test_where_no_sequence_is_open_nothing_stands(rolekit_database: str) -> None:
    assert (await measured(rolekit_database, ["a", "b"])).stood_s == {}


async def test_hosts_that_run_a_role_are_counted_and_others_not(rolekit_database: str) -> None:
    await wiring.migrate(app.name, rolekit_database)

    def host(*roles: str) -> AbstractAsyncContextManager[Host]:
        return wiring.open_host(app.name, rolekit_database, "", roles=roles)

    async with host("Writer") as one, host("Other"):
        alone = (await one.backlog([], {})).hosts
        async with host("Writer", "Other"):
            both = (await one.backlog([], {})).hosts
        again = (await one.backlog([], {})).hosts

    assert alone == again == {"Writer": 1, "Other": 1}
    assert both == {"Writer": 2, "Other": 2}


async def test_queues_of_a_broker_are_measured_there(
    rolekit_database: str, broker_url: str
) -> None:
    plan = app.plan()
    await wiring.migrate(app.name, rolekit_database, broker_url, plan.queues())
    config = Config(database=rolekit_database, broker=broker_url)
    async with wiring.open_client(app, config) as client:
        await client.send_many([Compose(parts=["a"]) for _ in range(3)])

    async with wiring.open_host(app.name, rolekit_database, broker_url, plan.queues()) as host:
        backlog = await host.backlog(["Writer.split"], PATIENT)

    assert backlog.depths["Writer.split"].waiting == 3
    assert backlog.stood_s == {}
