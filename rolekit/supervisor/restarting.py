"""`POST /restart`: begin a rolling restart, and tell how it goes.

Apart from the records it speaks in, which the command line needs, and nothing else of this.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from rolekit.errors import ConfigError
from rolekit.supervisor.control_restart import RestartNews
from rolekit.supervisor.rolling import Pace
from rolekit.supervisor.upgrades import Outcome, Wish
from rolekit.supervisor.wire import AppBroken, Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from rolekit.supervisor.control_restart import RestartOrder
    from rolekit.supervisor.upgrades import Restart

SILENCE_S = 5
"""When nothing happened for so long, an empty line says that it is still under way."""


async def told(
    begin: Callable[[Wish], Restart], order: RestartOrder
) -> AsyncIterator[RestartNews]:
    """Begin a restart and tell it line by line. It goes on when nobody listens any more."""
    pace = Pace(domains=order.domains, ready_s=order.ready_s)
    try:
        restart = begin(Wish(role=order.role, to=order.to, pace=pace))
    except ConfigError as error:
        yield _last(Outcome(problem=error))
        return
    count = 0
    while True:
        for line in restart.lines[count:]:
            yield RestartNews(line=line)
            count += 1
        if restart.outcome is not None:
            yield _last(restart.outcome)
            return
        try:
            async with asyncio.timeout(SILENCE_S):
                await restart.more(count)
        except TimeoutError:
            yield RestartNews()


def _last(outcome: Outcome) -> RestartNews:
    problem = outcome.problem
    if problem is None:
        return RestartNews(is_done=outcome.is_done, is_aborted=not outcome.is_done)
    if isinstance(problem, AppBroken):
        return RestartNews(
            is_aborted=True, problems=problem.problems, traceback=problem.traceback
        )
    return RestartNews(
        is_aborted=True,
        problems=(Problem(problem.what, problem.fix),),
        is_usage=isinstance(problem, ConfigError),
    )
