"""Apps: made without effect, refused with every problem at once."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from rolekit import (
    App,
    Backoff,
    Message,
    WebRole,
    WorkerRole,
    handle,
)
from rolekit.errors import AppError

if TYPE_CHECKING:
    import pathlib

    from rolekit.roles.base import Role


class Ask(Message):
    text: str


class Part(Message):
    text: str


class Worker(WorkerRole):
    @handle
    async def work(self, ask: Ask) -> None: ...


def told(*roles: type[Role]) -> list[str]:
    return [str(problem) for problem in App("mine", roles=roles).problems()]


def test_an_app_that_fits_becomes_a_plan() -> None:
    retry = Backoff(attempts=2)

    plan = App("mine", roles=[Worker], retry=retry, codec="msgpack", horizon_s=5).plan()

    assert (plan.name, list(plan.handlers)) == ("mine", ["Worker.work"])
    assert (plan.retry, plan.codec, plan.horizon_s) == (retry, "msgpack", 5)
    assert plan.types == {"Ask": Ask}


def test_problems_are_told_all_at_once() -> None:
    class One(WorkerRole):
        @handle
        async def a(self, ask: Ask) -> Part:
            raise NotImplementedError

        @handle
        async def b(self, number: int) -> None: ...

    with pytest.raises(AppError) as refused:
        App("mine", roles=[One]).plan()

    lines = str(refused.value).splitlines()
    assert lines[0] == "mine: 2 problems"
    assert [line for line in lines[1:] if not line.startswith("    ")] == [
        "One.b: the parameter number is annotated int, and int is no message.",
        "One.a: returns Part, which nobody takes.",
    ]


def test_an_app_without_roles_is_refused() -> None:
    assert told() == ["mine: has no roles.\n    Pass them: App(..., roles=[...])."]


@pytest.mark.parametrize("name", ["", "two words", "a/b", "1st", "ä", "x" * 49])
def test_a_name_that_cannot_name_a_schema_is_refused(name: str) -> None:
    assert "the name cannot name a schema" in str(App(name, roles=[Worker]).problems()[0])


def test_two_roles_of_one_name_are_refused() -> None:
    twin = type("Worker", (WorkerRole,), {})

    assert "is called like another role of this app" in told(Worker, twin)[0]


def test_a_handler_in_a_web_role_is_refused() -> None:
    class Front(WebRole):
        @handle
        async def work(self, ask: Ask) -> None: ...

    assert told(Front)[0].startswith("Front.work: is a handler, but Front is not a WorkerRole.")


def test_a_handler_beside_the_roles_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    @handle
    async def lost(ask: Ask) -> None: ...

    module = ModuleType("a_module_of_mine")
    vars(module).update(lost=lost)
    lost.__module__ = module.__name__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    role = type("Mine", (WorkerRole,), {"__module__": module.__name__})

    assert told(role) == [
        (
            "a_module_of_mine.lost: is decorated as a handler, but belongs to no role.\n"
            "    Make it a method of a WorkerRole."
        )
    ]


def test_an_instance_in_place_of_a_role_is_refused() -> None:
    wrong: Any = Worker()

    with pytest.raises(AppError, match=r"was given <.*Worker object.*Pass the class"):
        App("mine", roles=[wrong])


def test_a_role_that_takes_arguments_is_refused() -> None:
    class Mine(WorkerRole):
        def __init__(self, size: int) -> None:
            self.size = size

    assert (
        "cannot be made without arguments: missing a required argument: 'size'" in told(Mine)[0]
    )


def test_a_setting_that_cannot_be_read_is_refused() -> None:
    class Mine(WorkerRole):
        folder: pathlib.Path

    assert told(Mine)[0].startswith("Mine: Mine.folder is a pathlib.Path, which does not exist")


def test_a_role_is_found_by_name() -> None:
    app = App("mine", roles=[Worker])

    assert app.role("Worker") is Worker
    with pytest.raises(AppError, match="mine has no role 'Wroker'; its roles are Worker"):
        app.role("Wroker")


def test_a_client_is_opened_by_the_wiring(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = object()
    asked: list[App] = []

    def open_client(app: App) -> object:
        asked.append(app)
        return opened

    wiring = SimpleNamespace(open_client=open_client)
    monkeypatch.setitem(sys.modules, "rolekit.wiring", wiring)
    app = App("mine", roles=[Worker])

    got: object = app.client()

    assert got is opened
    assert asked == [app]
