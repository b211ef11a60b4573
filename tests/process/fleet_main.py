"""Supervise an app of `fleet_app.py`, on databases that are not there; run as a process.

python fleet_main.py APP HOME [name=value of Patience or RestartPolicy …] [role …]

Writes what it asks of the database to HOME/host.log, a line each.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rolekit.config import Config, load
from rolekit.errors import RolekitError
from rolekit.model.restart import RestartPolicy
from rolekit.observe import logs
from rolekit.supervisor import forker
from rolekit.supervisor.host import Ground, QueueDepth
from rolekit.supervisor.instance import Patience
from rolekit.supervisor.serve import Manner, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from rolekit.supervisor.wire import Described


CONTROL_TOKEN = "t0ken-" * 6
forker.GIVES_WAY_S = 2.0  # where tests take all cores, each import would wait for as long


class Host:
    """A host without database."""

    epoch = 7

    def __init__(self, log: Path) -> None:
        self._log = log

    async def release(self, owner: int, *, crashed: bool = True) -> None:
        with self._log.open("a") as log:
            log.write(f"release {owner}\n")

    async def topics(self) -> AsyncIterator[list[str]]:
        await asyncio.Event().wait()
        yield []

    async def lease(self) -> AsyncIterator[bool]:
        yield True
        await asyncio.Event().wait()

    async def depths(self) -> dict[str, QueueDepth]:
        return {}


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - read by the test


def main() -> int:
    app, home, *rest = sys.argv[1:]
    options = [one for one in rest if "=" in one]
    numbers = {name: float(value) for name, _, value in (one.partition("=") for one in options)}
    grace_s = numbers.pop("grace_s", 5)
    module = {
        "slow": "slow_app",
        "watched": "watched_app",
        "threaded": "threaded_app",
        "leftover": "threaded_app",
    }.get(app, "fleet_app")
    settings = [f"app={module}:{app}", f"home={home}", f"grace_s={grace_s}"]
    if "port" in numbers:
        settings.append(f"Front.bind=127.0.0.1:{numbers.pop('port'):.0f}")
    if "control" in numbers:
        settings.append(f"control=127.0.0.1:{numbers.pop('control'):.0f}")
    os.environ["ROLEKIT_CONTROL_TOKEN"] = CONTROL_TOKEN

    def read() -> Config:
        environ = {"ROLEKIT_CONTROL_TOKEN": CONTROL_TOKEN}
        return load(environ, settings=settings, folder=Path(home))

    if app == "threaded":
        settings.append("start_method=spawn")
    config = read()
    logs.set_up("debug", "json")

    @contextlib.asynccontextmanager
    async def ground(_app: Described) -> AsyncGenerator[Ground]:
        yield Ground(host=Host(Path(home) / "host.log"), broker="", database="")

    manner = Manner(
        roles=tuple(one for one in rest if "=" not in one),
        watched=Path(home) if app == "watched" else None,
        target="fleet_app:instance_main",
        patience=Patience(**{k: v for k, v in numbers.items() if k in Patience.__slots__}),
        policy=RestartPolicy(
            restarts=int(numbers.pop("restarts", 10)),
            **{k: v for k, v in numbers.items() if k in RestartPolicy.__slots__},
        ),
    )
    try:
        return asyncio.run(serve(config, ground, _say, manner, read))
    except RolekitError as error:
        print(error, flush=True)  # noqa: T201 - read by the test
        return 2


if __name__ == "__main__":
    sys.exit(main())
