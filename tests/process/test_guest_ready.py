"""A guest that is made ready before its call: it runs as if it had been started for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from rolekit.errors import GuestFailed
from rolekit.guest import Exec, Limits, Process, Sandbox, pool
from rolekit.guest.spawning import LEAST_MB
from tests.process.guest_programs import (
    Leftovers,
    at_work,
    groups,
    leftovers_in,
    no_groups,
    processes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

each_host = pytest.mark.parametrize("host", [Process(), Sandbox()], ids=["process", "sandbox"])


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Leftovers]:
    leftovers = leftovers_in(tmp_path, monkeypatch)
    yield leftovers
    assert leftovers.all() == []


def children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]


def keepers() -> list[int]:
    return [pid for pid in children(os.getpid()) if pid in processes("keeper.py")]


def forked_by(keeper: int, *, is_forked: bool) -> list[int]:
    """Return those children of a keeper that are forks of it, or those that are bubblewrap."""
    forks = processes("keeper.py")
    return [pid for pid in children(keeper) if (pid in forks) == is_forked]


@pytest.mark.parametrize(
    ("host", "memory_mb", "stays"),
    [(Process(), 64, True), (Sandbox(), 64, True), (Sandbox(), LEAST_MB - 1, False)],
    ids=["process", "sandbox that stays", "sandbox"],
)
async def test_the_next_guest_is_there_before_its_call(
    host: Process | Sandbox, memory_mb: int, *, stays: bool, left: Leftovers
) -> None:
    limits = Limits(memory_mb=memory_mb)
    async with at_work(Exec("/bin/echo", "done"), host=host, limits=limits) as guest:
        (keeper,) = keepers()
        first = set(children(keeper))
        assert first

        assert (await guest.run()).stdout == b"done\n"

        await left.soon(lambda: bool(children(keeper)))
        assert first & set(children(keeper)) == (first if stays else set())


@pytest.mark.parametrize(
    ("host", "is_forked"),
    [(Process(), True), (Sandbox(), False), (Sandbox(), True)],
    ids=["process", "sandbox", "spawner"],
)
async def test_a_guest_that_was_killed_while_it_waited_costs_one_call_at_most(
    host: Process | Sandbox, *, is_forked: bool, left: Leftovers
) -> None:
    async with at_work(Exec("/bin/echo", "done"), host=host) as guest:
        (keeper,) = keepers()
        (waiting,) = forked_by(keeper, is_forked=is_forked)
        os.kill(waiting, signal.SIGKILL)
        await left.soon(lambda: waiting not in children(keeper))
        with contextlib.suppress(GuestFailed):  # its end may not be known here yet
            await guest.run()

        assert (await guest.run()).stdout == b"done\n"


@each_host
async def test_calls_in_a_row_have_a_stock_that_goes_when_it_is_not_needed(
    host: Process | Sandbox, left: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CHECK_S", 0.05)

    async with at_work(Exec("/bin/echo", "done"), host=host) as guest:
        assert len(keepers()) == 1
        most = 0
        while most < 2:
            assert (await guest.run()).stdout == b"done\n"
            most = len(keepers())
        for _ in range(20):
            await guest.run()
            most = max(most, len(keepers()))

        assert most <= 1 + pool.SPARE
        await left.soon(lambda: len(keepers()) == 1)
        assert (await guest.run()).stdout == b"done\n"


async def test_a_stock_lets_no_more_run_at_once(left: Leftovers, tmp_path: Path) -> None:
    alone = f"mkdir {tmp_path}/one && sleep 0.02 && rmdir {tmp_path}/one"

    async with at_work(Exec("sh", "-c", alone), host=Process()) as guest:
        await asyncio.gather(*(guest.run() for _ in range(12)))


async def test_a_guest_that_has_waited_too_long_is_not_used(left: Leftovers) -> None:
    async with at_work(
        Exec("sh", "-c", "echo $PPID"), host=Process(), limits=Limits(age_s=0.1)
    ) as guest:
        (keeper,) = keepers()
        (waiting,) = children(keeper)
        await asyncio.sleep(0.2)  # it is about time that passes

        assert int((await guest.run()).stdout) != waiting


@each_host
async def test_any_argument_arrives_as_it_is(host: Process | Sandbox, left: Leftovers) -> None:
    arguments = [
        "",
        "it's",
        "two\nlines\n",
        "\n\n",
        '"$n" `id` $(id) \\ \\n * ~ ; & | > <',
        os.fsdecode(bytes(range(1, 256))),
        "x" * 100_000,
    ]

    async with at_work(
        Exec("/usr/bin/perl", "-e", 'print join "\\0", @ARGV', "{}"), host=host
    ) as guest:
        got = (await guest.run(b"", *arguments)).stdout

    assert got == b"\0".join(map(os.fsencode, arguments))


@each_host
async def test_the_environment_is_the_one_that_it_is_given(
    host: Process | Sandbox, left: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANG", "C.UTF-8")

    async with at_work(Exec("/usr/bin/env", "-0"), host=host) as guest:
        got = (await guest.run()).stdout.decode()

    names = {line.partition("=")[0] for line in got.split("\0") if line}
    assert names - {"LC_ALL", "LC_CTYPE", "TZ"} == {"PATH", "HOME", "TMPDIR", "LANG"}


@each_host
async def test_nothing_of_what_made_it_ready_is_open_in_the_program(
    host: Process | Sandbox, left: Leftovers
) -> None:
    async with at_work(Exec("/bin/ls", "/proc/self/fd"), host=host) as guest:
        got = (await guest.run()).stdout

    assert got.split() == [b"0", b"1", b"2", b"3"]  # 3: the folder that is listed


@pytest.fixture
def one_group() -> Iterator[None]:
    """This process, and so its keepers, in a group besides its own, where we may."""
    before = os.getgroups()
    if os.geteuid() == 0:
        os.setgroups([1])
    yield
    if os.geteuid() == 0:
        os.setgroups(before)


@pytest.mark.usefixtures("one_group")
@pytest.mark.parametrize("memory_mb", [77, LEAST_MB - 1], ids=["stays", "for one run"])
async def test_what_waits_in_a_sandbox_has_its_rights_and_limits_already(
    memory_mb: int, left: Leftovers
) -> None:
    limits = Limits(scratch_mb=3, memory_mb=memory_mb, pids=9)
    async with at_work(Exec("/bin/true"), host=Sandbox(), limits=limits):
        (keeper,) = keepers()
        (outer,) = forked_by(keeper, is_forked=False)
        (inner,) = children(outer)
        spawners = forked_by(keeper, is_forked=True)
        assert len(spawners) == (memory_mb >= LEAST_MB)

        uid = 65534 if os.geteuid() == 0 else os.geteuid()
        for pid in (outer, inner, *spawners):
            assert set(said_of(pid, "Uid")) == {str(uid)}
            assert os.geteuid() or said_of(pid, "Groups") == []
            assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "500\n"
        for pid in spawners or (outer, inner):  # what the run is, or is started by
            for group in groups():
                assert str(pid) in (group / "cgroup.procs").read_text().split()
        for pid in (outer, inner):
            assert os.getsid(pid) != os.getsid(keeper)
        assert int(said_of(outer, "SigIgn")[0], 16) & 1 << signal.SIGPIPE - 1 == 0
        for pid in (inner, *spawners):
            held = Path(f"/proc/{pid}/limits").read_text()
            for what, most in [("file size", 3 << 20), ("data size", memory_mb << 20)]:
                assert re.search(rf"^Max {what} +{most} +{most} ", held, re.MULTILINE)
            # and bubblewrap's own, or the spawner
            assert re.search("^Max processes +10 +10 ", held, re.MULTILINE)
        for pid in spawners:
            assert said_of(pid, "NoNewPrivs") == ["1"]
            assert said_of(pid, "Seccomp") == ["2"]
            for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"):
                assert int(said_of(pid, f"Cap{kind}")[0], 16) == 0


def said_of(pid: int, name: str) -> list[str]:
    """Return what the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith(f"{name}:"))


