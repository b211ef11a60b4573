"""The start and stop of ASGI apps, spoken as their server would."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from rolekit.errors import RolekitError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import ASGIApp, Message

STOP_S = 10.0


class _Lifespan:
    """One run of an app's lifespan; the app is called in a task of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.state: dict[str, Any] = {}
        self._asked = 0
        self._stop = anyio.Event()
        self.started = anyio.Event()
        self.stopped = anyio.Event()
        self.failure = ""

    async def run(self) -> None:
        """Call the app; an app that refuses the protocol has no lifespan, as in any server."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        try:
            await self._app(scope | {"state": self.state}, self._receive, self._send)
        except Exception as error:  # noqa: BLE001  the protocol's way to say "not supported"
            if self.started.is_set():
                self.failure = self.failure or f"{type(error).__name__}: {error}"
        finally:
            self.started.set()
            self.stopped.set()

    def stop(self) -> None:
        """Let the app stop."""
        self._stop.set()

    async def _receive(self) -> Message:
        self._asked += 1
        if self._asked == 1:
            return {"type": "lifespan.startup"}
        await self._stop.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        if message["type"].endswith(".failed"):
            told = str(message.get("message") or "it gave no reason").strip()
            self.failure = told.splitlines()[-1]  # Starlette sends a whole traceback
        (self.started if "startup" in message["type"] else self.stopped).set()


@asynccontextmanager
async def lifespan_of(app: ASGIApp) -> AsyncGenerator[dict[str, Any]]:
    """Run the lifespan of an app around a block.

    Yields:
        The state that the app wants to find in each of its requests.

    Raises:
        RolekitError: The app says that it cannot start, or at the end, that it did not stop.
    """
    lifespan = _Lifespan(app)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lifespan.run)
        await lifespan.started.wait()
        try:
            if not lifespan.failure:
                yield lifespan.state
        finally:
            lifespan.stop()
            with anyio.move_on_after(STOP_S, shield=True):
                await lifespan.stopped.wait()
            tasks.cancel_scope.cancel()
    _check(app, lifespan.failure)


def _check(app: ASGIApp, failure: str) -> None:
    if failure:
        name = getattr(app, "title", type(app).__name__)
        raise RolekitError(
            f"The lifespan of the mounted app {name} failed: {failure}.",
            fix="The error comes from that app; look at its lifespan function.",
        )
