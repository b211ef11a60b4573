"""Which keys are refused, at start and when a message is sent."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from rolekit import App, Batch, Message, WorkerRole, handle
from rolekit.errors import AppError, CodecError
from rolekit.model.keys import MAX_KEY_CHARS, key_of

if TYPE_CHECKING:
    from rolekit.roles.base import Role


class Colour(Enum):
    RED = "red"


class Ask(Message):
    text: str
    number: int
    colour: Colour
    born: dt.date
    at: dt.datetime
    size: float
    parts: list[str]
    maybe: str | None = None

    @property
    def upper(self) -> str:
        """Upper case."""
        return self.text.upper()

    @property
    def letters(self) -> list[str]:
        """No key."""
        return list(self.text)

    @property
    def untold(self) -> Any:  # noqa: ANN401 - says nothing of what it returns
        """Return no key, and do not say so."""
        return self.parts


@dataclass(frozen=True)
class Plain:
    text: str


ASK = Ask(
    text="a", number=7, colour=Colour.RED, born=dt.date(2026, 1, 2), size=1.5, parts=[],
    at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
)  # fmt: skip


def told(role: type[Role]) -> list[str]:
    return [str(problem) for problem in App("mine", roles=[role]).problems()]


def keyed_by(key: object, takes: object = Ask, **options: object) -> type[WorkerRole]:
    async def work(self: object, ask: object) -> None:
        del self, ask

    work.__annotations__["ask"] = takes
    mark: Any = handle
    return type("Keyed", (WorkerRole,), {"work": mark(key=key, **options)(work)})


@pytest.mark.parametrize(
    "key", ["text", "number", "colour", "born", "upper", "untold", ("text", "number")]
)
def test_text_numbers_enums_and_days_are_keys(key: str | tuple[str, ...]) -> None:
    assert told(keyed_by(key)) == []


def test_any_class_has_a_key_by_its_fields() -> None:
    assert told(keyed_by("text", takes=Plain)) == []


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("owner", "key='owner' and takes Ask, which has no such field or property, only text"),
        ("maybe", "where it may be None"),
        ("size", "where it is a float; a key is str, int, UUID, date or an enum"),
        ("at", "where it is a datetime"),
        ("parts", "where it is a list"),
        ("letters", "where it is a list"),
        ("text.upper", r"has key=('text.upper',); names of fields or properties are expected"),
        ("", "names of fields or properties are expected"),
    ],
)
def test_what_is_no_key_of_a_class_is_refused(key: str, said: str) -> None:
    found = told(keyed_by(key))

    assert len(found) == 1
    assert found[0].startswith("Keyed.work: ")
    assert said in found[0]


def test_each_class_that_a_handler_takes_needs_the_field() -> None:
    class Other(Message):
        number: int

    assert (
        "takes Other, which has no such field" in told(keyed_by("text", takes=Ask | Other))[0]
    )


def test_a_batch_has_no_key() -> None:
    class Keyed(WorkerRole):
        @handle(key="text")
        async def work(self, asks: Batch[Ask]) -> None: ...

    assert any("takes a Batch and has a key" in each for each in told(Keyed))


def test_a_queue_of_another_program_has_no_partitions() -> None:
    assert any("has source= and key=" in each for each in told(keyed_by("text", source="q")))


def test_what_a_dead_message_does_to_its_key_is_not_said_without_a_key() -> None:
    class Plainly(WorkerRole):
        @handle(on_dead="skip")
        async def work(self, ask: Ask) -> None: ...

    assert "has on_dead='skip' and no key" in told(Plainly)[0]


@pytest.mark.parametrize("count", [0, 1001, "4", True])
def test_a_number_of_partitions_that_makes_no_sense_is_refused(count: object) -> None:
    role: Any = keyed_by("text")
    role.partitions = count

    assert f"has partitions = {count!r}; a number from 1 to 1000" in told(role)[0]


def test_a_role_without_keys_may_say_anything_of_partitions() -> None:
    class Plainly(WorkerRole):
        partitions = 0

        @handle
        async def work(self, ask: Ask) -> None: ...

    assert told(Plainly) == []


def test_the_queues_of_a_role_with_keys_are_its_partitions() -> None:
    class Mixed(WorkerRole):
        partitions = 2

        @handle(key="text")
        async def work(self, ask: Ask) -> None: ...
        @handle
        async def other(self, ask: Plain) -> None: ...

    plan = App("mine", roles=[Mixed]).plan()

    assert plan.queues() == ["Mixed.other", "Mixed~k00", "Mixed~k01"]
    assert plan.handlers["Mixed.work"].record


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (("text",), "a"),
        (("number",), "7"),
        (("colour",), "red"),
        (("born",), "2026-01-02"),
        (("upper", "number"), "A|7"),
    ],
)
def test_a_key_is_the_text_of_its_fields(key: tuple[str, ...], text: str) -> None:
    assert key_of(ASK, key) == text


def test_an_id_is_a_key() -> None:
    class Thing(Message):
        id: UUID

    assert key_of(Thing(id=UUID(int=1)), ("id",)) == str(UUID(int=1))


@pytest.mark.parametrize(
    ("key", "said"),
    [("maybe", "maybe is None"), ("untold", r"untold is \[\] \(list\)"), ("at", "datetime")],
)
def test_a_message_without_key_is_refused_when_it_is_sent(key: str, said: str) -> None:
    with pytest.raises(CodecError, match=said):
        key_of(ASK, (key,))


@pytest.mark.parametrize("text", ["a" * (MAX_KEY_CHARS + 1), "a\x00b", "\ud800"])
def test_a_key_that_no_database_can_keep_is_refused(text: str) -> None:
    with pytest.raises(CodecError, match="At most 500 characters, no NUL"):
        key_of(Plain(text), ("text",))


def test_a_misspelt_option_is_refused_as_ever() -> None:
    with pytest.raises(AppError, match="on_dead must be 'wait' or 'skip'"):
        keyed_by("text", on_dead="fail")
