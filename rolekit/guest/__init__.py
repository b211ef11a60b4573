"""Guests: existing programs that a `VMRole` puts to work.

A guest is declared as a class attribute of a role, and each instance has a pool of them:

    handler ── Crew ── Pool ── Slot ── Keeper ═══ keeper process ═══ guest
                                 └────────────── pipes ───────────────┘

    handler ── Crew ── Pool ── Slot ── Runner ── Spawning ═══ spawner ═══ one run, the next
                                         └─────────────── pipes ──────────────┘

    handler ── Crew ── Pool ── Slot ── Berth ═══ launcher ── engine ── guest
                                 └───────────── streams ─────────────────┘

A host says how to start one (`hosts`, `sandbox`, `container`), a protocol how to speak to it:
by its pipes (`once`, `talks`), or as to a server (`servers`, `http_guest`), which the keeper
connects to where the guest lives (`inside`).

    handler ── Crew ── Pool ── Slot ── session ── Door ── Keeper.connect ═══ guest
"""

from rolekit.guest.container import Container
from rolekit.guest.declare import Guest, Speaks
from rolekit.guest.file_guest import FileGuest, FileResult, Files
from rolekit.guest.hosts import Process
from rolekit.guest.http_guest import Http, HttpGuest
from rolekit.guest.http_wire import HttpAnswer
from rolekit.guest.limits import Limits
from rolekit.guest.mail_guest import Lmtp, MailGuest, MailReply, Smtp
from rolekit.guest.once import Exec, ExecGuest, Output
from rolekit.guest.pipes import Stdin, Stdout
from rolekit.guest.sandbox import Sandbox
from rolekit.guest.servers import Server
from rolekit.guest.serves import Serves
from rolekit.guest.talks import FrameGuest, Frames, LineGuest, Lines, Session, Talks

__all__ = [
    "Container",
    "Exec",
    "ExecGuest",
    "FileGuest",
    "FileResult",
    "Files",
    "FrameGuest",
    "Frames",
    "Guest",
    "Http",
    "HttpAnswer",
    "HttpGuest",
    "Limits",
    "LineGuest",
    "Lines",
    "Lmtp",
    "MailGuest",
    "MailReply",
    "Output",
    "Process",
    "Sandbox",
    "Server",
    "Serves",
    "Session",
    "Smtp",
    "Speaks",
    "Stdin",
    "Stdout",
    "Talks",
]
