"""Running one handler: arguments in, a list of results out, within its time."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio.to_thread

from rolekit.flow.context import Context
from rolekit.flow.outputs import MAX_OUTPUTS

if TYPE_CHECKING:
    from rolekit.flow.deadlines import Limit
    from rolekit.model.plan import Bound, HandlerPlan

Around = Callable[[Context[Any]], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler of a role that lives in this process.

    Attributes:
        plan: What it takes and gives.
        method: Bound to the role.
        around: Wraps each call; None where the role does not.
    """

    plan: HandlerPlan
    method: Bound
    around: Around | None = None
    takes_context: bool = field(init=False)

    def __post_init__(self) -> None:
        """Look once at what is looked at for every call."""
        given = {what for _, what in self.plan.arguments}
        takes = "context" in given or self.around is not None
        object.__setattr__(self, "takes_context", takes)


async def call(
    handler: Handler, message: object, run: object, ctx: Context[Any] | None, limit: Limit
) -> list[object]:
    """Run a handler.

    Args:
        handler: Which.
        message: What came; in a gather, what was split.
        run: In a gather: the run, or list, of parts.
        ctx: For this call; None where the handler takes none.
        limit: Of its time.

    Returns:
        What it gave, in order; nothing where it gave None.

    Raises:
        Overran: It took longer than its `timeout_s`.
        Exception: Whatever the handler raised.
    """
    given = {"message": message, "run": run, "context": ctx}
    arguments = {name: given[what] for name, what in handler.plan.arguments}
    with limit:
        if handler.around is None or ctx is None:
            return await _run(handler, arguments)
        async with handler.around(ctx):
            return await _run(handler, arguments)


async def _run(handler: Handler, arguments: dict[str, object]) -> list[object]:
    method, plan = handler.method, handler.plan
    if plan.call == "async":
        return _listed(plan, await method(**arguments))
    if plan.call == "async_iterator":
        given = method(**arguments)
        return await _drained(await given if inspect.isawaitable(given) else given)
    work = partial(_in_thread, plan, method, arguments)
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)


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
