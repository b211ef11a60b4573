"""Take from Python what only Linux has; copied to be the `sitecustomize` of a supervisor.

What is left is what another Unix offers: no pidfds, no prctl, no /proc.
"""

from __future__ import annotations

import os
import signal
import socket
import sys

sys.platform = "someix14"
LACKS = {
    os: ("memfd_create", "pidfd_open", "pipe2", "sched_getaffinity", "waitid", "eventfd"),
    signal: ("pidfd_send_signal",),
    socket: ("SOCK_SEQPACKET", "TCP_KEEPIDLE", "TCP_USER_TIMEOUT", "SO_PEERCRED"),
}
for module, names in LACKS.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event == "ctypes.dlsym" and arguments[-1] == "prctl":
        raise AttributeError("prctl")
    if event in {"open", "os.listdir", "os.scandir"} and str(arguments[0]).startswith("/proc"):
        raise FileNotFoundError(arguments[0])


sys.addaudithook(_refuse)
