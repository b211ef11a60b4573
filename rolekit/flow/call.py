"""Running one handler: arguments in, a list of results out, within its time."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
import anyio.to_thread

from rolekit.flow.context import Context
from rolekit.flow.outputs import MAX_OUTPUTS

if TYPE_CHECKING:
    from rolekit.flow.deadlines import Limit
    from rolekit.model.plan import Bound, HandlerPlan

THREADS = 40
"""Calls of one handler that is no coroutine, in threads at once. Each handler has its own, so
that a slow one leaves threads to the others."""

Around = Callable[[Context[Any]], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler of a role that lives in this process.

    Attributes:
        plan: What it takes and gives.
        method: Bound to the role.
        around: Wraps each call; None where the role does not.
        threads: Runs calls of what is no coroutine, so many at once.
        takes_context: Whether a call needs a context.
    """

    plan: HandlerPlan
    method: Bound
    around: Around | None = None
    takes_context: bool = field(init=False)
    _names: tuple[str | None, str | None, str | None] = field(init=False)
    threads: anyio.CapacityLimiter = field(
        init=False, default_factory=lambda: anyio.CapacityLimiter(THREADS)
    )

    def __post_init__(self) -> None:
        """Look once at what is looked at for every call."""
        names = {what: name for name, what in self.plan.arguments}
        takes = "context" in names or self.around is not None
        object.__setattr__(self, "takes_context", takes)
        ordered = (names.get("message"), names.get("run"), names.get("context"))
        object.__setattr__(self, "_names", ordered)

    def arguments(
        self, message: object, run: object, ctx: Context[Any] | None
    ) -> dict[str, object]:
        """Name what a call is given; a comprehension would take four times as long."""
        takes_message, takes_run, takes_context = self._names
        found: dict[str, object] = {}
        if takes_message is not None:
            found[takes_message] = message
        if takes_run is not None:
            found[takes_run] = run
        if takes_context is not None:
            found[takes_context] = ctx
        return found


class Chunks(Protocol):
    """Takes what a split yields, piece by piece.

    Attributes:
        results: What was not flushed.
    """

    results: list[object]

    def add(self, one: object) -> bool:
        """Take a result; say whether to flush before the next one."""
        ...

    async def flush(self) -> None:
        """Have done with what was taken."""


async def call(
    handler: Handler,
    message: object,
    run: object,
    ctx: Context[Any] | None,
    limit: Limit,
    chunks: Chunks | None = None,
) -> list[object]:
    """Run a handler.

    Args:
        handler: Which.
        message: What came; in a gather, what was split.
        run: In a gather: the run, or list, of parts.
        ctx: For this call; None where the handler takes none.
        limit: Of its time; begins anew with each chunk.
        chunks: Takes what an iterator yields, so that it may be of any length.

    Returns:
        What it gave, in order, and no chunk took; nothing where it gave None.

    Raises:
        Overran: It took longer than its `timeout_s`.
        Exception: Whatever the handler raised.
    """
    arguments = handler.arguments(message, run, ctx)
    with limit:
        if handler.around is None or ctx is None:
            if handler.plan.call == "async":  # the usual one, without another call
                return _listed(handler.plan, await handler.method(**arguments))
            return await _run(handler, arguments, limit, chunks)
        async with handler.around(ctx):
            return await _run(handler, arguments, limit, chunks)


async def _run(
    handler: Handler, arguments: dict[str, object], limit: Limit, chunks: Chunks | None
) -> list[object]:
    method, plan = handler.method, handler.plan
    if plan.call == "async":
        return _listed(plan, await method(**arguments))
    if plan.call == "async_iterator":
        given = method(**arguments)
        iterator = await given if inspect.isawaitable(given) else given
        if chunks is None:
            return await _drained(iterator)
        return await _chunked(iterator, chunks, limit)
    if plan.call == "iterator" and chunks is not None:
        start = partial(method, **arguments)
        return await _chunked_in_thread(start, chunks, limit, handler.threads)
    work = partial(_in_thread, plan, method, arguments)
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=handler.threads)


def _in_thread(plan: HandlerPlan, method: Bound, arguments: dict[str, object]) -> list[object]:
    return _listed(plan, method(**arguments))


def _listed(plan: HandlerPlan, result: object) -> list[object]:
    if result is None:
        return []
    if plan.shape == "one":
        return [result]
    return [one for one in cast("Iterable[object]", result) if one is not None]


async def _drained(iterator: AsyncIterator[object]) -> list[object]:
    """Collect what an iterator yields, one more than is allowed at most."""
    results: list[object] = []
    async for one in iterator:
        if one is not None:
            results.append(one)
        if len(results) > MAX_OUTPUTS:
            break
    return results


async def _chunked(
    iterator: AsyncIterator[object], chunks: Chunks, limit: Limit
) -> list[object]:
    """Hand over what an iterator yields; what it holds open is closed, whatever happens."""
    is_full = False
    try:
        async for one in iterator:
            if one is None:
                continue
            if is_full:
                await chunks.flush()
                limit.renew()
            is_full = chunks.add(one)
    finally:
        if isinstance(iterator, AsyncGenerator):
            await cast("AsyncGenerator[object]", iterator).aclose()
    return chunks.results


async def _chunked_in_thread(
    method: Callable[[], Iterable[object]],
    chunks: Chunks,
    limit: Limit,
    threads: anyio.CapacityLimiter,
) -> list[object]:
    """Do the same in a thread, a chunk at a time."""
    iterator: Iterator[object] | None = None
    kept: list[object] = []

    def pull() -> bool:
        nonlocal iterator
        if iterator is None:
            iterator = iter(method() or ())
        for one in kept:
            chunks.add(one)
        kept.clear()
        is_full = False
        for one in iterator:
            if one is None:
                continue
            if is_full:
                kept.append(one)
                return True
            is_full = chunks.add(one)
        return False

    while await anyio.to_thread.run_sync(pull, abandon_on_cancel=True, limiter=threads):
        await chunks.flush()
        limit.renew()
    return chunks.results
