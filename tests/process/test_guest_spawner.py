"""A process that stays to start one program after another: no run learns of the one before."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from rolekit.errors import GuestFailed
from rolekit.guest import Exec, ExecGuest, Process, Sandbox
from rolekit.guest.spawning import LEAST_MB
from tests.patience import patient
from tests.process.guest_programs import (
    LIMITS,
    Leftovers,
    at_work,
    leftovers_in,
    no_groups,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

each_host = pytest.mark.parametrize("host", [Process(), Sandbox()], ids=["process", "sandbox"])

LOOK = "echo $PPID; ps -o sid= -p $$; echo $$; pwd; echo $HOME $TMPDIR; ls -A; umask; nice"


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Leftovers]:
    # One place: a run is where the one before it was, and not in one more.
    monkeypatch.setattr("rolekit.guest.pool.SPARE", 0)
    leftovers = leftovers_in(tmp_path, monkeypatch)
    yield leftovers
    assert leftovers.all() == []


async def lines(guest: ExecGuest, script: str) -> list[str]:
    return (await guest.run(b"", script)).stdout.decode().split()


async def test_runs_have_one_spawner_and_each_its_own_session_and_folder(
    left: Leftovers,
) -> None:
    async with at_work(Exec("sh", "-c", "{}"), host=Process(), limits=LIMITS) as guest:
        looks = [await lines(guest, LOOK) for _ in range(3)]

    spawners, sessions, pids, *_ = zip(*looks, strict=True)
    assert len(set(spawners)) == 1
    assert sessions == pids
    assert len(set(pids)) == 3
    assert len({folder for _, _, _, folder, *_ in looks}) == 3
    for _, _, _, folder, home, scratch, *_ in looks:
        assert home == scratch == folder
        assert folder.startswith(str(left.folder))


async def test_a_spawner_is_worth_it_for_one_run(left: Leftovers) -> None:
    limits = replace(LIMITS, uses=1)
    async with at_work(Exec("sh", "-c", "{}"), host=Process(), limits=limits) as guest:
        parents = [await lines(guest, "echo $PPID") for _ in range(6)]

    assert len({parent for (parent,) in parents}) == 6  # a keeper would be one and the same


@pytest.mark.parametrize(
    "leave",
    [
        "echo text > file; mkdir -p a/b",
        "(sleep 1000 &) > /dev/null 2>&1",
        "setsid sh -c 'sleep 1000 &' > /dev/null 2>&1",
        "cd ..; rmdir $TMPDIR",
        "umask 0; renice 5 $$ > /dev/null; export LEFT=1",
    ],
    ids=["files", "a process", "a session", "no folder", "settings"],
)
async def test_nothing_that_a_run_leaves_reaches_the_next(leave: str, left: Leftovers) -> None:
    script = Exec("sh", "-c", "{}", left.token)
    async with at_work(script, host=Process(), limits=LIMITS) as guest:
        before = await lines(guest, f"{LOOK}; env | sort")
        folder = (await lines(guest, f"pwd; {leave}"))[0]
        after = await lines(guest, f"{LOOK}; env | sort")

        assert not Path(folder).exists()
        assert before[0] == after[0]
        keeper = psutil.Process(int(after[0])).parent()
        assert keeper is not None
        assert [child.pid for child in keeper.children(recursive=True)] == [int(after[0])]
    own = set(before[1:]) - set(after[1:])  # numbers, folders
    assert len(before) == len(after)
    assert all(word.strip("/").isdigit() or str(left.folder) in word for word in own)


@pytest.mark.parametrize("victim", ["keeper", "spawner"])
async def test_a_run_and_what_it_started_die_with_who_started_it(
    victim: str, left: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rolekit.guest.cgroups.make", no_groups)
    program = f"setsid sleep 1000 & echo $PPID > {left.folder}/said; sleep 1000"
    command = Exec("sh", "-c", program, left.token)

    async with at_work(command, host=Process(), limits=LIMITS) as guest:
        asked = asyncio.ensure_future(guest.run())
        said = left.folder / "said"
        await left.soon(lambda: said.exists() and said.read_text().endswith("\n"))
        spawner = psutil.Process(int(said.read_text()))
        keeper = spawner.parent()
        assert keeper is not None
        assert keeper.pid != os.getpid()  # it is going to be killed
        below = spawner.children(recursive=True)
        assert len(below) == 3

        # The instance does not see it: nobody else is to end them.
        with monkeypatch.context() as patch:
            patch.setattr("rolekit.guest.kept.Keeper.stop", _wait)
            os.kill(keeper.pid if victim == "keeper" else spawner.pid, signal.SIGKILL)
            async with asyncio.timeout(patient(5)):
                with pytest.raises(GuestFailed):
                    await asked
                await left.soon(lambda: not any(map(_lives, [*below, spawner])))


async def _wait(_self: object) -> None:
    await asyncio.Event().wait()


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


@each_host
@pytest.mark.parametrize("memory_mb", [64, LEAST_MB - 1], ids=["stays", "for one run"])
async def test_a_run_may_be_as_many_processes_as_it_is_allowed(
    host: Process | Sandbox, memory_mb: int, left: Leftovers
) -> None:
    limits = replace(LIMITS, pids=3, memory_mb=memory_mb)
    async with at_work(Exec("sh", "-c", "{}"), host=host, limits=limits) as guest:
        two = "sleep 0.1 & sleep 0.1 & wait; echo fine"
        assert (await guest.run(b"", two)).stdout == b"fine\n"

        with pytest.raises(GuestFailed, match=r"Cannot fork|more processes than its pids"):
            await guest.run(b"", f"sleep 0.5 & {two}")


@each_host
async def test_files_come_to_a_guest_that_has_no_spawner(
    host: Process | Sandbox, left: Leftovers
) -> None:
    limits = replace(LIMITS, memory_mb=LEAST_MB - 1)
    async with at_work(Exec("sh", "-c", "cat a b; ls"), host=host, limits=limits) as guest:
        done = await guest.run(b"", files={"a": b"one\n", "b": b"two\n"})

    assert done.stdout.split() == [b"one", b"two", b"a", b"b"]
