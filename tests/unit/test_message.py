"""Messages and states as classes."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import attrs
import pytest
from pydantic import BaseModel

from rolekit import Blob, Message, Receipt, Reply, Secret, State, field
from rolekit.errors import AppError
from rolekit.model.message import is_message_class, wire_name, wire_of


class Letter(Message, name="post.letter", version=3, aliases=("letter",)):
    reader: str
    lines: list[str] = field(default_factory=list)
    weight_g: int


class Express(Letter):
    hours: int


class Count(State, expires_s=60):
    done: int = 0


@dataclass(frozen=True)
class Plain:
    a: int


@attrs.frozen
class Attrs:
    a: int


class Model(BaseModel):
    a: int


def test_a_field_without_default_may_follow_one_with_a_default() -> None:
    letter = Letter(weight_g=20, reader="ann")

    assert (letter.reader, letter.lines, letter.weight_g) == ("ann", [], 20)


def test_messages_are_equal_by_value() -> None:
    assert Letter(reader="a", weight_g=1) == Letter(reader="a", weight_g=1)
    assert Letter(reader="a", weight_g=1) != Letter(reader="a", weight_g=2)


def test_a_message_cannot_be_changed() -> None:
    letter: Any = Letter(reader="a", weight_g=1)

    with pytest.raises(AttributeError):
        letter.reader = "b"


def test_a_message_takes_no_positional_arguments() -> None:
    anything: Any = Letter

    with pytest.raises(TypeError):
        anything("a", 1)


def test_a_class_is_known_by_its_name_version_and_aliases() -> None:
    wire = wire_of(Letter)

    assert (wire.name, wire.version, wire.aliases) == ("post.letter", 3, ("letter",))


def test_a_subclass_does_not_inherit_the_name_or_version() -> None:
    wire = wire_of(Express)

    assert (wire.name, wire.version, wire.aliases) == ("Express", 1, ())


def test_a_class_of_somebody_else_goes_by_its_own_name() -> None:
    assert [wire_name(cls) for cls in (Plain, Attrs, Model)] == ["Plain", "Attrs", "Model"]


@pytest.mark.parametrize("cls", [Letter, Receipt, Blob, Plain, Attrs, Model])
def test_these_classes_can_travel(cls: type) -> None:
    assert is_message_class(cls)


@pytest.mark.parametrize("cls", [Message, Reply, Count, int, dict, "Letter", Plain(a=1)])
def test_these_cannot_travel(cls: object) -> None:
    assert not is_message_class(cls)


def test_a_state_can_be_changed_and_begins_empty() -> None:
    count = Count()

    count.done += 1

    assert count == Count(done=1)
    assert wire_of(Count).expires_s == 60


def test_a_state_whose_field_has_no_default_is_refused() -> None:
    with pytest.raises(AppError, match=r"State Bare has a field without a default.*Bare\(\)"):

        class Bare(State):  # pyright: ignore[reportUnusedClass]
            done: int


def test_a_version_below_one_is_refused() -> None:
    with pytest.raises(AppError, match="Old has version=0; a version is 1 or more"):

        class Old(Message, version=0):  # pyright: ignore[reportUnusedClass]
            pass


def test_an_unknown_class_keyword_is_refused() -> None:
    make: Any = type(Message)

    with pytest.raises(TypeError, match="nam"):
        make("Odd", (Message,), {}, nam="x")


def test_upgrade_leaves_fields_alone_unless_overridden() -> None:
    assert Letter.upgrade({"reader": "a"}, 1) == {"reader": "a"}


def test_a_secret_hides_itself_in_repr_and_is_text_otherwise() -> None:
    secret = Secret("hunter2")

    assert "hunter2" not in repr([secret])
    assert f"Bearer {secret}" == "Bearer hunter2"
