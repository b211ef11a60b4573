"""The role that puts an existing program to work."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from rolekit.guest.container import Container
from rolekit.guest.current import current_message, in_work
from rolekit.guest.declare import Guest, guests_of
from rolekit.guest.hosts import Process
from rolekit.guest.limits import Limits, problems_of
from rolekit.guest.sandbox import Sandbox
from rolekit.guest.servers import Server
from rolekit.model.graph import Problem
from rolekit.roles.worker import WorkerRole

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator

    from rolekit.flow.call import Around
    from rolekit.flow.context import Context
    from rolekit.roles.base import Role

MAX_POOL = 1000
PROTOCOLS = "Exec, Lines, Frames, Http, Smtp, Lmtp, Files, Talks(...) or Serves(...)"


class VMRole(WorkerRole):
    """A worker with at least one `Guest`: a program that will not be rewritten.

    Its guests are started before `on_start` and ended after `on_stop`.
    """


def naming_its_message(around: Around | None) -> Around:
    """Wrap the calls of handlers: guests, and their log lines, are told of which message."""

    @asynccontextmanager
    async def named(ctx: Context[Any]) -> AsyncGenerator[None]:
        token = current_message.set(in_work(ctx.id, ctx.headers.get("traceparent", "")))
        try:
            if around is None:
                yield
            else:
                async with around(ctx):
                    yield
        finally:
            current_message.reset(token)

    return named


def problems_of_guests(roles: Iterable[type[Role]]) -> list[Problem]:
    """Say what keeps the guests of an app from starting, on whatever machine."""
    return [problem for role in roles for problem in _problems(role)]


def _problems(role: type[Role]) -> Iterator[Problem]:
    guests = list(guests_of(role))
    if guests and not issubclass(role, VMRole):
        yield Problem(
            f"{role.__name__}.{guests[0].name}",
            f"is a Guest, but {role.__name__} is not a VMRole.",
            "Let it derive from VMRole, which starts its guests.",
        )
    if not guests and issubclass(role, VMRole):
        yield Problem(
            role.__name__,
            "is a VMRole without a Guest.",
            "Give it one: name = Guest(Exec(...), host=Process()); else make it a WorkerRole.",
        )
    for guest in guests:
        for wrong in _wrong(guest):
            yield Problem(f"{role.__name__}.{guest.name}", wrong)


def _wrong(guest: Guest[object]) -> Iterator[str]:
    command: object = getattr(guest.speaks, "command", None)
    if not callable(getattr(guest.speaks, "open", None)):
        yield f"speaks {guest.speaks!r}; one of rolekit.guest is expected: {PROTOCOLS}."
    elif not _is_command(command):
        yield f"has the command {command!r}; a program and its arguments, str, are expected."
    # Typed as they ought to be, and given by people: so they are looked at as anything.
    host, pool, limits = cast("tuple[object, ...]", (guest.host, guest.pool, guest.limits))
    if isinstance(host, Container):
        yield from host.problems()
    elif not isinstance(host, (Process, Sandbox)):
        yield f"has host={host!r}; Process(), Sandbox() or Container(...) is expected."
    if not isinstance(pool, int) or not 1 <= pool <= MAX_POOL:
        yield f"has pool={pool!r}; a whole number from 1 to {MAX_POOL} is expected."
    elif isinstance(guest.speaks, Server) and isinstance(host, (Process, Sandbox, Container)):
        yield from guest.speaks.problems_in(host, pool)
    if isinstance(limits, Limits):
        yield from problems_of(limits)
    else:
        yield f"has limits={limits!r}; Limits(...) is expected."


def _is_command(command: object) -> bool:
    if not isinstance(command, tuple):
        return False
    parts = cast("tuple[object, ...]", command)
    texts = [part for part in parts if isinstance(part, str) and "\0" not in part]
    return len(texts) == len(parts) and any(texts[:1])
