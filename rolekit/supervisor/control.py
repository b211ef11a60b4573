"""The control API, as a table: what a running fleet can be asked and told over HTTP.

    control          this table, and what is said and answered (`describe` makes OpenAPI of it)
    control_server   answers on a Unix socket, and on TCP where that is asked for
    control_access   lets in who has the token, on TCP
    control_openapi  the table as an OpenAPI document, which GET /openapi.json serves

An order is a struct: the JSON body of a POST, the query of a GET. Errors are a
`ControlProblem` with status 400 (it cannot be done: what, and what to do), 401 and 429 (the
token, see `control_access`), 404, 405 and 413.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import msgspec

from rolekit.supervisor.control_logs import LogLine, LogsOrder
from rolekit.supervisor.control_restart import RestartNews, RestartOrder
from rolekit.supervisor.status import FleetStatus
from rolekit.supervisor.usage import FleetUsage

if TYPE_CHECKING:
    from rolekit.supervisor.upgrades import Restart, Wish

Order = TypeVar("Order", bound=msgspec.Struct)
Answer = Awaitable[msgspec.Struct] | AsyncIterator[msgspec.Struct]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An order without particulars."""


AUTO = "auto"
"""Said instead of a number of instances: the role's rule decides."""


class ScaleOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many instances a role should have: "5", "+2" or "-2", or "auto"."""

    role: str
    count: str


class Scaled(msgspec.Struct, frozen=True):
    """How many instances a role should have now."""

    role: str
    instances: int


class DrainOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Let a role finish what it has in hand, and take no more; `undo`: take it up again."""

    role: str
    undo: bool = False


class Drained(msgspec.Struct, frozen=True):
    """How many instances a role has again when it is taken up again, or has now."""

    role: str
    instances: int


class StopOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Stop; `hard` does not wait for what is in hand."""

    hard: bool = False


class Reloaded(msgspec.Struct, frozen=True):
    """What changed settings led to, a sentence each."""

    done: list[str]


class Stopping(msgspec.Struct, frozen=True):
    """It stops."""

    stopping: bool = True


class Readiness(msgspec.Struct, frozen=True):
    """Whether every role has all its instances, and each is ready."""

    ready: bool


class ControlProblem(msgspec.Struct, frozen=True):
    """Why a request was refused, and what to do about it."""

    what: str
    fix: str = ""


class Readable(Protocol):
    """What says how it is, in numbers."""

    async def metrics(self) -> str:
        """Say all numbers, as Prometheus wants them."""
        ...

    def is_ready(self) -> bool:
        """Say whether all is as it should be."""
        ...


class Controlled(Readable, Protocol):
    """What can be looked at and told."""

    async def status(self) -> FleetStatus:
        """Describe it."""
        ...

    async def usage(self) -> FleetUsage:
        """Describe it, and what it uses."""
        ...

    def scale(self, role: str, change: str) -> int:
        """Change a role's number of instances; raises `ConfigError`."""
        ...

    def logs(self, order: LogsOrder) -> AsyncIterator[LogLine]:
        """Give lines that were printed; raises `ConfigError`."""
        ...

    def drain(self, role: str, *, undo: bool) -> int:
        """Drain a role, or take it up again; raises `ConfigError`."""
        ...

    def restart(self, wish: Wish) -> Restart:
        """Begin a rolling restart; raises `ConfigError`."""
        ...

    async def reload(self) -> list[str]:
        """Read the settings again and apply them; raises `ConfigError`."""
        ...

    def ask_to_stop(self, *, hard: bool) -> None:
        """Begin to stop."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(Generic[Order]):
    """One thing that can be asked or told.

    Attributes:
        act: Does it; refuses before it gives an iterator of a stream.
        order: What it is given.
        answer: What it answers, or each line of a stream is.
        is_stream: The answer comes in lines, each a JSON object, as things happen.
        is_public: Needs no token, so it must tell nothing.
    """

    method: Literal["GET", "POST"]
    path: str
    summary: str
    act: Callable[[Controlled, Order], Answer]
    order: type[Order]
    answer: type[msgspec.Struct]
    is_stream: bool = False
    is_public: bool = False


async def _ps(fleet: Controlled, _: Nothing) -> FleetStatus:
    return await fleet.status()


async def _top(fleet: Controlled, _: Nothing) -> FleetUsage:
    return await fleet.usage()


async def _ready(fleet: Controlled, _: Nothing) -> Readiness:
    return Readiness(fleet.is_ready())


async def _scale(fleet: Controlled, order: ScaleOrder) -> Scaled:
    return Scaled(order.role, fleet.scale(order.role, order.count))


def _logs(fleet: Controlled, order: LogsOrder) -> AsyncIterator[LogLine]:
    return fleet.logs(order)


async def _restart(fleet: Controlled, order: RestartOrder) -> AsyncIterator[RestartNews]:
    # The command line reads this table as well, and need not know how fleets are renewed.
    from rolekit.supervisor.restarting import told  # noqa: PLC0415

    async for news in told(fleet.restart, order):
        yield news


async def _drain(fleet: Controlled, order: DrainOrder) -> Drained:
    return Drained(order.role, fleet.drain(order.role, undo=order.undo))


async def _reload(fleet: Controlled, _: Nothing) -> Reloaded:
    return Reloaded(await fleet.reload())


async def _stop(fleet: Controlled, order: StopOrder) -> Stopping:
    fleet.ask_to_stop(hard=order.hard)
    return Stopping()


ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint(
        method="GET",
        path="/ps",
        summary="Say how each role and instance is",
        act=_ps,
        order=Nothing,
        answer=FleetStatus,
    ),
    Endpoint(
        method="GET",
        path="/top",
        summary="Say how each role and instance is, and what it uses",
        act=_top,
        order=Nothing,
        answer=FleetUsage,
    ),
    Endpoint(
        method="GET",
        path="/ready",
        summary="Say whether all is ready; status 503 if not",
        act=_ready,
        order=Nothing,
        answer=Readiness,
        is_public=True,
    ),
    Endpoint(
        method="POST",
        path="/scale",
        summary="Change how many instances a role has",
        act=_scale,
        order=ScaleOrder,
        answer=Scaled,
    ),
    Endpoint(
        method="GET",
        path="/logs",
        summary="Give what instances and supervisor printed, and follow it",
        act=_logs,
        order=LogsOrder,
        answer=LogLine,
        is_stream=True,
    ),
    Endpoint(
        method="POST",
        path="/drain",
        summary="Let a role finish and take no more, or take it up again",
        act=_drain,
        order=DrainOrder,
        answer=Drained,
    ),
    Endpoint(
        method="POST",
        path="/restart",
        summary="Replace instances by new ones, which run the code as it is now",
        act=_restart,
        order=RestartOrder,
        answer=RestartNews,
        is_stream=True,
    ),
    Endpoint(
        method="POST",
        path="/reload",
        summary="Read the settings again, and have instances take what changed",
        act=_reload,
        order=Nothing,
        answer=Reloaded,
    ),
    Endpoint(
        method="POST",
        path="/stop",
        summary="Stop the fleet, after this is answered",
        act=_stop,
        order=StopOrder,
        answer=Stopping,
    ),
)
