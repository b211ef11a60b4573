"""The host for programs that are not trusted: bubblewrap, with a filter of system calls."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rolekit.errors import ConfigError
from rolekit.guest import seccomp
from rolekit.guest.going import SHELL
from rolekit.guest.hosts import (
    MIB,
    Launch,
    kept_environment,
    require_linux,
    resource_limits,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rolekit.guest.limits import Limits

NOBODY = 65534
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HIDDEN = ("/home", "/root", "/run", "/var/tmp", "/mnt", "/media")  # noqa: S108 - hidden, not used
"""An empty folder is put over these: homes, and the sockets of what runs on the machine."""
SCRATCH = "/tmp"  # noqa: S108 - a file system of its own
FILTER_FD, INFO_FD, BLOCK_FD = "3", "4", "5"  # as starting.py numbers them
OLDEST = (0, 8)
"""The first version of bubblewrap that can limit the size of a file system."""
TRY_S = 20.0


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Namespaces of its own and no rights: for programs, and inputs, that are not trusted.

    The guest is uid 65534 without capabilities. It sees `root` read-only, with nothing in
    the homes, in /run and in other places of people; no network; no processes but its own.
    It may write to /tmp, which it starts in: a file system in memory, new with each guest.

    Attributes:
        root: What the guest sees as /.
        read_only: Files and folders that it sees also where they are hidden.
    """

    root: str = "/"
    read_only: tuple[str, ...] = ()
    has_own_network: ClassVar[bool] = True

    def launch(self, command: tuple[str, ...], limits: Limits) -> Launch:
        """Find bubblewrap and the program; see `Host`."""
        require_linux("Sandbox")
        bwrap = find_bubblewrap()
        prefix = (bwrap, *self._arguments(limits))
        program = self._find(command[0])
        return Launch(
            prefix=prefix,
            command=(program, *command[1:]),
            env={"PATH": PATH, "HOME": SCRATCH, "TMPDIR": SCRATCH, **kept_environment()},
            limits=resource_limits(limits),
            filter=seccomp.filter_for(platform.machine()),
            pids=limits.pids + 1,  # the first process in it is bubblewrap's own
            uid=NOBODY if os.geteuid() == 0 else None,
            has_own_network=True,
            can_wait=self._has_shell(bwrap),
        )

    def _has_shell(self, bwrap: str) -> bool:
        """Whether what the guest sees has a shell, which a guest that waits is."""
        trial = ("--unshare-user", "--ro-bind", self.root, "/", SHELL, "-c", "exit 0")
        return _tried([bwrap, *trial]).returncode == 0

    def _arguments(self, limits: Limits) -> Iterator[str]:
        size = str(limits.scratch_mb * MIB)
        yield from ("--unshare-all", "--new-session", "--die-with-parent", "--clearenv")
        yield from ("--cap-drop", "ALL", "--uid", str(NOBODY), "--gid", str(NOBODY))
        yield from ("--hostname", "guest", "--ro-bind", self.root, "/", "--proc", "/proc")
        yield from ("--dev", "/dev", "--size", size, "--tmpfs", "/dev/shm")  # noqa: S108
        yield from ("--remount-ro", "/dev")
        for place in self._hidden():
            yield from ("--size", str(MIB), "--tmpfs", place)
        yield from ("--size", size, "--tmpfs", SCRATCH)
        for place in self.read_only:
            yield from ("--ro-bind", place, place)
        for place in self._hidden():
            yield from ("--remount-ro", place)
        yield from ("--chdir", SCRATCH, "--seccomp", FILTER_FD)
        yield from ("--info-fd", INFO_FD, "--block-fd", BLOCK_FD)

    def _hidden(self) -> Iterator[str]:
        """Name what is hidden, where it is there: in a read-only root none can be made."""
        own = Path(os.environ.get("ROLEKIT_HOME") or ".rolekit").absolute()
        is_below = any(own.is_relative_to(place) for place in (*HIDDEN, SCRATCH))
        for place in HIDDEN if is_below else (*HIDDEN, str(own)):
            there = self._outside(place)
            if there.is_dir() and not there.is_symlink():
                yield place

    def _find(self, name: str) -> str:
        """Find a program where the guest will look for it."""
        if not Path(self.root).is_dir():
            raise ConfigError(
                f"Sandbox(root={self.root!r}) is no folder.",
                fix="Name one with a system in it.",
            )
        for place in self.read_only:
            if not place.startswith("/") or not Path(place).exists():
                raise ConfigError(
                    f"Sandbox(read_only=…) names {place!r}; a path from / to something that is "
                    "there is expected."
                )
        places = [name] if name.startswith("/") else [f"{at}/{name}" for at in PATH.split(":")]
        if "/" in name and not name.startswith("/"):
            raise ConfigError(
                f"the command {name!r} is a relative path, which leads nowhere in a Sandbox.",
                fix="Name it with its whole path.",
            )
        for place in places:
            is_bound = any(Path(place).is_relative_to(bound) for bound in self.read_only)
            there = Path(place) if is_bound else self._outside(place)
            if not os.access(there, os.X_OK) or there.is_dir():
                continue
            if not is_bound and self._is_hidden(there):
                raise ConfigError(
                    f"the command {name!r} is {there.resolve()}, which a Sandbox hides.",
                    fix="Install it for all, or show it: Sandbox(read_only=(folder,)).",
                )
            return place
        where = self.root if name.startswith("/") else f"{self.root} ({PATH})"
        raise ConfigError(
            f"the command {name!r} was not found in {where}, or may not be executed.",
            fix="Install it there, or name it with its path.",
        )

    def _is_hidden(self, there: Path) -> bool:
        hidden = [self._outside(place) for place in (*self._hidden(), SCRATCH)]
        return any(there.resolve().is_relative_to(place) for place in hidden)

    def _outside(self, place: str) -> Path:
        return Path(self.root) / place.lstrip("/")


