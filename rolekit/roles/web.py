"""WebRole: where people and programs come in."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rolekit.errors import RolekitError
from rolekit.roles.base import Role

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from typing import Any

    from rolekit.flow.client import Client
    from rolekit.flow.context import Transaction

    ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


class WebRole(Role):
    """A role that answers HTTP: its methods under `rolekit.web` decorators, and mounted apps.

    `GET /healthz` answers "ok" unless the role or an app mounted there has it.

    Attributes:
        bind: "host:port"; the socket is shared by all instances.
        mounts: ASGI apps by prefix, "/" for the rest. Their lifespans are run, and Starlette
            and FastAPI apps get handlers for rolekit's errors.
        max_body_bytes: Of any body. A body that becomes a message is bounded more tightly.
        client: The way into the app; there from `on_start` on.
    """

    bind: ClassVar[str | None] = "127.0.0.1:8000"
    mounts: ClassVar[Mapping[str, ASGIApp]] = {}
    max_body_bytes: ClassVar[int] = 32 << 20
    client: Client

    _open_tx: Callable[[], AbstractAsyncContextManager[Transaction]] | None = None

    def tx(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction of its own on the app's database, committed on leaving.

        What is sent meanwhile is not part of it.

        Raises:
            RolekitError: The role does not run in an instance, so there is no database.
        """
        if self._open_tx is None:
            raise RolekitError(
                f"{type(self).__name__}.tx() was called outside a running instance.",
                fix="In a test, run the role with rolekit.testing.run_app and a database.",
            )
        return self._open_tx()


def attach_front(
    role: WebRole,
    client: Client,
    open_tx: Callable[[], AbstractAsyncContextManager[Transaction]],
) -> None:
    """Give a front what only its host can, before `on_start`."""
    role.client = client
    role._open_tx = open_tx  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
