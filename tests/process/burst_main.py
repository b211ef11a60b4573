"""Supervise the app of the burst benchmark, which calms down in seconds; run as a process.

All else is as in `rolekit up`: the same supervisor, the same instances, the settings from the
environment.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from rolekit.cli.ground import ground
from rolekit.config import load
from rolekit.model.scaling import Damping
from rolekit.observe import logs
from rolekit.supervisor.serve import Manner, serve
from tests.patience import patient

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from rolekit.supervisor.host import Ground
    from rolekit.supervisor.wire import Described

START_S = patient(30)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - read by whoever looks for what went wrong


def main() -> int:
    config = load({**os.environ, "ROLEKIT_APP": "benchmarks.own.burst_app:app"})
    logs.set_up(config.log, config.log_format, app="burst")

    def open_ground(found: Described) -> AbstractAsyncContextManager[Ground]:
        return ground(config, found, START_S)

    manner = Manner(damping=Damping(rest_s=1, calm_s=2, calm_most_s=2))
    return asyncio.run(serve(config, open_ground, _say, manner))


if __name__ == "__main__":
    sys.exit(main())
