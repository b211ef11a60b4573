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
from rolekit.guest import Exec, ExecGuest, Process, Sandbox, cgroups
from rolekit.guest.spawning import LEAST_MB
from tests.patience import patient
from tests.process.guest_programs import (
    LIMITS,
    Leftovers,
    at_work,
    left_in_one_place,
    no_groups,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

each_host = pytest.mark.parametrize("host", [Process(), Sandbox()], ids=["process", "sandbox"])

LOOK = "echo $PPID; ps -o sid= -p $$; echo $$; pwd; echo $HOME $TMPDIR; ls -A; umask; nice"


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Leftovers]:
    yield from left_in_one_place(tmp_path, monkeypatch)


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


async def test_any_number_of_files_comes_and_nothing_of_them_stays_open(
    left: Leftovers,
) -> None:
    limits = replace(LIMITS, memory_mb=LEAST_MB - 1)
    files = {f"file{n}": b"%d\n" % n for n in range(300)}
    look = "cat file*; ls /proc/$PPID/fd | wc -l >&2"

    async with at_work(Exec("sh", "-c", look), host=Process(), limits=limits) as guest:
        runs = [await guest.run(b"", files=files) for _ in range(3)]

    for run in runs:
        assert sorted(map(int, run.stdout.split())) == list(range(300))
    assert len({run.stderr_tail for run in runs}) == 1


@pytest.mark.parametrize("make_groups", [cgroups.make, no_groups], ids=["cgroup", "none"])
async def test_orphans_that_have_ended_do_not_count(
    make_groups: object, left: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rolekit.guest.cgroups.make", make_groups)
    limits = replace(LIMITS, pids=8)
    orphans = "for i in $(seq 40); do (true &); sleep 0.01; done; echo fine"

    async with at_work(Exec("sh", "-c", orphans), host=Process(), limits=limits) as guest:
        assert (await guest.run()).stdout == b"fine\n"


@pytest.mark.parametrize(
    "change",
    [
        "renice -n 5 -p $PPID",
        "chrt -i -p 0 $PPID",
        "prlimit --pid $PPID --core=0:0 --nofile=60:60",
        "(sleep 1000 &) >/dev/null 2>&1; prlimit --pid $PPID --as=1",
    ],
)
async def test_what_a_run_does_to_its_spawner_reaches_no_other(
    change: str, left: Leftovers
) -> None:
    look = "echo $PPID; nice; chrt -p 0 | grep -c IDLE; ulimit -a; cat /proc/self/cgroup"
    async with at_work(Exec("sh", "-c", "{}"), host=Process(), limits=LIMITS) as guest:
        before = await lines(guest, look)
        assert await lines(guest, f"{change} > /dev/null; echo fine") == ["fine"]
        after = await lines(guest, look)

    assert after[0] != before[0]
    assert after[1:] == before[1:]


async def test_a_spawner_that_was_stopped_ends_with_its_keeper_all_the_same(
    left: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rolekit.guest.cgroups.make", no_groups)
    program = f"echo $PPID $$ > {left.folder}/said; kill -STOP $PPID; exec sleep 1000"
    limits = replace(LIMITS, time_s=600)

    async with at_work(
        Exec("sh", "-c", program, left.token), host=Process(), limits=limits
    ) as guest:
        asked = asyncio.ensure_future(guest.run())
        said = left.folder / "said"
        await left.soon(lambda: said.exists() and said.read_text().endswith("\n"))
        spawner, run = (psutil.Process(int(pid)) for pid in said.read_text().split())
        await left.soon(lambda: spawner.status() == psutil.STATUS_STOPPED)
        keeper = spawner.parent()
        assert keeper is not None
        assert keeper.pid != os.getpid()
        os.kill(keeper.pid, signal.SIGKILL)

        async with asyncio.timeout(patient(5)):
            with pytest.raises(GuestFailed):
                await asked
            await left.soon(lambda: not any(map(_lives, [spawner, run])))


@pytest.mark.parametrize("memory_mb", [64, LEAST_MB - 1], ids=["stays", "for one run"])
async def test_a_run_is_the_same_with_and_without_a_spawner(
    memory_mb: int, left: Leftovers, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text("trap - XFSZ; dd if=/dev/zero of=large bs=1M count=2; echo $?\n")
    script.chmod(0o755)
    limits = replace(LIMITS, memory_mb=memory_mb, scratch_mb=1)

    async with at_work(Exec(str(script)), host=Process(), limits=limits) as guest:
        done = await guest.run()

    assert done.stdout.split() == [b"%d" % (128 + signal.SIGXFSZ)]
