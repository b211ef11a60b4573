"""Roles read into plans: what each parameter is for, what comes out."""
# ruff: noqa: D101, D106 - a message class is named for what it says

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Generator,
    Iterator,
    Sequence,
)
from typing import TYPE_CHECKING

import pytest

from rolekit import (
    Batch,
    Context,
    DeadLetter,
    Hole,
    Message,
    Reply,
    Run,
    WorkerRole,
    gather,
    handle,
)
from rolekit.roles.inspect import read_role
from tests.unit.fakes_handlers import unchecked

if TYPE_CHECKING:
    from rolekit.model.plan import HandlerPlan
    from rolekit.roles.base import Role


class Ask(Message):
    text: str


class Part(Message):
    text: str


class Other(Message):
    text: str


class Answer(Reply):
    text: str


def plan_of(role: type[Role]) -> HandlerPlan:
    found, problems = read_role(role)
    assert problems == []
    assert len(found) == 1
    return found[0].plan


def test_parameters_are_recognised_by_annotation_and_not_by_place() -> None:
    class Mine(WorkerRole):
        @handle
        async def work(self, tools: Context[Other], what: Ask | Part) -> Answer | None: ...

    plan = plan_of(Mine)

    assert plan.name == "Mine.work"
    assert plan.arguments == (("tools", "context"), ("what", "message"))
    assert (plan.takes, plan.sends) == ((Ask, Part), (Other,))
    assert (plan.returns, plan.may_drop, plan.shape) == ((Answer,), True, "one")


def test_a_bare_context_sends_nothing() -> None:
    class Mine(WorkerRole):
        @handle
        async def work(self, ask: Ask, ctx: Context) -> None: ...

    assert plan_of(Mine).sends == ()


class Shapes:
    """One role for each way to return."""

    class Awaited(WorkerRole):
        @handle
        def work(self, ask: Ask) -> Awaitable[Part]:
            raise NotImplementedError

    class Coroutine(WorkerRole):
        @handle
        async def work(self, ask: Ask) -> Part:
            raise NotImplementedError

    class Plain(WorkerRole):
        @handle
        def work(self, ask: Ask) -> Part:
            raise NotImplementedError

    class Listed(WorkerRole):
        @handle
        async def work(self, ask: Ask) -> list[Part]:
            raise NotImplementedError

    class Sequenced(WorkerRole):
        @handle
        def work(self, ask: Ask) -> Sequence[Part]:
            raise NotImplementedError

    class Tupled(WorkerRole):
        @handle
        async def work(self, ask: Ask) -> tuple[Part, ...]:
            raise NotImplementedError

    class Yielding(WorkerRole):
        @handle
        async def work(self, ask: Ask) -> AsyncIterator[Part]:
            yield Part(text=ask.text)

    class Generating(WorkerRole):
        @handle
        async def work(self, ask: Ask) -> AsyncGenerator[Part, None]:
            yield Part(text=ask.text)

    class Returning(WorkerRole):
        @unchecked
        async def work(self, ask: Ask) -> AsyncIterator[Part]:
            raise NotImplementedError

    class Handing(WorkerRole):
        @handle
        def work(self, ask: Ask) -> AsyncIterator[Part]:
            raise NotImplementedError

    class Iterating(WorkerRole):
        @handle
        def work(self, ask: Ask) -> Iterator[Part]:
            yield Part(text=ask.text)

    class Sending(WorkerRole):
        @handle
        def work(self, ask: Ask) -> Generator[Part]:
            yield Part(text=ask.text)


@pytest.mark.parametrize(
    ("role", "call", "shape"),
    [
        (Shapes.Awaited, "async", "one"),
        (Shapes.Coroutine, "async", "one"),
        (Shapes.Plain, "sync", "one"),
        (Shapes.Listed, "async", "list"),
        (Shapes.Sequenced, "sync", "list"),
        (Shapes.Tupled, "async", "list"),
        (Shapes.Yielding, "async_iterator", "iterator"),
        (Shapes.Generating, "async_iterator", "iterator"),
        (Shapes.Returning, "async_iterator", "iterator"),
        (Shapes.Handing, "async_iterator", "iterator"),
        (Shapes.Iterating, "iterator", "iterator"),
        (Shapes.Sending, "iterator", "iterator"),
    ],
)
def test_each_way_to_return_is_known(role: type[Role], call: str, shape: str) -> None:
    plan = plan_of(role)

    assert (plan.call, plan.shape, plan.returns) == (call, shape, (Part,))


def test_a_list_may_hold_none() -> None:
    class Mine(WorkerRole):
        @handle
        async def work(self, ask: Ask) -> list[Part | None]:
            raise NotImplementedError

    assert plan_of(Mine).may_drop


