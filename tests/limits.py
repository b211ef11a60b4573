"""Time limits of tests: what hangs fails one test, and the run goes on.

An async test is ended inside its loop, so that it is cleaned up after. What is left, a test or
a fixture that blocks, is interrupted by a signal; never while pytest writes a report, which
would end the run. What even that does not reach is ended with its worker, a minute later.
"""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import inspect
import signal
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

SHARE_OF_LIMIT = 0.8
AGAIN_S = 10.0
"""So long has what comes after the limit, the teardown too, before it is interrupted again."""
REPORT_S = 0.5
LAST_RESORT_S = 60.0
"""After the limit; the fixtures' teardown may take some of it."""
STDERR = 2


class _Settings(Protocol):
    timeout: float


_interruptible: list[pytest.Item] = []
"""The test whose code runs; empty: pytest's own does."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """End an async test inside its loop when its time is up."""
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        marker = pyfuncitem.get_closest_marker("timeout")
        limit = marker.args[0] if marker else pyfuncitem.config.getini("timeout")
        pyfuncitem.obj = _bounded(pyfuncitem.obj, SHARE_OF_LIMIT * patient(float(limit)))
    return (yield)


def _bounded(test: Callable[..., Awaitable[None]], limit_s: float) -> Callable[..., Any]:
    @functools.wraps(test)
    async def run(*args: object, **kwargs: object) -> None:
        async with asyncio.timeout(limit_s):
            await test(*args, **kwargs)

    return run


def _runs_a_test(item: pytest.Item) -> Generator[None, object, object]:
    _interruptible.append(item)
    try:
        return (yield)
    finally:
        _interruptible.clear()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Let its fixtures be interrupted."""
    return (yield from _runs_a_test(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Let the test be interrupted."""
    return (yield from _runs_a_test(item))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Let its fixtures be interrupted."""
    return (yield from _runs_a_test(item))


@pytest.hookimpl
def pytest_timeout_set_timer(item: pytest.Item, settings: _Settings) -> bool:
    """Interrupt the test when its time is up, and what comes after it if that takes long."""
    limit_s = patient(settings.timeout)

    def interrupt(_signal: int, _frame: object) -> None:
        if not _interruptible:
            signal.setitimer(signal.ITIMER_REAL, REPORT_S)
            return
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        faulthandler.dump_traceback(STDERR)  # the other threads too
        pytest.fail(f"{item.name} was not over within {limit_s:g} s.")

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    faulthandler.dump_traceback_later(
        limit_s + LAST_RESORT_S,
        file=item.config.stash[fault_handler_stderr_fd_key],  # which is not captured
        exit=True,
    )
    return True


@pytest.hookimpl
def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    """Let it be: it is over."""
    del item
    faulthandler.cancel_dump_traceback_later()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return True
