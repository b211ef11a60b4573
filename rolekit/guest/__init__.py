"""Guests: existing programs that a `VMRole` puts to work.

A guest is declared as a class attribute of a role, and each instance has a pool of them:

    handler ── Crew ── Pool ── Slot ── Keeper ═══ keeper process ═══ guest
                                 └────────────── pipes ───────────────┘

A host says how to start one (`hosts`, `sandbox`), a protocol how to speak to it (`once`,
`talks`). A host for containers goes beside `sandbox`, with the same method.
"""

from rolekit.guest.declare import Guest, Speaks
from rolekit.guest.hosts import Process
from rolekit.guest.limits import Limits
from rolekit.guest.once import Exec, ExecGuest, Output
from rolekit.guest.pipes import Stdin, Stdout
from rolekit.guest.sandbox import Sandbox
from rolekit.guest.talks import FrameGuest, Frames, LineGuest, Lines, Session, Talks

__all__ = [
    "Exec",
    "ExecGuest",
    "FrameGuest",
    "Frames",
    "Guest",
    "Limits",
    "LineGuest",
    "Lines",
    "Output",
    "Process",
    "Sandbox",
    "Session",
    "Speaks",
    "Stdin",
    "Stdout",
    "Talks",
]
