"""Guests: existing programs that a `VMRole` puts to work.

A role declares them and is tested with `rolekit.testing.set_guest`; an app that has one is
refused at start, until the hosts are built.
"""

from rolekit.guest.hosts import Process, Sandbox
from rolekit.guest.pool import Guest, Limits, Speaks
from rolekit.guest.speaks import Exec, ExecGuest, LineGuest, Lines, Output

__all__ = [
    "Exec",
    "ExecGuest",
    "Guest",
    "Limits",
    "LineGuest",
    "Lines",
    "Output",
    "Process",
    "Sandbox",
    "Speaks",
]
