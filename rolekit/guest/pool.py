"""A guest as a class attribute of a role: declared there, a pool on an instance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar, cast, overload

from rolekit.errors import RolekitError

if TYPE_CHECKING:
    from rolekit.guest.hosts import Process, Sandbox

G = TypeVar("G")
G_co = TypeVar("G_co", covariant=True)


class Speaks(Protocol[G_co]):
    """How a guest is spoken to; a protocol of your own has this one method."""

    def open(self, stdin: object, stdout: object, /) -> G_co:
        """Return what a handler uses, on the pipes of a running guest."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run of a guest may use.

    Attributes:
        time_s: Seconds, then it is killed.
        memory_mb: Of all its processes together.
        output_mb: Of what it writes.
        pids: Processes at once.
    """

    time_s: float = 60
    memory_mb: int = 512
    output_mb: int = 16
    pids: int = 64


class Guest(Generic[G]):
    """An existing program, put to work by a role.

    On the class it is the declaration, on an instance what `speaks` returns.

    Args:
        speaks: Protocol: `Exec`, `Lines`, or one of your own.
        host: Where it lives.
        limits: What one run may use.
        pool: Guests at once, in one instance.
    """

    def __init__(
        self,
        speaks: Speaks[G],
        /,
        *,
        host: Process | Sandbox,
        limits: Limits = Limits(),
        pool: int = 1,
    ) -> None:
        self.speaks = speaks
        self.host = host
        self.limits = limits
        self.pool = pool
        self._name = ""

    def __set_name__(self, owner: type[object], name: str) -> None:
        """Learn the name of the attribute."""
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type[object]) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[object]) -> G: ...
    def __get__(self, instance: object | None, owner: type[object]) -> Self | G:
        """Return the declaration from a class, the running guest from an instance.

        Raises:
            RolekitError: No host has started the role.
        """
        if instance is None:
            return self
        try:
            return cast("G", vars(instance)[f"guest:{self._name}"])
        except KeyError:
            raise RolekitError(
                f"{owner.__name__}.{self._name} is a guest that no host has started.",
                fix="In a test, give it one: rolekit.testing.set_guest(role, name, guest).",
            ) from None

    def place(self, instance: object, guest: G) -> None:
        """Let this be the running guest of one instance."""
        vars(instance)[f"guest:{self._name}"] = guest
