"""The decorators."""
# ruff: noqa: D101 - a message class is named for what it says

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rolekit import Backoff, Message, Rate, Run, cron, every, gather, handle
from rolekit.errors import AppError
from rolekit.roles.declare import declared_on

if TYPE_CHECKING:
    from collections.abc import Callable


class Letter(Message):
    reader: str


async def post(self: object, letter: Letter) -> None:
    """Stand for a method."""


async def collect(self: object, run: Run[Letter]) -> None:
    """Stand for a method."""


def test_a_decorator_returns_the_function_it_was_given() -> None:
    async def mine(self: object, letter: Letter) -> None: ...

    assert handle(mine) is mine
    assert handle(timeout_s=3)(mine) is mine


def test_options_are_kept_as_they_were_given() -> None:
    policy = Backoff(attempts=2)

    declared = declared_on(handle(retry=policy, rate=[Rate(1), Rate(2)], key="reader")(post))

    assert declared is not None
    assert (declared.retry, declared.key) == ((policy,), ("reader",))
    assert declared.rate == (Rate(1), Rate(2))


def test_a_function_without_decorator_declares_nothing() -> None:
    assert declared_on(len) is None


def test_cron_and_every_keep_when() -> None:
    nightly = declared_on(cron("0 3 * * *", tz="Europe/Berlin", missed="all")(post))
    often = declared_on(every(30)(collect))

    assert nightly is not None
    assert (nightly.when, nightly.tz, nightly.missed) == ("0 3 * * *", "Europe/Berlin", "all")
    assert often is not None
    assert often.seconds == 30


@pytest.mark.parametrize(
    ("decorator", "options", "said"),
    [
        (
            handle,
            {"retries": 3},
            r"@handle\(retries=\.\.\.\): there is no.*Did you mean retry\?",
        ),
        (handle, {"deadline_s": 3}, r"@handle\(deadline_s"),
        (gather, {"key": "a"}, r"@gather\(key"),
        (handle, {"timeout_s": 0}, "timeout_s must be more than 0"),
        (gather, {"size": 0}, "size must be more than 0"),
        (gather, {"deadline_s": -1}, "deadline_s must be more than 0"),
        (gather, {"age_s": -1}, "age_s must be 0 or more"),
        (handle, {"on_dead": "fail"}, "on_dead must be 'wait' or 'skip'"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(
    decorator: Callable[..., object], options: dict[str, object], said: str
) -> None:
    with pytest.raises(AppError, match=said):
        decorator(**options)


def test_an_option_given_without_its_name_is_refused() -> None:
    wrong: Any = handle

    with pytest.raises(AppError, match=r"name='post'"):
        wrong("post")
