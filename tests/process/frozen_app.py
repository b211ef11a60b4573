"""An app that says how much of it collections of garbage pass over."""

from __future__ import annotations

import gc

from rolekit import App, Context, Message, WorkerRole, handle

MANY = 20_000
"""Objects that an app and its drivers are, at least."""


class Never(Message):
    """Nobody sends it."""


class Frozen(WorkerRole):
    """Looks when it starts."""

    async def on_start(self) -> None:
        """Say it."""
        print("passes over it:", gc.get_freeze_count() > MANY, gc.isenabled(), flush=True)  # noqa: T201 - read by the test

    @handle
    async def never(self, message: Never, ctx: Context) -> None:
        """Do nothing."""


app = App("frozen", roles=[Frozen])
