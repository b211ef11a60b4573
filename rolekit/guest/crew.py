"""The guests of one instance: checked, started, given to the role, ended."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from rolekit.errors import AppError, ConfigError, GuestFailed
from rolekit.guest import leftovers
from rolekit.guest.container import Container
from rolekit.guest.declare import guests_of
from rolekit.guest.launching import berths_for, ordering
from rolekit.guest.pool import Crew, Pool

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolekit.guest.berth import Orders


@asynccontextmanager
async def guests_running(role: object) -> AsyncGenerator[None]:
    """Have all guests of a role running inside the block.

    Raises:
        AppError: One cannot be started; says which, what was tried, and what to do.
    """
    await asyncio.to_thread(leftovers.sweep)
    async with AsyncExitStack() as held:
        orders: Orders | None = None
        for guest in guests_of(type(role)):
            place = f"{type(role).__name__}.{guest.name}"
            tried = f"{place} ({' '.join(guest.speaks.command)!r} in {guest.host}):"
            try:
                launch = await asyncio.to_thread(
                    guest.host.launch, guest.speaks.command, guest.limits
                )
                if isinstance(guest.host, Container):
                    if orders is None:
                        orders = await held.enter_async_context(ordering(type(role)))
                    launch = replace(launch, berth=berths_for(orders, type(role), guest))
                pool = Pool(place, guest, launch)
                await held.enter_async_context(pool.running())
            except ConfigError as error:
                raise AppError(f"{tried} {error.what}", fix=error.fix) from error
            except GuestFailed as error:
                said = error.stderr_tail[-500:].decode(errors="backslashreplace").strip()
                raise AppError(
                    f"{tried} it did not get ready: {error.what}"
                    + (f" It said: {said}" if said else ""),
                    fix=error.fix or "Start the command by hand, and see what it says.",
                ) from error
            guest.place(role, Crew(pool))
        yield
