"""Handlers that cannot be read, and the sentences that say why."""
# ruff: noqa: D101, D106 - a message class is named for what it says

from __future__ import annotations

from collections.abc import Iterator  # noqa: TC003 - read at run time
from typing import TYPE_CHECKING, Any

import pytest

from rolekit import (
    Context,
    Hole,
    Message,
    Run,
    WorkerRole,
    cron,
    every,
    gather,
    handle,
)
from rolekit.roles.inspect import read_role
from tests.unit.fakes_handlers import unchecked, without

if TYPE_CHECKING:
    from decimal import Decimal  # noqa: TC004 - the mistake under test

    from rolekit.model.graph import Problem
    from rolekit.roles.base import Role


class Ask(Message):
    text: str


class Part(Message):
    text: str


class Other(Message):
    text: str


def problem_of(role: type[Role]) -> Problem:
    found, problems = read_role(role)
    assert found == []
    assert len(problems) == 1
    return problems[0]


class Base(WorkerRole):
    @handle
    async def work(self, ask: Ask) -> Part:
        raise NotImplementedError


class Wrong:
    """One role for each mistake."""

    class ListAsTheyCome(WorkerRole):
        @gather(ordered=False)
        async def work(self, parts: list[Part]) -> None: ...

    class NoMessage(WorkerRole):
        @handle
        async def work(self, ctx: Context) -> None: ...

    class Number(WorkerRole):
        @handle
        async def work(self, number: int) -> None: ...

    class Bare(WorkerRole):
        @handle
        async def work(self, message: Message) -> None: ...

    class Unannotated(WorkerRole):
        @handle
        @without("ask")
        async def work(self, ask: Ask) -> None: ...

    class NoResult(WorkerRole):
        @handle
        @without("return")
        async def work(self, ask: Ask) -> None: ...

    class Anything(WorkerRole):
        @handle
        async def work(self, ask: Ask) -> Any: ...  # noqa: ANN401

    class Twice(WorkerRole):
        @handle
        async def work(self, ask: Ask) -> tuple[Part, Part]:
            raise NotImplementedError

    class PerhapsTwice(WorkerRole):
        @handle
        async def work(self, ask: Ask) -> list[tuple[Part | Other, Part | None]]:
            raise NotImplementedError

    class Empty(WorkerRole):
        @handle
        async def work(self, ask: Ask) -> tuple[()]:
            raise NotImplementedError

    class Nested(WorkerRole):
        @unchecked
        async def work(self, ask: Ask) -> tuple[Part, tuple[tuple[Part, Other], Part]]:
            raise NotImplementedError

    class SyncFromAsync(WorkerRole):
        @unchecked
        async def work(self, ask: Ask) -> Iterator[Part]:
            raise NotImplementedError

    class Two(WorkerRole):
        @handle
        async def work(self, ask: Ask, part: Part) -> None: ...

    class Starred(WorkerRole):
        @handle
        async def work(self, *asks: Ask) -> None: ...

    class RunInHandle(WorkerRole):
        @handle
        async def work(self, run: Run[Part]) -> None: ...

    class NoRun(WorkerRole):
        @gather
        async def work(self, ask: Ask) -> None: ...

    class TwoSources(WorkerRole):
        @gather
        async def work(self, ask: Ask | Other, run: Run[Part]) -> None: ...

    class OnlyHoles(WorkerRole):
        @gather
        async def work(self, run: Run[Hole]) -> None: ...

    class SendsNumber(WorkerRole):
        @handle
        async def work(self, ask: Ask, ctx: Context[int]) -> None: ...

    class TypeChecking(WorkerRole):
        @handle
        async def work(self, ask: Ask, much: Decimal) -> None: ...

    class Name(WorkerRole):
        @handle(name="not a name")
        async def work(self, ask: Ask) -> None: ...

    class Timed(WorkerRole):
        @every(5)
        async def work(self, ask: Ask) -> None: ...

    class Never(WorkerRole):
        @cron("0 0 31 2 *")
        async def work(self) -> None: ...

    class Fields(WorkerRole):
        @cron("0 3 * *")
        async def work(self) -> None: ...

    class Zone(WorkerRole):
        @cron("0 3 * * *", tz="Europa/Berlin")
        async def work(self) -> None: ...

    class Folder(WorkerRole):
        @cron("0 3 * * *", tz="Europe")
        async def work(self) -> None: ...

    class Missed(WorkerRole):
        @cron("0 3 * * *", missed="never")  # type: ignore[arg-type]
        async def work(self) -> None: ...

    class Fast(WorkerRole):
        @every(0)
        async def work(self) -> None: ...

    class NotANumber(WorkerRole):
        @every(float("nan"))
        async def work(self) -> None: ...

    class Static(WorkerRole):
        @staticmethod
        @handle
        async def work(ask: Ask) -> None: ...


