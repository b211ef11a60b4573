"""An app and an instance of our own: the supervisor's tests need no database for them.

`instance_main` speaks the line as the real one does. What an instance does beyond that is
told by its role's name.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from rolekit import link
from rolekit.model.plan import AppPlan
from rolekit.roles.web import WebRole
from rolekit.supervisor.wire import Bounds

if TYPE_CHECKING:
    import socket

    from rolekit.model.graph import Problem


_HOME = os.environ.get("PYTHONPATH", "").rpartition(":")[2]


class _Role:
    instances = 1
    scale: Bounds | None = None
    bind: str | None = None


class Steady(_Role):
    """Does what it should."""

    instances = 2
    scale = Bounds(0, 5)


class Front(WebRole):
    """Says its process id to whoever connects."""

    bind = "127.0.0.1:0"


class Side(WebRole):
    """Another one."""

    bind = "127.0.0.1:0"


class Loud(WebRole):
    """Prints 300 kB before it says its process id to whoever connects."""

    bind = "127.0.0.1:0"


class Crashing(_Role):
    """Ends at once."""


class Brief(_Role):
    """Ends as soon as it is ready, until the file `healed` is in its home."""

    instances = 20


class Deaf(_Role):
    """Blocks its loop after being ready, and ignores SIGTERM."""


class Busy(_Role):
    """Has work in hand that never ends: a soft stop does not stop it, a hard one does."""


class Refusing(_Role):
    """Cannot start."""


class Leaning(_Role):
    """Refuses to start while the file `away` is in its home."""


class Parent(_Role):
    """Starts a process of its own."""


class _App:
    def __init__(self, name: str, *roles: type[_Role | WebRole]) -> None:
        self.name = name
        self.roles = roles

    def problems(self) -> list[Problem]:
        return []

    def plan(self) -> AppPlan:
        return AppPlan(
            name=self.name,
            handlers={},
            destinations={},
            reaches={},
            opens={},
            wire_names={},
            types={},
        )


def app_of(name: str, *roles: type[_Role | WebRole]) -> _App:
    """Make an app for another module."""
    return _App(name, *roles)


steady = _App("steady", Steady, Front)
crashing = _App("crashing", Crashing, Steady)
brief = _App("brief", Brief, Steady)
deaf = _App("deaf", Deaf)
busy = _App("busy", Busy)
parent = _App("parent", Parent)
loud = _App("loud", Loud)
refusing = _App("refusing", Refusing)
leaning = _App("leaning", Leaning, Steady)

# Other versions of `steady`; the last one of Steady's instances shows what is wrong with them.
steady_next = _App("steady", Steady, Front, Parent)
steady_wide = _App("steady", Steady, Front, Side)
steady_late = _App("steady", Steady, Front)
steady_dying = _App("steady", Steady, Front)
steady_short = _App("steady", Steady, Front)


def instance_main(
    spec: link.InstanceSpec,
    line: socket.socket,
    listening: socket.socket | None,
    *_passing: socket.socket,
) -> int:
    """Run one instance."""
    if spec.role == "Crashing" or (_is_last(spec) and spec.app.endswith("dying")):
        return 3
    return asyncio.run(_live(spec, line, listening))


def _is_last(spec: link.InstanceSpec) -> bool:
    return spec.role == "Steady" and spec.slot == 1


async def _live(
    spec: link.InstanceSpec, line: socket.socket, listening: socket.socket | None
) -> int:
    reader, writer = await asyncio.open_connection(sock=line)
    if spec.role == "Refusing":
        writer.write(link.encode(link.Refused("no domain is set.")))
        await writer.drain()
        return 2
    if spec.role == "Leaning" and os.access(f"{_HOME}/away", os.F_OK):
        writer.write(link.encode(link.Refused("no engine answers.")))
        await writer.drain()
        return 2
    if listening is not None:
        await asyncio.start_server(_shout if spec.role == "Loud" else _answer, sock=listening)
    if not (_is_last(spec) and spec.app.endswith("late")):
        writer.write(link.encode(link.Ready()))
    is_short = spec.role == "Brief" and not os.access(f"{_HOME}/healed", os.F_OK)
    if is_short or (_is_last(spec) and spec.app.endswith("short")):
        await writer.drain()
        return 3
    if spec.role == "Parent":
        daemon = "setsid sh -c 'sleep 601 & sleep 602' & setsid -f sleep 603"
        await asyncio.create_subprocess_exec("sh", "-c", f"{daemon}; exec sleep 600")
    beats = asyncio.create_task(_beat(writer))
    if spec.role == "Deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        await writer.drain()
        time.sleep(600)  # noqa: ASYNC251 - the blocked loop is the point
    if await _obey(spec, reader, writer):
        beats.cancel()
        return 0
    # The line is closed. A real instance ends now; this one leaves it to the kernel.
    return await asyncio.Event().wait()


async def _obey(
    spec: link.InstanceSpec, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Do what is said; whether it was to stop."""
    while data := await reader.readline():
        order = link.from_supervisor(data)
        if isinstance(order, link.Change):
            writer.write(link.encode(_taken(order.settings.get("mood", ""))))
        if isinstance(order, link.Stop):
            os.write(1, f"{spec.role} stops\n".encode())  # one write: others print too
            if spec.role != "Busy":
                return True
    return False


def _taken(mood: str) -> link.Changed:
    if mood == "wrong":
        return link.Changed(is_kept=True, problem="Steady.mood is 'wrong'.")
    return link.Changed(is_kept=mood != "restless")


async def _beat(writer: asyncio.StreamWriter) -> None:
    handled = 0
    while True:
        handled += 10
        writer.write(link.encode(link.Beat(in_hand=1, handled=handled)))
        await asyncio.sleep(0.1)


async def _shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for number in range(300):
        print(f"shout {number}", "!" * 1000, file=sys.stderr)  # noqa: T201 - the point
    await _answer(reader, writer)


async def _answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(str(os.getpid()).encode())
    await writer.drain()
    writer.close()
