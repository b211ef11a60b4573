"""A guest as a class attribute of a role: declared there, a pool on an instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar, cast, overload

from rolekit.errors import RolekitError
from rolekit.guest.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rolekit.guest.container import Container
    from rolekit.guest.hosts import Process
    from rolekit.guest.sandbox import Sandbox

G = TypeVar("G")
G_co = TypeVar("G_co", covariant=True)


class Speaks(Protocol[G_co]):
    """How a guest is spoken to: `Exec`, `Lines`, `Frames`, or `Talks` with a class of yours.

    Attributes:
        command: Program and arguments.
    """

    @property
    def command(self) -> tuple[str, ...]:
        """Program and arguments."""
        ...

    def open(self, stdin: object, stdout: object, /) -> G_co:
        """Return what a handler uses, on the pipes of a running guest."""
        ...


class Guest(Generic[G]):
    """An existing program, put to work by a role.

    On the class it is the declaration. On an instance it is what `speaks` opens: each call
    of one of its methods takes a guest of the pool, waits for one where all have work, and
    gives it back, or has it replaced.

    Args:
        speaks: Protocol: `Exec`, `Lines`, `Frames`, or one of your own.
        host: Where it lives.
        limits: What one may use.
        pool: Guests at once, in one instance.
    """

    def __init__(
        self,
        speaks: Speaks[G],
        /,
        *,
        host: Process | Sandbox | Container,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        pool: int = 1,
    ) -> None:
        self.speaks = speaks
        self.host = host
        self.limits = limits
        self.pool = pool
        self.name = ""

    def __set_name__(self, owner: type[object], name: str) -> None:
        """Learn the name of the attribute."""
        self.name = name

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
            return cast("G", vars(instance)[f"guest:{self.name}"])
        except KeyError:
            raise RolekitError(
                f"{owner.__name__}.{self.name} is a guest that no host has started.",
                fix="In a test, give it one: rolekit.testing.set_guest(role, name, guest).",
            ) from None

    def place(self, instance: object, guest: G) -> None:
        """Let this be the running guest of one instance."""
        vars(instance)[f"guest:{self.name}"] = guest


def guests_of(role: type[object]) -> Iterator[Guest[object]]:
    """Yield the guests that a role declares or inherits, by name."""
    for name in sorted({name for cls in role.__mro__ for name in vars(cls)}):
        found: object = getattr(role, name, None)
        if isinstance(found, Guest):
            yield cast("Guest[object]", found)
