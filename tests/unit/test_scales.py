"""Rules for scaling that an app is refused for."""

from __future__ import annotations

from typing import ClassVar

import pytest

from rolekit import App, Message, Scale, WebRole, WorkerRole, every, handle
from rolekit.errors import AppError


class Word(Message):
    """Something to handle."""

    text: str = ""


class Counter(WorkerRole):
    """Fine as it is."""

    scale = Scale(min=1, max=50, target_age_s=5)

    @handle
    async def count(self, word: Word) -> None: ...


class Keyed(Counter):
    """Has fewer partitions than instances."""

    partitions = 16

    @handle(key="text")
    async def count(self, word: Word) -> None: ...


class Loose(Counter):
    """Says it as a pair."""

    scale: ClassVar[Scale | None] = (1, 50)  # type: ignore[assignment]


class Many(Counter):
    """Begins with more than it may have."""

    instances = 60


class Front(WebRole):
    """Has no queue."""

    scale = Scale(min=1, max=5)


def problems(role: type[WorkerRole | WebRole]) -> str:
    return "\n".join(map(str, App("words", roles=[role]).problems()))


@pytest.mark.parametrize(
    ("role", "what", "fix"),
    [
        (Keyed, "divided into 16 partitions: more instances have nothing", "Say max=16"),
        (Loose, "Loose: has scale = (1, 50); a Scale is expected.", "Scale(min=1, max=50"),
        (Many, "has instances = 60, but its scale allows 1 to 50.", "leave it out"),
        (Front, "but no handler: a rule goes by the messages that wait", "instances = 1"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(
    role: type[WorkerRole | WebRole], what: str, fix: str
) -> None:
    assert what in problems(role)
    assert fix in problems(role)


def test_rules_that_can_work_are_not() -> None:
    class Both(Keyed):
        @handle
        async def also(self, word: Word) -> None: ...

    class Alone(WebRole):
        scale = Scale(min=1, max=1)

    class Timed(WorkerRole):
        scale = Scale(min=2, max=3)

        @every(60)
        async def tick(self) -> None: ...

    assert not problems(Counter)
    assert not problems(Both)
    assert not problems(Alone)
    assert not problems(Timed)


@pytest.mark.parametrize(
    ("numbers", "what"),
    [
        ({"min": -1, "max": 5}, "Scale(min=-1): min must be a whole number, 0 or more"),
        ({"min": 1.5, "max": 5}, "min must be a whole number"),
        ({"min": 5, "max": 4}, "max must be a whole number from 5 to 10,000"),
        ({"min": 0, "max": 0}, "max must be a whole number from 1 to 10,000"),
        ({"min": 0, "max": 20_000}, "max must be a whole number from 1 to 10,000"),
        ({"min": 0, "max": 5, "target_age_s": 0}, "target_age_s must be seconds, more than 0"),
        ({"min": 0, "max": 5, "target_age_s": float("inf")}, "target_age_s must be seconds"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(numbers: dict[str, int], what: str) -> None:
    with pytest.raises(AppError) as refused:
        Scale(**numbers)

    assert what in refused.value.what
