"""When a supervisor has no more patience: never too soon, and for many at the same time."""

from __future__ import annotations

import asyncio
import signal
import socket
import time

import pytest

from rolekit import link
from rolekit.supervisor.forker import Birth
from rolekit.supervisor.instance import Instance, Patience

pytestmark = [pytest.mark.anyio]

SILENCE_S = 0.3
LOOK_S = 0.25
TERM_S = 0.01
COUNT = 12


class Silent:
    """A process that is ready, says nothing more, and ends when it is told to."""

    def __init__(self, number: int) -> None:
        self.name = f"Work/{number}"
        self.status: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self.begun_s = time.monotonic()
        self.ended_s = 0.0

    async def open(self) -> Instance:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.send(link.encode(link.Ready()))
        birth = Birth(pid=0, pidfd=None, status=self.status, ask=self.asked)
        patience = Patience(silence_s=SILENCE_S, term_s=TERM_S)
        return await Instance.open(self.name, birth, ours, patience)

    def asked(self, which: signal.Signals) -> None:
        if which == signal.SIGTERM:
            self.ended_s = time.monotonic()
            self.status.set_result(-which)


async def test_the_silent_are_ended_on_quarters_of_a_second_and_none_too_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    due_s: list[float] = []
    sleep = asyncio.sleep

    async def noted(delay_s: float) -> None:
        if delay_s > TERM_S:
            due_s.append(time.monotonic() + delay_s)
        await sleep(delay_s)

    monkeypatch.setattr("rolekit.supervisor.instance.asyncio.sleep", noted)
    silent: list[Silent] = []
    async with asyncio.timeout(20), asyncio.TaskGroup() as living:
        for number in range(COUNT):
            silent.append(Silent(number))
            living.create_task((await silent[-1].open()).live())
            await sleep(LOOK_S / 7)

    assert all(one.ended_s - one.begun_s >= SILENCE_S for one in silent)
    away = [abs(one / LOOK_S - round(one / LOOK_S)) for one in due_s]
    assert away
    # What a busy machine holds up between two lines of code looks as if it were elsewhere.
    assert sum(one < 0.1 for one in away) >= len(away) * 2 / 3
