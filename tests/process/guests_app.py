"""A role with twenty guests in all three hosts; its token is told by the environment."""

from __future__ import annotations

import os

from rolekit import App, Message, VMRole, handle
from rolekit.guest import Container, Exec, Guest, Lines, Process, Sandbox
from tests.process.guest_programs import actor, once

TOKEN = os.environ["GUESTS_TOKEN"]
DEBIAN = Container(image=os.environ.get("GUESTS_IMAGE", "rolekit-test:base"))


class Job(Message):
    """Nothing to do."""


class Legacy(VMRole):
    """Has twenty guests."""

    process = Guest(Lines(*actor(TOKEN)), host=Process(), pool=7)
    sandbox = Guest(Lines(*actor(TOKEN)), host=Sandbox(), pool=7)
    container = Guest(Lines(*actor(TOKEN)), host=DEBIAN, pool=5)
    runs = Guest(Exec(*once(TOKEN)), host=DEBIAN)

    @handle
    async def work(self, job: Job) -> None:
        await self.container.ask(b"fine")


app = App("guests", roles=[Legacy])
