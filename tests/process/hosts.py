"""Hosts of one role in the foreground, each a process, for tests that kill them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

HERE = Path(__file__).parent


@contextlib.contextmanager
def host(
    app: str, role: str, home: Path, database: str, broker: str
) -> Generator[subprocess.Popen[str]]:
    """Run a role as a host of its own would, until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rolekit", "run", "--app", app, role],
        cwd=HERE,
        env={
            **os.environ,
            "PYTHONPATH": f"{HERE.parent.parent}:{HERE}",
            "ROLEKIT_HOME": str(home),
            "ROLEKIT_DATABASE": database,
            **({"ROLEKIT_BROKER": broker} if broker else {}),
        },
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
