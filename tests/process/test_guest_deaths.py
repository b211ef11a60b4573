"""Nothing of a guest outlives its instance, whatever the instance died of."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import GuestFailed
from rolekit.guest import Limits, Process, leftovers
from rolekit.guest.hosts import Launch
from rolekit.guest.kept import Keeper
from rolekit.guest.pipes import Pipes
from tests.patience import patient
from tests.process.guest_programs import Leftovers, actor, leftovers_in, once, processes

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

INSTANCE = """
import asyncio, os, sys
from rolekit.guest import Exec, Guest, Lines, Process, Sandbox
from rolekit.guest.crew import guests_running
from tests.process.guest_programs import actor, once

class Role:
    process = Guest(Lines(*actor(sys.argv[1])), host=Process(), pool=8)
    sandbox = Guest(Lines(*actor(sys.argv[1])), host=Sandbox(), pool=8)
    run = Guest(Exec(*once(sys.argv[1])), host=Process(), pool=4)

async def main():
    role = Role()
    async with guests_running(role):
        told = sys.argv[2].encode()
        asked = [asyncio.ensure_future(role.run.run(b"", "hang")) for _ in range(4)]
        asked += [asyncio.ensure_future(role.process.ask(told)) for _ in range(4)]
        await asyncio.gather(*asked[4:])
        print("up", flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Leftovers]:
    leftovers = leftovers_in(tmp_path, monkeypatch)
    yield leftovers
    assert leftovers.all() == []


def groups_of(pid: int) -> list[Path]:
    return [
        *Path("/sys/fs/cgroup").glob(f"rolekit-guest-{pid}-*"),
        *Path("/sys/fs/cgroup").glob(f"*/rolekit-guest-{pid}-*"),
    ]


async def test_nothing_is_left_of_twenty_guests_5_s_after_their_instance_was_killed(
    left: Leftovers,
) -> None:
    instance = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(INSTANCE),
        left.token,
        "stray",
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(left.folder)},
        cwd=Path(__file__).parents[2],
    )
    assert instance.stdout is not None
    assert await instance.stdout.readline() == b"up\n"
    await left.soon(lambda: len(processes(left.token)) >= 24)

    os.kill(instance.pid, signal.SIGKILL)
    await instance.wait()

    async with asyncio.timeout(patient(5)):
        await left.soon(lambda: left.all() == [] and groups_of(instance.pid) == [])


@pytest.mark.parametrize(("fault", "because"), [("bomb", "pids"), ("hog", "memory")])
async def test_a_keeper_without_a_cgroup_looks_at_what_a_guest_uses(
    fault: str, because: str, left: Leftovers
) -> None:
    limits = Limits(memory_mb=64, pids=20)
    launch = await asyncio.to_thread(Process().launch, (*once(left.token), fault), limits)
    free = Launch(
        command=launch.command, env=launch.env, limits={}
    )  # the kernel limits nothing
    keeper, pipes = Keeper(limits, use_groups=False), Pipes("guest", 1 << 20)
    await keeper.start()
    try:
        await pipes.open()
        ended = await keeper.launch(free, pipes.theirs, free.command)
        pipes.give_away()

        assert (await ended).because == because
        assert processes(left.token) == []
    finally:
        pipes.close()
        await keeper.stop()


async def test_a_program_that_cannot_be_started_says_why(left: Leftovers) -> None:
    limits = Limits()
    keeper, pipes = Keeper(limits), Pipes("guest", 1 << 20)
    await keeper.start()
    try:
        await pipes.open()
        launch = Launch(command=("/no/such/program",), limits={})
        with pytest.raises(GuestFailed, match=r"it was not started: .*No such file"):
            await keeper.launch(launch, pipes.theirs, launch.command)
    finally:
        pipes.close()
        await keeper.stop()


async def test_what_a_killed_instance_and_its_keepers_left_is_removed_by_the_next(
    left: Leftovers,
) -> None:
    program = textwrap.dedent(INSTANCE)
    instance = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        left.token,
        "fine",
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(left.folder)},
        cwd=Path(__file__).parents[2],
    )
    assert instance.stdout is not None
    assert await instance.stdout.readline() == b"up\n"
    keepers = [pid for pid in processes("keeper.py") if pid in processes(str(left.folder))]

    os.kill(instance.pid, signal.SIGSTOP)  # it must not clear up after them
    for pid in (*keepers, instance.pid):  # as a zygote does, whose instance has died
        os.kill(pid, signal.SIGKILL)
    await instance.wait()
    assert len(keepers) == 24  # four have a spawner, which is a fork of theirs
    assert len(list(left.folder.glob("rolekit-guest-*"))) == 20

    await asyncio.to_thread(leftovers.sweep)

    await left.soon(lambda: left.all() == [] and groups_of(instance.pid) == [])


async def test_a_folder_in_use_is_not_swept(left: Leftovers) -> None:
    keeper = Keeper(Limits())
    await keeper.start()
    try:
        await asyncio.to_thread(leftovers.sweep)

        assert len(list(left.folder.glob("rolekit-guest-*"))) == 1
    finally:
        await keeper.stop()


async def test_a_keeper_that_was_killed_is_cleared_up_after(left: Leftovers) -> None:
    limits = Limits()
    keeper, pipes = Keeper(limits), Pipes("guest", 1 << 20)
    launch = await asyncio.to_thread(Process().launch, actor(left.token), limits)
    await keeper.start()
    await pipes.open()
    await keeper.launch(launch, pipes.theirs, launch.command)

    os.kill(keeper.pid, signal.SIGKILL)
    await left.soon(lambda: keeper.is_lost)

    pipes.close()
    await keeper.stop()
    await left.soon(lambda: processes(left.token) == [])
