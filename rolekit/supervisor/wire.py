"""What supervisor and zygote say to each other: JSON records, with open files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from rolekit.config import nearest
from rolekit.errors import AppError, ConfigError
from rolekit.link import InstanceSpec
from rolekit.supervisor.channel import Incoming, Outgoing

if TYPE_CHECKING:
    from collections.abc import Collection

RELAY = "(relay)"
"""The built-in role that moves what is due and keeps house."""


class Bounds(msgspec.Struct, frozen=True):
    """Between how many instances a role may be scaled, and for which age of its messages."""

    min: int
    max: int
    target_age_s: float = 10


class RoleSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One role, as far as a supervisor needs to know it.

    Attributes:
        name: Class name.
        is_web: Takes HTTP; stops first.
        instances: As the class says.
        bind: "host:port", or None: it needs no socket.
        scale: Bounds, or None: any number.
        handlers: Names of its handlers.
        queues: Of its handlers, and of the partitions of its keys.
        partitions: Into how many its keys are divided; 0: it has none.
        concurrency: Deliveries one instance works on side by side, as the class says.
        feeds: Names of the gathers that what it returns can end up in.
        limits: Of its instances, as the class says; see `model.recycling`.
        containers: What a launcher may start for it; as `rolekit.guest.container.Order`.
    """

    name: str
    is_web: bool = False
    instances: int = 1
    bind: str | None = None
    scale: Bounds | None = None
    handlers: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    partitions: int = 0
    concurrency: int = 1
    feeds: tuple[str, ...] = ()
    limits: dict[str, object] = {}
    containers: tuple[dict[str, Any], ...] = ()


class Problem(msgspec.Struct, frozen=True):
    """Why an app cannot start, and what to do about it."""

    what: str
    fix: str = ""


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Supervisor to zygote, first: import this app, and this function to run instances.

    Attributes:
        broker: As the settings name it; what instances need for it is loaded once, here.
        start_method: How instances are started: "fork", or "spawn".
    """

    app: str
    target: str
    broker: str = ""
    start_method: str = "fork"


class Fork(msgspec.Struct, frozen=True, tag="fork"):
    """Supervisor to zygote: start an instance. Descriptors: line, then sockets if any."""

    number: int
    spec: InstanceSpec


class Signal(msgspec.Struct, frozen=True, tag="signal"):
    """Supervisor to zygote: signal this instance, where the supervisor has no pidfd."""

    number: int
    signal: int


class Described(msgspec.Struct, frozen=True, tag="described", kw_only=True):
    """Zygote to supervisor: the app is there; this is what it is made of.

    Attributes:
        roles: That this supervisor runs.
        sources: Queues of other programs, by the handler that takes from them.
        elsewhere: Roles of the app that other supervisors run.
    """

    app: str
    roles: tuple[RoleSummary, ...] = ()
    problems: tuple[Problem, ...] = ()
    sources: dict[str, str] = {}
    elsewhere: tuple[RoleSummary, ...] = ()

    @property
    def queues(self) -> list[str]:
        """Names of all queues of handlers and partitions, of the whole app."""
        return [name for role in self._all for name in role.queues]

    @property
    def partitions(self) -> dict[str, int]:
        """Into how many the keys of roles are divided, of those that have any."""
        return {role.name: role.partitions for role in self._all if role.partitions}

    @property
    def names(self) -> list[str]:
        """Of all roles of the app."""
        return [role.name for role in self._all]

    @property
    def names_here(self) -> list[str]:
        """Of the roles that this supervisor runs."""
        return [role.name for role in self.roles]

    @property
    def _all(self) -> tuple[RoleSummary, ...]:
        return (*self.roles, *self.elsewhere)

    def only(self, names: Collection[str]) -> Described:
        """Return the app with these roles to run here, and the others elsewhere.

        Raises:
            ConfigError: It has no such role.
        """
        for name in names:
            if name not in self.names:
                raise ConfigError(
                    f"{self.app} has no role {name}.{nearest(name, self.names)}",
                    fix=f"Its roles are {', '.join(self.names)}.",
                )
        here = tuple(role for role in self._all if role.name in names)
        others = tuple(role for role in self._all if role.name not in names)
        return msgspec.structs.replace(self, roles=here, elsewhere=others)


class Broken(msgspec.Struct, frozen=True, tag="broken"):
    """Zygote to supervisor: the app cannot be imported; the zygote ends.

    Attributes:
        problem: The sentence for the user.
        is_usage: The name of the app is wrong, rather than its code.
        traceback: The user's own frames, or empty.
    """

    problem: Problem
    is_usage: bool = False
    traceback: str = ""


class AppBroken(AppError):
    """The app cannot start; all its problems, and the user's frames if its code raised."""

    def __init__(self, app: str, problems: tuple[Problem, ...], *, traceback: str = "") -> None:
        super().__init__(problems[0].what, fix=problems[0].fix)
        self.app = app
        self.problems = problems
        self.traceback = traceback


class Started(msgspec.Struct, frozen=True, tag="started"):
    """Zygote to supervisor: this instance runs.

    Descriptors: what it prints; then its pidfd, where the system has such.
    """

    number: int
    pid: int


class NotStarted(msgspec.Struct, frozen=True, tag="not_started"):
    """Zygote to supervisor: no instance was started, and why."""

    number: int
    why: str


class Exited(msgspec.Struct, frozen=True, tag="exited"):
    """Zygote to supervisor: it ended; status as `os.waitstatus_to_exitcode` gives it."""

    number: int
    status: int


ToZygote = Load | Fork | Signal
FromZygote = Described | Broken | Started | NotStarted | Exited

_encoder = msgspec.json.Encoder()
_to_zygote = msgspec.json.Decoder(ToZygote)
_from_zygote = msgspec.json.Decoder(FromZygote)


def outgoing(record: ToZygote | FromZygote, fds: tuple[int, ...] = ()) -> Outgoing:
    """Make a record ready to be sent, with open descriptors."""
    return Outgoing(_encoder.encode(record), fds)


def receive_order(
    incoming: Incoming, *, waits: bool = True
) -> tuple[ToZygote, list[int]] | None:
    """Wait for the next order; None when the supervisor is gone.

    Raises:
        BlockingIOError: Nothing has come, and `waits` is off.
    """
    found = incoming.next(waits=waits)
    return None if found is None else (_to_zygote.decode(found[0]), found[1])


def receive_report(incoming: Incoming) -> tuple[FromZygote, list[int]] | None:
    """Take the next report; None when the zygote is gone.

    Raises:
        BlockingIOError: Nothing has come; only on a socket that does not block.
    """
    found = incoming.next()
    return None if found is None else (_from_zygote.decode(found[0]), found[1])
