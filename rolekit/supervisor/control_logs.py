"""Lines of a fleet: which are asked for over the control API, and what is answered."""

from __future__ import annotations

import msgspec


class LogsOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which lines: of a role, an instance ("Deliverer/3"), that name a message by its id.

    Attributes:
        lines: Of those that are kept, so many of the last.
        follow: Go on with those that come.
    """

    role: str = ""
    instance: str = ""
    message: str = ""
    lines: int = 100
    follow: bool = False

    def wants(self, line: LogLine) -> bool:
        """Say whether this is one of them."""
        return (
            (not self.role or line.role == self.role)
            and (not self.instance or line.instance == self.instance)
            and (not self.message or self.message in line.text)
        )


class LogLine(msgspec.Struct, frozen=True):
    """One line that an instance, or the supervisor, wrote.

    Attributes:
        number: Counts all lines of this supervisor, from 1.
        at: When it was read, seconds since 1970.
        instance: "Deliverer/3"; "(supervisor)" for its own.
    """

    number: int
    at: float
    role: str
    instance: str
    text: str
