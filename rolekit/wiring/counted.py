"""What a process says of itself in numbers, to its supervisor or whoever asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit import events, link
from rolekit.model.sample import Sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from rolekit.roles.host import Instance
    from rolekit.wiring.parts import Parts


LONGEST_LINE_BYTES = 60_000
"""A supervisor reads lines of 64 KiB at most."""


class Telling:
    """Tells a supervisor all numbers, whenever they are not what it was told last.

    Args:
        parts: Of the process.
        instance: That it lives as; None: it has no role.
        write: Puts a line on the way.
    """

    def __init__(
        self, parts: Parts, instance: Instance | None, write: Callable[[bytes], None]
    ) -> None:
        self._parts = parts
        self._instance = instance
        self._write = write
        self._told: tuple[Sample, ...] = ()

    def tell(self) -> None:
        """Tell what is new, if anything is."""
        now = counted(self._parts, self._instance)
        if now == self._told:
            return
        self._told = now
        line = link.encode(link.Measured([*now]))
        if len(line) < LONGEST_LINE_BYTES:
            self._write(line)


def counted(parts: Parts, instance: Instance | None) -> tuple[Sample, ...]:
    """Say all that was counted since this process began, and how it stands now.

    How late its loop runs is not in it: a beat says that.

    Args:
        parts: Of the process.
        instance: That it lives as; None: it has no role.
    """
    meters = parts.services.runtime.meters
    used, idle = parts.database.connections
    pool = "rolekit.pool.connections"
    return (
        *(() if meters is None else meters.read()),
        *parts.of_broker(),
        Sample("rolekit.events.dropped", (), events.dropped()),  # also 0: rates begin there
        *(
            ()
            if instance is None
            else [Sample("rolekit.unaccounted", (), instance.unaccounted)]
        ),
        Sample(pool, (("state", "used"),), used),
        Sample(pool, (("state", "idle"),), idle),
    )
