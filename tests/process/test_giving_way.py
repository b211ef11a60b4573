"""The zygote of another version, a real one: it goes last while it imports, and only then."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rolekit.supervisor import forker as forking
from rolekit.supervisor import linux
from rolekit.supervisor.forker import Forker
from tests.niceness import NICEST, counts_by_session, may_come_back, mine, said
from tests.patience import patient

pytestmark = pytest.mark.anyio

APP = """
import os, time
from rolekit import App, WorkerRole
from tests.niceness import said

def note():
    with open({noted!r}, "a") as file:
        print(said(os.getpid()), file=file)

note()
ends_s = time.time() + {import_s}
while time.time() < ends_s and said(os.getpid()) != {until!r}:
    time.sleep(0.05)
note()

class Idle(WorkerRole):
    pass

app = App("idle", roles=[Idle])
"""


@pytest.fixture(autouse=True)
def no_blocking_calls() -> None:
    """A supervisor starts processes in its loop, and reads what the kernel says of them."""


async def imported(
    folder: Path, import_s: float, *, gives_way: bool, until: str = ""
) -> list[str]:
    """Have a zygote import an app for so long, or until this is said; return its notes."""
    noted = folder / "noted"
    (folder / "idle_app.py").write_text(
        APP.format(noted=str(noted), import_s=import_s, until=until)
    )
    before = set(linux.children())
    one = Forker("idle_app:app", environ={"PYTHONPATH": str(folder)})
    try:
        await one.start(gives_way=gives_way)
        (warden,) = set(linux.children()) - before
        async with asyncio.timeout(patient(5)):
            while not are_usual(warden):  # noqa: ASYNC110 - the kernel's
                await asyncio.sleep(0.05)
    finally:
        await one.stop()
    return noted.read_text().splitlines()


def are_usual(warden: int) -> bool:
    """Whether a warden and its zygote are as nice as any process, their session likewise."""
    children = Path(f"/proc/{warden}/task/{warden}/children").read_text().split()
    return len(children) == 1 and all(
        said(pid) == usual() for pid in (warden, int(children[0]))
    )


def nicest() -> str:
    """What is said of one that lets all others go first, as far as this system has means."""
    session = NICEST if counts_by_session() else "none"
    return f"{NICEST if may_come_back() else mine()} {session}"


def usual() -> str:
    """What is said of a process that nobody made nicer, in a session of its own."""
    return f"{mine()} {'0' if counts_by_session() else 'none'}"


@pytest.mark.timeout(120)
async def test_it_goes_last_while_it_imports_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "GIVES_WAY_S", 600)

    first, second = await imported(tmp_path, 0.1, gives_way=True)

    assert first == nicest()
    assert second == first


@pytest.mark.timeout(120)
async def test_it_comes_back_after_a_while_though_it_still_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "GIVES_WAY_S", 1)

    *_, last = await imported(tmp_path, 60, gives_way=True, until=usual())

    assert last == usual()


async def test_the_first_version_does_not_wait_for_anybody(tmp_path: Path) -> None:
    assert await imported(tmp_path, 0, gives_way=False) == [usual(), usual()]
