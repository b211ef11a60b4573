"""A dashboard that stands beside `rolekit up`, as a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from rolekit.cli.dashboard_lock import locked

if TYPE_CHECKING:
    from collections.abc import Generator

    from rolekit.config import Config

_APP_S, _END_S = 120, 3


@contextlib.contextmanager
def beside(
    config: Config, bind: str, sets: list[str] | None, config_file: str
) -> Generator[None]:
    """Have a dashboard stand beside this process, and end with it; without `bind`, none.

    Raises:
        ConfigError: It could be reached from elsewhere, and it is not locked.
    """
    if not bind:
        yield
        return
    locked(bind, config)
    command = [sys.executable, "-m", "rolekit", "dashboard", "--bind", bind]
    command += ["--wait", str(_APP_S), "--parent", str(os.getpid()), "--app", config.app]
    command += ["--config", config_file] if config_file else []
    for one in sets or ():
        command += ["--set", one]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - ourselves
    try:
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
