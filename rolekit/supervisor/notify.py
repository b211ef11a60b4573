"""Tells systemd how the supervisor is, where systemd started it (Type=notify).

READY=1 when every instance is ready, or known to die again and again; STOPPING=1 when a stop
began; WATCHDOG=1 for as long as the event loop turns, twice in the time that the unit allows.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rolekit.supervisor.fleet import Fleet

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""They concern this process alone, and no process it starts."""
_LOOK_S = 0.1


class Systemd:
    """Who started this process, if it wants to be told.

    Args:
        environ: Of this process.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_s = _watchdog_s(environ)

    async def follow(self, fleet: Fleet) -> None:
        """Tell what becomes of a fleet until cancelled; returns if nobody wants to know."""
        if not self._address:
            return
        try:
            await self._follow(fleet)
        finally:
            self._tell("STOPPING=1")

    async def _follow(self, fleet: Fleet) -> None:
        loop = asyncio.get_running_loop()
        is_ready = is_stopping = False
        feed_s = None if self._watchdog_s is None else self._watchdog_s / 2
        due = loop.time()
        while True:
            if fleet.is_stopping and not is_stopping:
                is_stopping = self._tell("STOPPING=1", "STATUS=Finishing what is in hand")
            elif not is_ready and _is_settled(fleet):
                is_ready = self._tell("READY=1", "STATUS=Running")
            if feed_s is not None and loop.time() >= due:
                self._tell("WATCHDOG=1")
                due += feed_s
            wake = loop.time() + _LOOK_S
            await asyncio.sleep((wake if feed_s is None else min(wake, due)) - loop.time())

    def _tell(self, *lines: str) -> bool:
        """Send these; False: not now. One that cannot be reached must not stop the fleet."""
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
            telling.setblocking(False)  # noqa: FBT003 - the only way to say it
            telling.connect(self._address)
            telling.send("\n".join(lines).encode())
            return True
        return False


def _is_settled(fleet: Fleet) -> bool:
    slots = [slot for role in fleet.roles for slot in fleet.slots(role)]
    return all(slot.state == "ready" or slot.is_crash_looping for slot in slots)


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """Return after how many seconds of silence it kills this process; None: never."""
    wanted = environ.get("WATCHDOG_USEC", "")
    is_for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(wanted) / 1e6 if is_for_us and wanted.isdigit() and int(wanted) else None
