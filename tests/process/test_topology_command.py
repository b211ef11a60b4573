"""`rolekit topology` as users run it: tables, exit codes, and an end by kill -9."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from rolekit.testing.faults import Direction, Frame, Proxy, Verdict
from rolekit.transport.rabbitmq.topology import Names
from rolekit.wiring import open_host
from tests.integration.rabbit_queues import channel_to, fill, ids_in, message_of
from tests.process.test_bad_input import APP, Command, ended

if TYPE_CHECKING:
    from pathlib import Path

    from rolekit.testing.broker import PrivateBroker

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(60)]

WORK = Names("bad").of("Work.work")
IDS = [f"{number:04}" for number in range(150)]


def command(tmp_path: Path, database: str, broker: str) -> Command:
    return Command(tmp_path, database, ROLEKIT_APP=f"{APP}:app", ROLEKIT_BROKER=broker)


async def test_plan_and_apply_make_a_queue_anew_and_say_what_they_did(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    rolekit = command(tmp_path, database_url, broker_url)
    await fill(broker_url, WORK, IDS[:3], message_ttl=3_600_000)
    async with channel_to(broker_url) as channel:
        direct = await channel.get_exchange("amq.direct")
        await (await channel.get_queue(WORK)).bind(direct, "k")

    refused = await rolekit.run("up")
    planned = await rolekit.run("topology", "plan")
    data = json.loads((await rolekit.run("topology", "plan", "--json")).out)
    applied = await rolekit.run("topology", "apply", "--bound", f"{WORK}=amq.direct:k")
    again = await rolekit.run("topology", "plan")

    assert refused.code == 2
    what, remedy = refused.err.splitlines()[-2:]
    assert what == (
        f"rolekit: Queue {WORK} is on the broker with other arguments: x-queue-type is not set "
        "(classic), quorum is wanted (4 more)."
    )
    assert "`rolekit topology apply` migrates them" in remedy
    assert planned.code == 1
    heading, *rows = planned.out.splitlines()
    assert heading.split() == ["QUEUE", "STATE", "DIFFERENCE", "APPLY", "WOULD"]
    (line,) = (row for row in rows if row.startswith(WORK))
    assert "differs  x-queue-type is not set (classic), quorum is wanted" in line
    assert line.rstrip().endswith("make it anew, with its 3 messages")
    assert f"apply --bound {WORK}=EXCHANGE:KEY" in planned.err
    assert "x-message-ttl is 3600000, nothing is wanted: messages that wait" in planned.out
    (work,) = (one for one in data if one["queue"] == WORK)
    assert (work["state"], work["messages"], work["consumers"]) == ("differs", 3, 0)
    assert work["differences"][0] == {
        "argument": "x-queue-type", "there": None, "wanted": "quorum"
    }  # fmt: skip
    assert applied.code == 0
    assert f"{WORK}: made anew, 3 messages moved, missing for " in applied.out
    assert f"What was published to {WORK} by its name in that moment" in applied.err
    assert again.code == 0
    assert "differs" not in again.out
    async with channel_to(broker_url) as channel:
        await (await channel.get_exchange("amq.direct")).publish(message_of("bound"), "k")
    assert await ids_in(broker_url, WORK) == [*IDS[:3], "bound"]


async def test_a_running_app_is_left_alone(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    rolekit = command(tmp_path, database_url, broker_url)
    await rolekit.run("migrate")
    async with open_host("bad", database_url, broker_url):
        said = await Command(
            tmp_path, database_url, ROLEKIT_APP=f"{APP}:app", ROLEKIT_BROKER=broker_url,
            ROLEKIT_QUEUE_TYPE="classic",
        ).run("topology", "apply")  # fmt: skip

    assert said.code == 1
    assert "The app is running (1 host holds a lease)" in said.err
    assert "`rolekit stop`" in said.err


async def test_queues_in_the_database_need_no_plan(tmp_path: Path, database_url: str) -> None:
    rolekit = Command(tmp_path, database_url, ROLEKIT_APP=f"{APP}:app")

    said = await rolekit.run("topology", "plan", "--json")

    assert said.code == 0
    assert json.loads(said.out) == []
    assert "in the database" in said.err


@pytest.mark.parametrize(("name", "at"), [("Basic.Publish", 75), ("Queue.Delete", 1)])
async def test_apply_killed_and_run_again_moves_everything_in_order(
    name: str, at: int, tmp_path: Path, database_url: str, broker_url: str,
    rolekit_broker_server: PrivateBroker,
) -> None:  # fmt: skip
    await fill(broker_url, WORK, IDS)
    reached = asyncio.Event()
    seen = 0

    def on_frame(direction: Direction, frame: Frame) -> Verdict:
        nonlocal seen
        if direction is Direction.TO_SERVER and frame.name == name:
            seen += 1
            if seen == at:
                reached.set()
                proxy.to_client.stall()  # so that it gets no further before it is killed
        return Verdict.PASS

    async with Proxy("127.0.0.1", rolekit_broker_server.port) as proxy:
        proxy.on_frame = on_frame
        through = command(tmp_path, database_url, proxy.url(broker_url))
        applying = await through.start("topology", "apply")
        await reached.wait()
        applying.kill()
        await ended(applying)
    said = await command(tmp_path, database_url, broker_url).run("topology", "apply")

    found = await ids_in(broker_url, WORK)
    assert said.code == 0, said.err
    assert list(dict.fromkeys(found)) == IDS
