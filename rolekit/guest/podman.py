"""What Podman is told besides, for its containers to hold what Docker's hold.

Its own filter of system calls lets a guest make a user namespace, and so have every capability
in it: it is given the filter of a `Sandbox` instead. And unless told, it gives a container a
limit of processes that is above its own, with which none starts where it lacks
CAP_SYS_RESOURCE.

Source: Podman 4.3.1, with containers-common 0.50.
"""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rolekit.guest import seccomp

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "Podman Engine"
_MOST_PIDS = Path("/proc/sys/kernel/pid_max")


def is_podman(about: Mapping[str, Any]) -> bool:
    """Say whether an engine is Podman, by its answer to /version."""
    return any(one.get("Name") == NAME for one in about.get("Components") or ())


class Podman:
    """What it is told, for as long as containers are made. To make one may block."""

    def __init__(self) -> None:
        # In memory, so that a launcher that is killed leaves no file.
        self._file = os.memfd_create("seccomp.json", os.MFD_CLOEXEC)
        os.write(self._file, json.dumps(seccomp.profile()).encode())
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        most = int(_MOST_PIDS.read_text())
        self._processes = most if hard == resource.RLIM_INFINITY else min(hard, most)

    def add_to(self, host: dict[str, Any]) -> None:
        """Add it to the `HostConfig` of a container.

        The limit of processes is of a user, in all containers together: as many as we may be,
        as Podman's user or as root beside it. Those of one guest are limited by its cgroup.
        """
        most = {"Name": "nproc", "Soft": self._processes, "Hard": self._processes}
        host["Ulimits"].append(most)
        host["SecurityOpt"].append(f"seccomp=/proc/{os.getpid()}/fd/{self._file}")

    def close(self) -> None:
        """Let go of the filter; what was started keeps it."""
        os.close(self._file)