def find_bubblewrap() -> str:
    """Find bubblewrap, and see that it works here.

    Raises:
        ConfigError: It is missing, too old, or the kernel lets us make no user namespaces.
    """
    if not seccomp.is_known():
        raise ConfigError(
            f"Sandbox() has no filter of system calls for {platform.machine()}; it has them "
            "for x86_64 and aarch64.",
            fix="Use host=Process() for a program that you trust.",
        )
    found = shutil.which("bwrap")
    if found is None:
        raise ConfigError(
            "Sandbox() needs bubblewrap, and there is no `bwrap` in PATH.",
            fix="Install it (Debian: apt-get install bubblewrap), or use host=Process() for a "
            "program that you trust.",
        )
    version = _tried([found, "--version"]).stdout.strip()
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    if numbers < OLDEST:
        raise ConfigError(
            f"Sandbox() needs bubblewrap 0.8 or newer; {found} is {version or 'unknown'!r}."
        )
    trial = _tried([found, "--unshare-all", "--ro-bind", "/", "/", found, "--version"])
    if trial.returncode:
        why = trial.stderr.strip()[:300]
        raise ConfigError(
            f"Sandbox() was tried, and bubblewrap could make none: {why}",
            fix="User namespaces must be allowed: see the sysctls user.max_user_namespaces, "
            "kernel.unprivileged_userns_clone and "
            "kernel.apparmor_restrict_unprivileged_userns; "
            "a container needs a seccomp profile that allows them.",
        )
    return found


def _tried(command: list[str]) -> subprocess.CompletedProcess[str]:
    uid = NOBODY if os.geteuid() == 0 else None
    groups: list[int] | None = None if uid is None else []
    return subprocess.run(  # noqa: S603 - bubblewrap, which was found in PATH
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=TRY_S,
        user=uid,
        group=uid,
        extra_groups=groups,
        cwd="/",
    )