class Overridden(Base):
    async def work(self, ask: Ask) -> Part:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("role", "found", "fix"),
    [
        (Wrong.ListAsTheyCome, "takes a list, which is everything at once", "Take a Run"),
        (Wrong.NoMessage, "takes no message", "Annotate one parameter"),
        (Wrong.Twice, "returns tuple[Part, Part], but Part is in it twice.", "different"),
        (Wrong.PerhapsTwice, "but Part is in it twice.", "a position of its own"),
        (Wrong.Empty, "it names no message.", "different messages"),
        (
            Wrong.Nested,
            "tuple[tuple[Part, Other], Part] is no message.",
            "a tuple of different",
        ),
        (
            Wrong.Number,
            "the parameter number is annotated int, and int is no message",
            "takes one message",
        ),
        (Wrong.Bare, "Message is no message", ""),
        (Wrong.Unannotated, "the parameter ask has no annotation", "recognised by annotation"),
        (Wrong.NoResult, "does not say what it returns", "-> None"),
        (Wrong.Anything, "returns Any, and Any is no message", ""),
        (Wrong.SyncFromAsync, "returns Iterator[Part] from `async def`", "AsyncIterator[Part]"),
        (Wrong.Two, "two are for the same: message, message", "union"),
        (Wrong.Starred, "the parameter asks is not a plain one", "leave out *"),
        (Wrong.RunInHandle, "takes a Run, but is a @handle", "@gather"),
        (Wrong.NoRun, "is a @gather, but takes no run", "Run[...]"),
        (Wrong.TwoSources, "the parameter ask does not name one message class", "one class"),
        (Wrong.OnlyHoles, "is annotated Run[Hole], which names no message", ""),
        (Wrong.SendsNumber, "is annotated Context[int], and int is no message", "ctx.send"),
        (
            Wrong.TypeChecking,
            "names Decimal, which does not exist at run time",
            "TYPE_CHECKING",
        ),
        (Wrong.TypeChecking, "Decimal", "runtime-evaluated-decorators"),
        (Wrong.Name, "'not a name', which cannot name a queue", "letters"),
        (Wrong.Timed, "is called by @every, which has no message to give", "Context"),
        (Wrong.Never, "'0 0 31 2 *' never comes", "Correct the day of month"),
        (Wrong.Fields, "'0 3 * *' has 4 fields", "at 3 each night"),
        (Wrong.Zone, "no such time zone", "Did you mean Europe/Berlin?"),
        (Wrong.Folder, "@cron(tz='Europe'): there is no such time zone", '"Europe/Berlin"'),
        (Wrong.Missed, "@cron(missed='never')", "times that passed"),
        (Wrong.Fast, "@every(0): 0.1 seconds or more are expected", "run()"),
        (Wrong.NotANumber, "@every(nan)", "run()"),
        (Wrong.Static, "@handle marks a staticmethod", "plain method"),
        (Overridden, "overrides a handler, but has no decorator", "Decorate it"),
    ],
)
def test_a_handler_that_cannot_be_read_is_named(role: type[Role], found: str, fix: str) -> None:
    problem = problem_of(role)

    assert problem.where == f"{role.__name__}.work"
    assert found in problem.found
    assert fix in problem.fix
