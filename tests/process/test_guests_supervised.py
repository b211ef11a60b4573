"""Guests below a supervisor: nothing is left of them when it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.patience import patient
from tests.process.guest_programs import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.engine import PrivateEngine

pytestmark = [pytest.mark.anyio, pytest.mark.servers, pytest.mark.timeout(180)]

GUESTS = 24  # processes: the engine puts one before each container's
STAYING = 5  # in containers; that of `Exec` is made anew when it is called
LEFT_S = patient(5.0)


class Fleet:
    """`rolekit up` of `guests_app`."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], token: str) -> None:
        self.process = process
        self.token = token
        self._said = folder / "said"

    @property
    def said(self) -> str:
        """All that it has printed."""
        return self._said.read_text()

    async def says(self, text: str) -> None:
        """Wait until it has printed this."""
        while text not in self.said:
            assert self.process.poll() is None, self.said
            await asyncio.sleep(0.05)


@contextmanager
def up(folder: Path, database: str, engine: str, **environ: str) -> Generator[Fleet]:
    folder.chmod(0o755)
    token = f"token-{os.getpid()}-{os.urandom(4).hex()}"
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "rolekit", "up", "tests.process.guests_app:app"],
            stdout=said,
            stderr=said,
            cwd=Path(__file__).parents[2],
            env={
                **os.environ,
                "TMPDIR": str(folder),
                "ROLEKIT_HOME": str(folder),
                "ROLEKIT_DATABASE": database,
                "DOCKER_HOST": engine,
                "GUESTS_TOKEN": token,
                **environ,
            },
        )
    try:
        yield Fleet(folder, process, token)
    finally:
        process.kill()
        process.wait()


async def containers(engine: PrivateEngine) -> list[str]:
    return (await asyncio.to_thread(engine.docker, "ps", "--all", "--quiet")).split()


async def test_nothing_is_left_of_twenty_guests_5_s_after_their_supervisor_was_killed(
    tmp_path: Path, database_url: str, engine: PrivateEngine
) -> None:
    with up(tmp_path, database_url, engine.url) as fleet:
        await fleet.says("guests is up")
        assert len(await containers(engine)) == 6
        await until(lambda: len(processes(fleet.token)) >= GUESTS)
        assert len(launchers(tmp_path)) == 1

        fleet.process.kill()
        async with asyncio.timeout(LEFT_S):
            await until(lambda: not processes(fleet.token))
            while await containers(engine):
                continue
        await until(lambda: not [*tmp_path.glob("rolekit-launcher-*")])


async def test_a_launcher_that_was_killed_is_replaced_and_its_guests_come_back(
    tmp_path: Path, database_url: str, engine: PrivateEngine
) -> None:
    with up(tmp_path, database_url, engine.url) as fleet:
        await fleet.says("guests is up")
        before = set(await containers(engine))
        (launcher,) = launchers(tmp_path)

        os.kill(launcher, signal.SIGKILL)

        await fleet.says("the launcher of containers died; starting another")
        await until(lambda: bool(set(launchers(tmp_path)) - {launcher}))
        while len(set(await containers(engine)) - before) < STAYING:
            continue
        while before & set(await containers(engine)):
            continue
        assert fleet.process.poll() is None
        assert "Legacy cannot start" not in fleet.said
        fleet.process.terminate()
        await until(lambda: fleet.process.poll() is not None)
        assert await containers(engine) == []


async def test_an_image_that_is_not_there_keeps_the_app_from_starting(
    tmp_path: Path, database_url: str, engine: PrivateEngine
) -> None:
    with up(tmp_path, database_url, engine.url, GUESTS_IMAGE="no-such:image") as fleet:
        await fleet.says("Legacy cannot start: Legacy.container (")
        assert "has no image 'no-such:image'. Get it (docker pull" in fleet.said
        await until(lambda: fleet.process.poll() is not None)
        assert fleet.process.returncode == 1


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds; the limit is the test's."""
    while not holds():  # noqa: ASYNC110 - what other processes do is not an event of ours
        await asyncio.sleep(0.05)


def launchers(folder: Path) -> list[int]:
    """Return the launchers that have a lock in this folder."""
    found: list[int] = []
    for pid in processes("rolekit.guest.launcher"):
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if f"TMPDIR={folder}".encode() in environ:
            found.append(pid)
    return found
