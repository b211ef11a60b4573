"""One supervisor for one app in one home: the kernel keeps the lock and drops it at death."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from rolekit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@contextlib.contextmanager
def only_one(home: Path, app: str) -> Generator[None]:
    """Hold the lock of this app in this home.

    Raises:
        ConfigError: Another supervisor holds it, or the folder cannot be written.
    """
    path = home / f"{app}.lock"
    try:
        home.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"The folder {home} cannot be used: {error.strerror}.",
            fix="Name one that can be written: ROLEKIT_HOME or --home.",
        ) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            # Only for people to read; nobody is ever signalled by a number from a file.
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise ConfigError(
                f"{app} is running here already, by the supervisor with process id {holder} "
                f"(home {home.resolve()}).",
                fix="`rolekit scale` changes how many instances it has, `rolekit stop` ends "
                "it; another home (ROLEKIT_HOME) runs a second one beside it.",
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)  # unlinking would let two hold "the" lock
