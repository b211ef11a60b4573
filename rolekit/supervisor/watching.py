"""For development: restarts an app when its source files change.

What cannot be imported is said, and the old code goes on.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rolekit.errors import ConfigError
from rolekit.supervisor.rolling import Pace
from rolekit.supervisor.upgrades import Wish
from rolekit.supervisor.wire import AppBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rolekit.errors import RolekitError
    from rolekit.supervisor.upgrades import Upgrades

_NAMED = 3  # files in the line that says what changed


def require() -> None:
    """Refuse to watch without the library for it.

    Raises:
        ConfigError: It is not installed.
    """
    if find_spec("watchfiles") is None:
        raise ConfigError(
            "--reload needs watchfiles, which is not installed.",
            fix='Install it: pip install "rolekit[reload]"',
        )


async def watch(folder: Path, upgrades: Upgrades, say: Callable[[str], None]) -> None:
    """Restart the app at each change of a source file below a folder, until cancelled.

    Folders of environments, caches and version control are left out.
    """
    from watchfiles import (  # noqa: PLC0415 - an extra
        PythonFilter,
        awatch,  # pyright: ignore[reportUnknownVariableType] - as it is published
    )

    async for changes in awatch(folder, watch_filter=PythonFilter()):
        say(f"{_named(folder, {Path(path) for _, path in changes})} changed.")
        try:
            restart = upgrades.begin(Wish(pace=Pace(domains=1, apart_s=0)))
        except ConfigError as error:  # one that was asked for is under way, say
            say(str(error))
            continue
        told = 0
        while restart.outcome is None:
            await restart.more(told)
            told = len(restart.lines)
        if (problem := restart.outcome.problem) is not None:
            _say_why(problem, say)
        elif restart.outcome.is_done:
            say("The new code runs.")
        else:
            for line in restart.lines[-3:]:
                say(line)


def _say_why(problem: RolekitError, say: Callable[[str], None]) -> None:
    if isinstance(problem, AppBroken):
        for line in problem.traceback.splitlines():
            say(line)
        for one in problem.problems:
            say(one.what)
    else:
        say(str(problem))
    say("The old code goes on.")


def _named(folder: Path, paths: Iterable[Path]) -> str:
    names = sorted(
        str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
        for path in paths
    )
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
