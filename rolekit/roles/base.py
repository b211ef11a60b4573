"""What every role has: instances, a life cycle, resources of its own."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, TypeVar

from rolekit.errors import RolekitError
from rolekit.model.recycling import START_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from socket import socket

    from rolekit.model.policy import Scale
    from rolekit.observe.tracing import Tracer

X = TypeVar("X")


class Role:
    """One kind of process in an app; each instance is a copy of it.

    Making one takes no arguments and does nothing, so a test can call its methods. The
    host of a running instance sets four private attributes before `on_start`:

    - `_resources`: an open `AsyncExitStack`, closed after `on_stop`; `enter` fills it.
    - `_listening`: the socket of `bind`, opened by the supervisor; None without `bind`.
    - `_on_pause`: called with True when the first `paused` block begins, with False when
      the last one ends.
    - `_tracer`: says which messages are traced; None: nothing is traced.

    Attributes:
        instances: How many copies run on a host, unless settings or `scale` say otherwise.
        scale: Between how many copies the fleet may move by itself.
        bind: "host:port"; the socket is the supervisor's and shared by all instances.
        max_age_s: An instance is replaced after so long at most; None: never.
        max_messages: And after so many deliveries, or requests of a WebRole,
        max_memory_mb: and when it has so much memory; it cannot get more than twice that.
        start_s: An instance is ready after so long at most, or ended and tried again.
    """

    instances: ClassVar[int] = 1
    scale: ClassVar[Scale | None] = None
    bind: ClassVar[str | None] = None
    max_age_s: ClassVar[float | None] = None
    max_messages: ClassVar[int | None] = None
    max_memory_mb: ClassVar[float | None] = None
    start_s: ClassVar[float] = START_S

    _resources: AsyncExitStack | None = None
    _listening: socket | None = None
    _on_pause: Callable[[bool], None] | None = None
    _pauses: int = 0
    _tracer: Tracer | None = None

    async def on_start(self) -> None:
        """Get ready; no work is given before this returns."""

    async def on_stop(self) -> None:
        """Put things away; nothing is in hand any more. Bounded by the grace period."""

    async def on_change(self, changed: Mapping[str, object]) -> bool:
        """Take new settings while running.

        Args:
            changed: The settings that changed, by name, already set on the instance.

        Returns:
            False to be replaced by a fresh instance, True when that is not needed.
        """
        del changed
        return False

    async def enter(self, resource: AbstractAsyncContextManager[X], /) -> X:
        """Enter a resource of this instance; it is left after `on_stop`, last one first.

        Raises:
            RolekitError: The instance does not run.
        """
        if self._resources is None:
            raise RolekitError(
                f"{type(self).__name__}.enter was called on a role that no host has started.",
                fix="Set the attribute yourself in a test of one method, or use run_app.",
            )
        return await self._resources.enter_async_context(resource)

    @asynccontextmanager
    async def paused(self) -> AsyncGenerator[None]:
        """Take no new work inside the block; what is in hand goes on. Blocks may nest."""
        self._pauses += 1
        self._tell(paused=True)
        try:
            yield
        finally:
            self._tell(paused=False)
            self._pauses -= 1

    def _tell(self, *, paused: bool) -> None:
        if self._pauses == 1 and self._on_pause is not None:
            self._on_pause(paused)


def attach(
    role: Role,
    resources: AsyncExitStack,
    listening: socket | None,
    on_pause: Callable[[bool], None],
) -> None:
    """Give a role what only its host can, before `on_start`."""
    role._resources = resources  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    role._listening = listening  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    role._on_pause = on_pause  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
