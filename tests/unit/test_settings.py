"""A role's settings: which attributes they are, and values set from text."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

from rolekit import Secret, WebRole, WorkerRole
from rolekit.errors import AppError, ConfigError
from rolekit.roles.settings import REQUIRED, Setting, apply, settings_of

if TYPE_CHECKING:
    import decimal
    import pathlib

    import httpx


class Colour(Enum):
    """An enum of a user."""

    RED = "red"
    BLUE = "blue"


class Base(WorkerRole):
    """Has one setting for its heirs."""

    region: str = "eu"


class Full(Base):
    """Has one setting of each type."""

    api_key: Secret
    count: int = 1
    share: float = 0.5
    loud: bool = False
    folder: Path = Path("/tmp")  # noqa: S108 - never opened
    colour: Colour = Colour.RED
    names: list[str] = []  # noqa: RUF012 - a default
    ports: list[int] = [1]  # noqa: RUF012 - a default
    maybe: str | None = None
    _private: str = ""
    constant: ClassVar[int] = 3
    client: httpx.AsyncClient
    late: decimal.Decimal
    concurrency = 4


def full(**values: object) -> Full:
    role = Full()
    apply(role, {"api_key": "k", **values})
    return role


def test_settings_are_annotated_attributes_of_simple_types() -> None:
    names = [setting.name for setting in settings_of(Full)]

    assert names == [
        *("instances", "concurrency", "bind", "max_age_s", "max_messages"),
        *("max_memory_mb", "start_s"),
        *("region", "api_key", "count", "share", "loud"),
        *("folder", "colour", "names", "ports", "maybe"),
    ]


def test_a_setting_knows_its_default_and_its_variable() -> None:
    by_name = {setting.name: setting for setting in settings_of(Full)}

    assert by_name["concurrency"].default == 4
    assert by_name["count"] == Setting(role="Full", name="count", type=int, default=1)
    assert (by_name["api_key"].default, by_name["api_key"].is_required) == (REQUIRED, True)
    assert by_name["api_key"].variable == "ROLEKIT_FULL__API_KEY"


def test_a_web_role_has_no_concurrency() -> None:
    names = [setting.name for setting in settings_of(WebRole)]

    limits = ["max_age_s", "max_messages", "max_memory_mb", "start_s"]
    assert names == ["instances", "bind", *limits]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("region", "us", "us"),
        ("count", "12", 12),
        ("count", 12, 12),
        ("share", "0.25", 0.25),
        ("share", 1, 1.0),
        ("loud", "Yes", True),
        ("loud", "off", False),
        ("folder", "/var", Path("/var")),
        ("colour", "blue", Colour.BLUE),
        ("colour", "BLUE", Colour.BLUE),
        ("names", "a, b,,c", ["a", "b", "c"]),
        ("names", ["a"], ["a"]),
        ("ports", "1,2", [1, 2]),
        ("maybe", "x", "x"),
        ("concurrency", "9", 9),
    ],
)
def test_a_value_is_converted_to_its_type(name: str, value: object, expected: object) -> None:
    role = full(**{name: value})

    assert getattr(role, name) == expected


def test_a_secret_stays_one() -> None:
    assert isinstance(full(api_key="s").api_key, Secret)


def test_the_class_is_left_as_it_was() -> None:
    full(count="7")

    assert Full.count == 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("count", "many", r"Full\.count is 'many'; expected: int.*ROLEKIT_FULL__COUNT"),
        ("count", 1.5, "expected: int"),
        ("count", True, "expected: int"),
        ("share", "x", "expected: float"),
        ("loud", "maybe", "1/true/yes/on or 0/false/no/off"),
        ("colour", "green", "expected: red or blue"),
        ("ports", "1,x", "list, with commas, of int"),
        ("names", 5, "list, with commas, of str"),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        full(**{name: value})


def test_a_secret_does_not_show_in_an_error() -> None:
    with pytest.raises(ConfigError, match=r"\*{8}") as refused:
        full(api_key=1234567)

    assert "1234567" not in str(refused.value)


def test_an_unknown_setting_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"no setting 'regoin'.*Did you mean region\?"):
        full(regoin="us")


def test_a_required_setting_without_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Full\.api_key has no value.*ROLEKIT_FULL__API_KEY"):
        apply(Full(), {})


def test_a_setting_whose_type_exists_only_for_type_checkers_is_refused() -> None:
    class Hidden(WorkerRole):
        folder: pathlib.Path

    with pytest.raises(AppError, match=r"Hidden\.folder is a pathlib\.Path"):
        settings_of(Hidden)
