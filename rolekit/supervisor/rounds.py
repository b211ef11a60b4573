"""Reads what instances say that are ready: in rounds, many at a time.

A thousand idle instances say two hundred and fifty things a second. To wake for each of them
costs a supervisor more than to read it.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Protocol

import structlog

EVERY_S = 0.1

_log = structlog.get_logger("rolekit.supervisor")


class Readable(Protocol):
    """A line to an instance."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...

    def read(self) -> None:
        """Take what is there."""
        ...


class Rounds:
    """Has lines read ten times a second, those on which something came."""

    def __init__(self) -> None:
        self._lines = selectors.DefaultSelector()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, line: Readable) -> None:
        """Have a line read from now on."""
        self._lines.register(line.fileno(), selectors.EVENT_READ, line)
        if self._timer is None:
            self._wait()

    def remove(self, line: Readable) -> None:
        """Have it read no more; before it is closed."""
        self._lines.unregister(line.fileno())

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._go)

    def _go(self) -> None:
        for key, _ in self._lines.select(0):
            line: Readable = key.data
            try:
                line.read()
            except Exception as error:  # noqa: BLE001 - a bug: or all would seem to hang
                _log.error("what an instance said could not be taken", exc_info=error)
        self._timer = None
        if self._lines.get_map():
            self._wait()
