"""Roles without a host: what a test of one method meets."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from rolekit import WorkerRole
from rolekit.errors import AppError, RolekitError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

pytestmark = pytest.mark.anyio


class Plain(WorkerRole):
    """A role that adds nothing."""


@asynccontextmanager
async def lent(log: list[str], name: str) -> AsyncGenerator[str]:
    log.append(f"enter {name}")
    yield name
    log.append(f"leave {name}")


async def test_resources_are_left_last_one_first() -> None:
    role, log = Plain(), list[str]()

    async with AsyncExitStack() as stack:
        role._resources = stack  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        assert await role.enter(lent(log, "a")) == "a"
        await role.enter(lent(log, "b"))

    assert log == ["enter a", "enter b", "leave b", "leave a"]


async def test_enter_without_a_host_says_what_to_do_in_a_test() -> None:
    with pytest.raises(RolekitError, match=r"Plain.enter.*Set the attribute yourself"):
        await Plain().enter(lent([], "a"))


async def test_the_host_is_told_of_the_first_pause_and_the_last() -> None:
    role, told = Plain(), list[bool]()
    role._on_pause = told.append  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    async with role.paused():
        async with role.paused():
            assert told == [True]
        assert told == [True]

    assert told == [True, False]


async def test_a_pause_ends_when_its_block_raises() -> None:
    role, told = Plain(), list[bool]()
    role._on_pause = told.append  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    with pytest.raises(ValueError, match="x"):
        async with role.paused():
            raise ValueError("x")

    assert told == [True, False]


async def test_pauses_of_two_instances_do_not_mix() -> None:
    one, other = Plain(), Plain()

    async with one.paused():
        assert other._pauses == 0  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


async def test_a_role_without_bind_has_no_socket() -> None:
    with pytest.raises(AppError, match=r"Plain.listening.*bind is None"):
        _ = Plain().listening


async def test_a_change_of_settings_asks_for_a_fresh_instance() -> None:
    assert await Plain().on_change({"a": 1}) is False