class Tuples:
    """One role for each way to put several messages at one position."""

    class Two(WorkerRole):
        @handle
        async def work(self, ask: Ask) -> tuple[Part, Other]:
            raise NotImplementedError

    class Either(WorkerRole):
        @handle
        async def work(self, ask: Ask) -> tuple[Part, Other] | Part | None:
            raise NotImplementedError

    class Perhaps(WorkerRole):
        @handle
        def work(self, ask: Ask) -> tuple[Part | Answer, Other | None]:
            raise NotImplementedError

    class Listed(WorkerRole):
        @handle
        async def work(self, ask: Ask) -> list[tuple[Part, Other]]:
            raise NotImplementedError

    class Yielded(WorkerRole):
        @handle
        async def work(self, ask: Ask) -> AsyncIterator[tuple[Part, Other] | Answer]:
            yield Answer(text=ask.text)


@pytest.mark.parametrize(
    ("role", "shape", "together"),
    [
        (Tuples.Two, "one", (((Part,), (Other,)),)),
        (Tuples.Either, "one", (((Part,), (Other,)), ((Part,),))),
        (Tuples.Perhaps, "one", (((Part, Answer), (Other,)),)),
        (Tuples.Listed, "list", (((Part,), (Other,)),)),
        (Tuples.Yielded, "iterator", (((Part,), (Other,)), ((Answer,),))),
    ],
)
def test_a_tuple_stands_at_one_position(
    role: type[Role], shape: str, together: tuple[object, ...]
) -> None:
    plan = plan_of(role)

    assert (plan.shape, plan.together, plan.positions) == (shape, together, together)
    assert set(plan.returns) >= {Part, Other}
    assert len(set(plan.returns)) == len(plan.returns)


def test_without_tuples_each_class_has_a_position_of_its_own() -> None:
    class Mine(WorkerRole):
        @handle
        async def work(self, ask: Ask) -> Part | Other:
            raise NotImplementedError

    plan = plan_of(Mine)

    assert (plan.together, plan.positions) == ((), (((Part,),), ((Other,),)))


def test_a_gather_takes_its_parts_and_the_message_that_was_split() -> None:
    class Mine(WorkerRole):
        @gather(size=5, age_s=2, deadline_s=9)
        async def collect(
            self, ask: Ask, run: Run[Part | Other | Hole], ctx: Context
        ) -> None: ...

    plan = plan_of(Mine)

    assert (plan.kind, plan.takes, plan.source) == ("gather", (Part, Other), Ask)
    assert (plan.passes_source, plan.whole, plan.on_dead) == (True, False, "hole")
    assert (plan.size, plan.age_s, plan.deadline_s) == (5, 2, 9)
    assert [role for _, role in plan.arguments] == ["message", "run", "context"]


def test_a_gather_of_a_list_is_called_once_with_everything() -> None:
    class Mine(WorkerRole):
        @gather(on_dead="skip")
        async def collect(self, parts: list[Part]) -> Answer:
            raise NotImplementedError

    plan = plan_of(Mine)

    assert (plan.whole, plan.source, plan.passes_source) == (True, None, False)
    assert plan.on_dead == "skip"


def test_inherited_handlers_belong_to_the_role_that_inherits() -> None:
    class Base(WorkerRole):
        @handle
        async def work(self, ask: Ask) -> None: ...

    class Mine(Base):
        pass

    assert plan_of(Mine).name == "Mine.work"


def test_an_override_with_a_decorator_replaces_the_handler() -> None:
    class Base(WorkerRole):
        @handle
        async def work(self, ask: Ask) -> None: ...

    class Mine(Base):
        @handle(name="mine", timeout_s=5)
        async def work(self, ask: Ask) -> None: ...

    plan = plan_of(Mine)

    assert (plan.name, plan.timeout_s) == ("mine", 5)


def test_classes_made_in_the_same_function_are_found_even_when_made_later() -> None:
    class Mine(WorkerRole):
        @handle
        async def work(self, ask: Local) -> list[Later]:
            raise NotImplementedError

    class Local(Message):
        pass

    class Later(Message):
        pass

    plan = plan_of(Mine)

    assert (plan.takes, plan.returns) == ((Local,), (Later,))


def test_a_dead_letter_is_no_message_of_its_class() -> None:
    class Mine(WorkerRole):
        @handle
        async def work(self, cause: Ask | DeadLetter[Part]) -> None: ...

    (found,), _ = read_role(Mine)

    assert found.plan.takes == (Ask,)
    assert found.parameters[0].dead == (Part,)


def test_a_batch_takes_the_class_of_its_items() -> None:
    class Mine(WorkerRole):
        @handle
        async def work(self, batch: Batch[Ask | Part]) -> None: ...

    assert plan_of(Mine).takes == (Ask, Part)
