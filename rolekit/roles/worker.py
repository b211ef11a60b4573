"""The role that handles messages."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, ClassVar

from rolekit.errors import AppError
from rolekit.observe import taking
from rolekit.roles.base import Role

if TYPE_CHECKING:
    from socket import socket

    from rolekit.flow.client import Client
    from rolekit.flow.context import Context


class WorkerRole(Role):
    """Handles messages with the methods that `@handle` and `@gather` mark.

    A host runs `run` beside the handlers only where a subclass overrides it, and enters
    `around` only where a subclass overrides it.

    Attributes:
        concurrency: Handlers running at once, in one instance. Their queues take turns; where
            there are two places a handler or more, one stays kept for each that runs nothing.
        partitions: Into how many the keys of its keyed handlers are divided: so many
            instances have work at most. Senders compute with it, so it is no setting.
    """

    concurrency: ClassVar[int] = 20
    partitions: ClassVar[int] = 16

    @property
    def listening(self) -> socket:
        """The socket of `bind`, listening.

        Raises:
            AppError: The role has no `bind`, or no host has started it.
        """
        if self._listening is None:
            raise AppError(
                f"{type(self).__name__}.listening was read, but there is no socket: "
                f"bind is {self.bind!r}.",
                fix='Set bind = "host:port" on the class, and let a host start it.',
            )
        return self._listening

    async def run(self, client: Client) -> None:
        """Run a loop of your own beside the handlers; returning recycles the instance."""
        del client

    def traced(
        self, name: str, **attributes: str | int
    ) -> AbstractContextManager[taking.Taking]:
        """Let a trace begin with what `run` takes in, and with it all that is sent inside.

        Args:
            name: What is done, as "DATA" of a listener for mail; few different ones.
            attributes: By their OpenTelemetry names, with `__` for a dot.
        """
        return taking.taking(self._tracer, name, **attributes)

    def around(self, ctx: Context) -> AbstractAsyncContextManager[None]:
        """Wrap each call of a handler: a tenant, an error tracker, a stop watch."""
        del ctx
        return nullcontext()