async def test_a_keeper_is_what_it_was_after_it_has_started_a_guest(left: Leftovers) -> None:
    async with at_work(Exec("/bin/true"), host=Sandbox()):
        (keeper,) = keepers()
        own, ours = Path(f"/proc/{keeper}/oom_score_adj"), Path("/proc/self/oom_score_adj")

        assert own.read_text() == ours.read_text()
        assert said_of(keeper, "Uid") == said_of(os.getpid(), "Uid")


@each_host
async def test_files_come_to_a_guest_that_was_ready(
    host: Process | Sandbox, left: Leftovers
) -> None:
    async with at_work(Exec("sh", "-c", "cat a b && ls"), host=host) as guest:
        first = await guest.run(b"", files={"a": b"one\n", "b": b"two\n"})
        with pytest.raises(GuestFailed, match="No such file"):
            await guest.run()

    assert first.stdout.split() == [b"one", b"two", b"a", b"b"]


async def test_arguments_that_the_system_does_not_take_are_said(left: Leftovers) -> None:
    async with at_work(Exec("/bin/echo"), host=Process()) as guest:
        with pytest.raises(GuestFailed, match=r"was not started: .*[Aa]rgument list too long"):
            await guest.run(b"", "x" * 200_000)

        assert (await guest.run(b"", "short")).stdout == b"short\n"


async def test_a_system_without_a_shell_has_its_guests_started_by_the_call(
    left: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rolekit.guest.sandbox.SHELL", "/none")

    async with at_work(Exec("/bin/cat"), host=Sandbox()) as guest:
        assert children(keepers()[0]) == []

        assert (await guest.run(b"text")).stdout == b"text"


@each_host
async def test_what_waits_is_not_judged_by_the_memory_of_the_program(
    host: Process | Sandbox, left: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rolekit.guest.cgroups.make", no_groups)

    async with at_work(Exec("/bin/cat"), host=host, limits=Limits(memory_mb=9)) as guest:
        (keeper,) = keepers()
        waiting = children(keeper)
        await asyncio.sleep(0.3)  # it is looked at each 50 ms

        assert children(keeper) == waiting
        assert (await guest.run(b"text")).stdout == b"text"
