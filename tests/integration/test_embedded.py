"""The embedded PostgreSQL: shared, alive while used, gone with its last user."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from rolekit.store import embedded
from tests.embedded_users import (
    NOBODY,
    User,
    ask,
    is_running,
    owner_of,
    parent_of,
    postmaster,
    tell,
    until,
    until_it_answers,
    until_stopped,
)
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    StartUser = Callable[..., Awaitable[User]]

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(60)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
async def start_user() -> AsyncIterator[StartUser]:
    users: list[User] = []

    async def start(home: Path, uid: int | None = None) -> User:
        users.append(await User.start(home, uid))
        return users[-1]

    yield start

    for user in users:
        await user.kill()


async def test_a_first_start_takes_less_than_five_seconds(home: Path) -> None:
    began_s = time.monotonic()

    async with embedded.server(home) as url:
        took_s = time.monotonic() - began_s
        version = await ask(url, "show server_version_num")

    assert took_s < patient(5)
    assert str(version) >= "180000"


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
async def test_what_is_committed_is_safe(home: Path, setting: str) -> None:
    async with embedded.server(home) as url:
        value = await ask(url, f"show {setting}")

    assert value == "on"


async def test_nothing_listens_on_the_network(home: Path) -> None:
    async with embedded.server(home) as url:
        addresses = await ask(url, "show listen_addresses")

    assert addresses == ""


async def test_a_second_process_joins_the_server_of_the_first(
    home: Path, start_user: StartUser
) -> None:
    async with embedded.server(home) as url:
        first = postmaster(home)

        other = await start_user(home)
        other_url = await other.url()

        assert other_url == url
        assert postmaster(home) == first
        await other.leave()


async def test_the_server_stays_while_one_user_is_left_and_stops_with_the_last(
    home: Path, start_user: StartUser
) -> None:
    other = await start_user(home)
    url = await other.url()
    async with embedded.server(home):
        pid = postmaster(home)
    assert await ask(url, "select 1") == 1

    await other.leave()

    await until_stopped(home, patience_s=5)
    assert not is_running(pid)


async def test_a_server_whose_only_user_is_killed_stops_within_five_seconds(
    home: Path, start_user: StartUser
) -> None:
    user = await start_user(home)
    await user.url()
    pid = postmaster(home)

    await user.kill()

    await until_stopped(home, patience_s=5)
    assert not is_running(pid)


async def test_a_killed_server_comes_back_by_itself_with_its_data(home: Path) -> None:
    async with embedded.server(home) as url:
        await tell(url, "create table kept as select 7 as n")

        os.kill(postmaster(home), signal.SIGKILL)

        await until_it_answers(url, patience_s=10)
        assert await ask(url, "select n from kept") == 7


async def test_a_killed_guardian_is_replaced_by_a_user_that_is_left(home: Path) -> None:
    async with embedded.server(home) as url:
        first = postmaster(home)
        await tell(url, "create table kept as select 7 as n")

        os.kill(parent_of(first), signal.SIGKILL)
        await until(lambda: not is_running(first))

        await until_it_answers(url, patience_s=10)
        assert await ask(url, "select n from kept") == 7


async def test_data_stay_between_runs(home: Path) -> None:
    async with embedded.server(home) as url:
        await tell(url, "create table kept as select 7 as n")
    await until_stopped(home)

    async with embedded.server(home) as url:
        found = await ask(url, "select n from kept")

    assert found == 7


async def test_a_user_who_comes_while_the_server_stops_gets_a_server(home: Path) -> None:
    answers: list[object] = []

    for _ in range(5):
        async with embedded.server(home) as url:
            answers.append(await ask(url, "select 1"))

    assert answers == [1] * 5


async def test_five_processes_that_start_at_once_share_one_server(
    home: Path, start_user: StartUser
) -> None:
    users = await asyncio.gather(*(start_user(home) for _ in range(5)))

    urls = await asyncio.gather(*(user.url() for user in users))

    starts = (home / "postgres/server.log").read_text().count("starting PostgreSQL 18")
    assert len(set(urls)) == 1
    assert await ask(urls[0], "select 1") == 1
    # initdb and the making of the database run without the listener, and log no start
    assert starts == 1
    await asyncio.gather(*(user.leave() for user in users))


async def test_a_lock_file_whose_number_belongs_to_another_process_is_no_hindrance(
    home: Path,
) -> None:
    async with embedded.server(home):
        pass
    await until_stopped(home)
    owner = owner_of(home / "postgres/data") if os.geteuid() == 0 else None
    other = await asyncio.create_subprocess_exec("sleep", "60", user=owner)
    lock_file = home / "postgres/data/postmaster.pid"
    lock_file.write_text(f"{other.pid}\n{home}\n1\n5432\n")
    lock_file.chmod(0o644)

    async with embedded.server(home) as url:
        answer = await ask(url, "select 1")

    other.kill()
    await other.wait()
    assert answer == 1


async def test_a_home_too_long_for_a_socket_gets_a_short_one(home: Path) -> None:
    long = home / ("directory-" * 10)

    async with embedded.server(long) as url:
        answer = await ask(url, "select 1")

    await until_stopped(long)
    assert f"/rolekit-{os.geteuid()}-" in url
    assert answer == 1


async def test_a_home_with_odd_characters_works(home: Path) -> None:
    odd = home / "a, b'c %d&é"

    async with embedded.server(odd) as url:
        answer = await ask(url, "select 1")

    await until_stopped(odd)
    assert answer == 1


async def test_only_root_lends_the_server_an_account_and_closed_directories_stay_closed(
    home: Path,
) -> None:
    home.mkdir(mode=0o700)

    async with embedded.server(home) as url:
        answer = await ask(url, "select 1")
        owner = owner_of(f"/proc/{postmaster(home)}")

    assert answer == 1
    assert owner != 0
    assert (owner == os.geteuid()) == (os.geteuid() != 0)
    assert home.stat().st_mode & 0o777 == 0o700


async def test_without_root_the_server_is_the_users_own(
    home: Path, start_user: StartUser
) -> None:
    home.mkdir()
    uid = os.geteuid() or NOBODY  # root can become somebody else
    os.chown(home, uid, -1)

    user = await start_user(home, uid=None if os.geteuid() else uid)
    url = await user.url()

    assert await ask(url, "select 1") == 1
    assert owner_of(home / "postgres/data") == uid


async def test_each_test_database_is_empty_and_its_own(rolekit_database: str) -> None:
    tables = await ask(
        rolekit_database,
        "select count(*) from information_schema.tables where table_schema = 'public'",
    )
    name = await ask(rolekit_database, "select current_database()")

    assert tables == 0
    assert str(name).startswith("test_")


async def test_the_oldest_supported_server_is_there_for_tests(postgres15: str) -> None:
    version = await ask(postgres15, "show server_version_num")

    assert 130000 <= int(str(version)) < 190000
