"""A whole app in one loop, with faults on demand and a clock that a test moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    import httpx

    from rolekit.flow.client import Client
    from rolekit.model.parts import DeadLetter
    from rolekit.roles.app import App
    from rolekit.roles.base import Role
    from rolekit.roles.web import WebRole

R = TypeVar("R")


class Running:
    """An app that runs within a test.

    Attributes:
        client: Sends into it.
        dead: Messages that died, in order.
    """

    client: Client
    dead: list[DeadLetter[object]]

    async def idle(self, *, timeout_s: float = 5) -> None:
        """Wait until nothing is queued, in hand or due now."""
        raise NotImplementedError

    async def advance(self, seconds: float, /) -> None:
        """Move the clock: delays, back-off, deadlines; then wait until idle."""
        raise NotImplementedError

    def seen(self, cls: type[R], /) -> list[R]:
        """Return every message of this class, in the order they were sent."""
        raise NotImplementedError

    async def kill(self, role: type[Role], /) -> None:
        """Let a role crash in the middle of what it holds, and start it again."""
        raise NotImplementedError

    def http(self, role: type[WebRole], /) -> httpx.AsyncClient:
        """Return a client that talks to a web role without a socket."""
        raise NotImplementedError


def run_app(  # noqa: PLR0913 - each has a default and is named
    app: App,
    *,
    broker: str = "memory",
    database: str = "memory",
    only: Sequence[type[Role]] = (),
    faults: Literal["none", "repeat", "shuffle"] = "none",
    seed: int = 0,
    settings: Mapping[str, object] | None = None,
) -> AbstractAsyncContextManager[Running]:
    """Run all roles of an app in this loop.

    Args:
        app: Checked first.
        broker: URL, or "memory".
        database: URL, or "memory", where writes are recorded and `ctx.tx` is refused.
        only: Roles to run; all of them when empty.
        faults: "repeat" delivers everything twice, "shuffle" in any order.
        seed: Of the shuffling.
        settings: Of roles, such as {"Payments.api_key": "k"}.
    """
    raise NotImplementedError
