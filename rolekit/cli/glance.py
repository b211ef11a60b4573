"""`rolekit ps --ready` for health checks, which run it every few seconds in each container.

Answers without loading the command line: 0.05 s of CPU instead of 0.5 on the machine that it
was measured on (November 2026), where twenty containers that were checked left no time for
work. Knows only the plain case: everything else is answered by `cli.ps`, in the same words.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

COMMAND = ["ps", "--ready"]
READY = "Ready."
NOT_READY = "Not ready: `rolekit ps` shows which roles are not."
_REQUEST = b"GET /ready HTTP/1.1\r\nHost: rolekit\r\nConnection: close\r\n\r\n"
_STATUSES = {b"200": READY, b"503": NOT_READY}
_ANSWER_S = 15.0
_ELSEWHERE = ("ROLEKIT_CONFIG", "ROLEKIT_CONTROL", "ROLEKIT_CONTROL_FILE", "ROLEKIT_HOME_FILE")
_SETTINGS = ("rolekit.toml", "pyproject.toml")


def glance(arguments: list[str]) -> str | None:
    """Say whether all of the one app in this home is ready; None: this is not the plain case.

    Args:
        arguments: Of the command line, without the name of the program.
    """
    if arguments != COMMAND or any(name in os.environ for name in _ELSEWHERE):
        return None
    if any(Path(name).exists() for name in _SETTINGS):
        return None
    sockets = list(Path(os.environ.get("ROLEKIT_HOME", ".rolekit")).glob("*.sock"))
    if len(sockets) != 1:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
        control.settimeout(_ANSWER_S)
        try:
            control.connect(str(sockets[0]))
            control.sendall(_REQUEST)
            said = control.recv(64)
        except OSError:
            return None
    return _STATUSES.get(said[9:12])
