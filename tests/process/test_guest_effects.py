"""Messages whose guests fail: one effect each, in an instance that lives on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import structlog

from rolekit import App, Backoff, Context, Message, VMRole, handle
from rolekit.guest import Container, Exec, Guest, Lines, Process, Sandbox
from rolekit.testing import run_app
from tests.process.guest_programs import BRIEF, Leftovers, actor, leftovers_in, once

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.engine import PrivateEngine

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

FAULTS = ("exit", "kill", "hang", "garbage", "flood", "partial", "bomb", "hog", "last", "fill")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Job(Message):
    """What a guest is told to do at the first attempt."""

    told: str


@pytest.fixture
def left(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Leftovers]:
    if "container" in request.node.name:
        engine: PrivateEngine = request.getfixturevalue("engine")
        monkeypatch.setenv("DOCKER_HOST", engine.url)
    leftovers = leftovers_in(tmp_path, monkeypatch)
    yield leftovers
    if "container" in request.node.name:
        assert request.getfixturevalue("engine").docker("ps", "--all", "--quiet") == ""
    assert leftovers.all() == []


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "host",
    [Process(), Sandbox(), Container(image="rolekit-test:base")],
    ids=["process", "sandbox", "container"],
)
async def test_each_message_has_one_effect_whatever_its_guests_do(
    host: Process | Sandbox | Container, left: Leftovers
) -> None:
    born: list[object] = []

    class Legacy(VMRole):
        stays = Guest(Lines(*actor(left.token)), host=host, limits=BRIEF, pool=2)
        runs = Guest(Exec(*once(left.token)), host=host, limits=BRIEF, pool=2)

        async def on_start(self) -> None:
            born.append(self)

        @handle(retry=Backoff(attempts=9))
        async def work(self, job: Job, ctx: Context) -> None:
            told = job.told if ctx.attempt == 1 else "fine"
            await self.stays.ask(told.encode())
            await self.runs.run(b"", told)
            ctx.write("insert into done values ($1)", job.told)

    app = App("legacy", roles=[Legacy])
    async with run_app(app) as running:
        for fault in FAULTS:
            await running.client.send(Job(told=fault))
        await running.idle(timeout_s=90)
        await running.advance(3600)

        assert sorted(args[0] for _, args in running.writes) == sorted(FAULTS)  # type: ignore[type-var]
        assert running.dead == []
        assert len(born) == 1


async def test_a_guest_is_told_its_message_and_so_is_the_log(left: Leftovers) -> None:
    class Legacy(VMRole):
        program = Guest(
            Exec("sh", "-c", "echo $ROLEKIT_MESSAGE_ID $TRACEPARENT >&2", left.token),
            host=Process(),
        )

        @handle
        async def work(self, job: Job) -> None:
            await self.program.run()

    with structlog.testing.capture_logs() as logs:
        async with run_app(App("legacy", roles=[Legacy])) as running:
            receipt = await running.client.send(Job(told=""), headers={"traceparent": TRACE})
            await running.client.send(Job(told=""), headers={"traceparent": "no\0trace"})
            await running.idle()

    said, untraced = sorted(
        (line for line in logs if line["event"] == "a guest says"), key=lambda line: -len(line)
    )
    assert said["said"] == f"{said['message']} {TRACE}"
    assert said["message"].startswith(receipt.id)
    assert said["trace"] == TRACE.split("-")[1]
    assert untraced["said"].strip() == untraced["message"]


async def test_a_status_that_rejects_makes_a_dead_letter_at_once(left: Leftovers) -> None:
    class Legacy(VMRole):
        program = Guest(Exec("sh", "-c", "echo no such user >&2; exit 67"), host=Process())

        @handle
        async def work(self, job: Job) -> None:
            await self.program.run()

    async with run_app(App("legacy", roles=[Legacy])) as running:
        await running.client.send(Job(told=""))
        await running.idle()

        dead: list[Any] = running.dead
        assert [(each.reason, each.attempts) for each in dead] == [
            ("exit status 67: no such user", 1)
        ]
