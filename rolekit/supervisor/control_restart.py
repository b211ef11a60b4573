"""`POST /restart`: begin a rolling restart, and tell how it goes, a line of JSON each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import msgspec

from rolekit.errors import ConfigError
from rolekit.supervisor.forker import AppBroken
from rolekit.supervisor.rolling import DOMAINS, Pace
from rolekit.supervisor.upgrades import Outcome, Wish
from rolekit.supervisor.wire import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from rolekit.supervisor.upgrades import Restart

SILENCE_S = 5
"""When nothing happened for so long, an empty line says that it is still under way."""

_Domains = Annotated[int, msgspec.Meta(ge=1)]
_Seconds = Annotated[float, msgspec.Meta(gt=0)]


class RestartOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Restart a role, or all of them if none is named, from `to` or the code as it is now."""

    role: str = ""
    to: str = ""
    domains: _Domains = DOMAINS
    ready_s: _Seconds | None = None


class RestartNews(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, or how it ended.

    Attributes:
        line: A sentence; empty: still under way.
        is_done: The last line of a restart that did what was asked.
        is_aborted: The last line of one that went back, or never began.
        problems: Why it never began.
        is_usage: What was asked for is wrong, rather than the app.
        traceback: Of the app's own code, if that raised.
    """

    line: str = ""
    is_done: bool = False
    is_aborted: bool = False
    problems: tuple[Problem, ...] = ()
    is_usage: bool = False
    traceback: str = ""


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
