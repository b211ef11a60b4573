"""Guests that do what guests do: each fault ends as it should, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

from rolekit.errors import AppError, GuestFailed, Reject, Retry
from rolekit.guest import (
    Exec,
    ExecGuest,
    Frames,
    Guest,
    Limits,
    LineGuest,
    Lines,
    Process,
    Sandbox,
)
from rolekit.guest.crew import guests_running
from tests.process.guest_programs import (
    LIMITS,
    Leftovers,
    actor,
    leftovers_in,
    limits_of,
    once,
    processes,
    silent,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

HOSTS = pytest.mark.parametrize("host", [Process(), Sandbox()], ids=["process", "sandbox"])


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Leftovers]:
    leftovers = leftovers_in(tmp_path, monkeypatch)
    yield leftovers
    assert leftovers.all() == []


@asynccontextmanager
async def lines(
    left: Leftovers, host: Process | Sandbox, limits: Limits = LIMITS, pool: int = 1
) -> AsyncGenerator[LineGuest]:
    class Role:
        guest = Guest(Lines(*actor(left.token)), host=host, limits=limits, pool=pool)

    role = Role()
    async with guests_running(role):
        yield role.guest


@asynccontextmanager
async def runs(
    left: Leftovers, host: Process | Sandbox, limits: Limits = LIMITS
) -> AsyncGenerator[ExecGuest]:
    class Role:
        guest = Guest(Exec(*once(left.token)), host=host, limits=limits)

    role = Role()
    async with guests_running(role):
        yield role.guest


FAULTS = {
    "exit": "it ended instead of answering. Its exit status was 3",
    "kill": "it ended instead of answering",
    "hang": "took longer than its time_s, 2.5 s; it was killed",
    "half": "took longer than its time_s, 2.5 s; it was killed",
    "partial": r"it ended in the middle of an answer \(3 bytes\). Its exit status was 0",
    "flood": "it wrote more than the 4 MB that output_mb allows",
    "bomb": "took longer than its time_s|more processes than its pids",
    "hog": "used more than its memory_mb|it ended instead of answering",
    "fill": "it ended instead of answering",
}


@HOSTS
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_guest_that_stays_is_replaced_after_a_fault(
    fault: str, host: Process | Sandbox, left: Leftovers
) -> None:
    async with lines(left, host, limits_of(fault)) as guest:
        before = set(processes(left.token))

        with pytest.raises(GuestFailed, match=FAULTS[fault]):
            await guest.ask(fault.encode())

        assert await guest.ask(b"fine") == b"fine"
        assert not before & set(processes(left.token))


@HOSTS
@pytest.mark.parametrize("fault", [f for f in FAULTS if f not in {"partial", "half"}])
async def test_a_run_that_fails_says_how_and_leaves_nothing(
    fault: str, host: Process | Sandbox, left: Leftovers
) -> None:
    said = {"exit": "exit status 3", "kill": "SIGKILL ended it", "hog": "memory_mb|ended|exit"}
    said |= {"fill": "SIGXFSZ ended it|exit status"}
    async with runs(left, host, limits_of(fault)) as guest:
        with pytest.raises(GuestFailed, match=said.get(fault, FAULTS[fault])):
            await guest.run(b"", fault)

        assert processes(left.token) == []
        assert (await guest.run(b"", "fine")).stdout == b"fine\n"


@HOSTS
async def test_a_guest_has_so_much_processor_time(
    host: Process | Sandbox, left: Leftovers
) -> None:
    limits = replace(LIMITS, cpu_s=1)
    told = "used more than its cpu_s, 1 s, and was killed"
    async with runs(left, host, limits) as guest, lines(left, host, limits) as stays:
        with pytest.raises(GuestFailed, match=told):
            await guest.run(b"", "spin")
        with pytest.raises(GuestFailed, match=told):
            await stays.ask(b"spin")

        assert (await guest.run(b"", "fine")).stdout == b"fine\n"
        assert await stays.ask(b"fine") == b"fine"


@HOSTS
async def test_a_guest_out_of_step_is_replaced_before_it_is_asked_again(
    host: Process | Sandbox, left: Leftovers
) -> None:
    async with lines(left, host) as guest:
        assert await guest.ask(b"garbage") == b"x"

        answers = [await guest.ask(b"fine") for _ in range(5)]

        assert answers == [b"fine"] * 5


@HOSTS
async def test_the_answer_of_a_guest_that_dies_after_it_stands(
    host: Process | Sandbox, left: Leftovers
) -> None:
    async with lines(left, host) as guest:
        before = set(processes(left.token))
        assert await guest.ask(b"last") == b"fine"

        await left.soon(lambda: bool(set(processes(left.token)) - before))

        assert await guest.ask(b"fine") == b"fine"


@HOSTS
async def test_nothing_that_a_guest_wrote_survives_it(
    host: Process | Sandbox, left: Leftovers
) -> None:
    async with lines(left, host) as guest:
        await guest.ask(b"write")
        assert await guest.ask(b"look") == b"there"
        with pytest.raises(GuestFailed):
            await guest.ask(b"kill")

        assert await guest.ask(b"look") == b"nothing"


@HOSTS
async def test_what_left_the_tree_of_a_guest_is_killed_with_it(
    host: Process | Sandbox, left: Leftovers
) -> None:
    async with runs(left, host) as guest:
        done = await guest.run(b"", "stray")

        assert done.stdout == b"fine\n"
        assert processes(left.token) == []


@HOSTS
async def test_a_slow_start_keeps_the_instance_from_starting(
    host: Process | Sandbox, left: Leftovers
) -> None:
    class Role:
        guest = Guest(silent(left.token), host=host, limits=Limits(start_s=0.5))

    with pytest.raises(AppError, match=r"Role.guest \(.*not ready within start_s, 0.5 s"):
        async with guests_running(Role()):
            pass


@HOSTS
async def test_a_guest_killed_while_idle_is_replaced_before_anybody_asks(
    host: Process | Sandbox, left: Leftovers
) -> None:
    def guests() -> set[int]:
        return set(processes(left.token))

    async with lines(left, host) as guest:
        before = guests()
        with structlog.testing.capture_logs() as logs:
            for pid in before:
                _kill(pid)
            await left.soon(lambda: len(guests() - before) >= len(before))

            assert await guest.ask(b"fine") == b"fine"
        assert [line["why"] for line in logs if line["event"] == "replacing a guest"] == [
            "it wrote, or ended, while nobody asked"
        ]


@HOSTS
async def test_a_keeper_that_dies_is_replaced_with_its_guest(
    host: Process | Sandbox, left: Leftovers
) -> None:
    async with lines(left, host) as guest:
        for pid in processes("keeper.py"):
            if str(left.folder) in " ".join(_command(pid)):
                _kill(pid)

        answers: list[bytes] = []
        while not answers:  # the first may meet it while it dies
            try:
                answers.append(await guest.ask(b"fine"))
            except GuestFailed:
                continue

        assert answers == [b"fine"]


async def test_a_guest_is_replaced_after_so_many_uses(left: Leftovers) -> None:
    async with lines(left, Process(), Limits(uses=2)) as guest:
        first = processes(left.token)
        await guest.ask(b"fine")
        assert processes(left.token) == first
        await guest.ask(b"fine")

        await guest.ask(b"fine")

        assert processes(left.token) != first


async def test_a_guest_is_replaced_when_it_is_old(left: Leftovers) -> None:
    async with lines(left, Process(), Limits(age_s=0.1)) as guest:
        await guest.ask(b"write")

        await left.soon(lambda: _is_new(left))

        assert await guest.ask(b"look") == b"nothing"


async def test_a_cancelled_call_costs_the_guest_and_not_the_next_caller(
    left: Leftovers,
) -> None:
    async with lines(left, Process()) as guest:
        asked = asyncio.ensure_future(guest.ask(b"hang"))
        await asyncio.sleep(0.05)
        asked.cancel()

        assert await guest.ask(b"fine") == b"fine"


async def test_calls_share_the_guests_of_a_pool(left: Leftovers) -> None:
    async with lines(left, Process(), pool=3) as guest:
        assert len(processes(left.token)) == 3

        answers = await asyncio.gather(*(guest.ask(b"fine") for _ in range(50)))

        assert answers == [b"fine"] * 50
        assert len(processes(left.token)) == 3


async def test_frames_carry_any_bytes_and_a_false_length_is_a_fault(left: Leftovers) -> None:
    echo = (
        "binmode STDIN; binmode STDOUT; $| = 1;"
        "while (read(STDIN, my $h, 4) == 4) { my $n = unpack 'N', $h; read STDIN, my $b, $n;"
        " if ($b eq 'lie') { print pack('N', 4_000_000_000), 'x' } else { print $h, $b } }"
    )

    class Role:
        guest = Guest(Frames("perl", "-e", echo, left.token), host=Process(), limits=LIMITS)

    role = Role()
    async with guests_running(role):
        whole = bytes(range(256)) * 8000
        assert await role.guest.ask(whole) == whole
        assert await role.guest.ask(b"") == b""
        with pytest.raises(GuestFailed, match="announced 4000000000 bytes"):
            await role.guest.ask(b"lie")
        assert await role.guest.ask(b"\n") == b"\n"


@HOSTS
@pytest.mark.parametrize(
    ("status", "error"),
    [(75, Retry), (64, Reject), (69, Reject), (70, GuestFailed), (1, GuestFailed)],
)
async def test_an_exit_status_means_what_sysexits_says(
    status: int, error: type[Exception], host: Process | Sandbox, left: Leftovers
) -> None:
    class Role:
        guest = Guest(
            Exec("perl", "-e", "print STDERR 'why'; exit $ARGV[0]", "{}", left.token), host=host
        )

    role = Role()
    async with guests_running(role):
        with pytest.raises(error, match=f"exit status {status}: why"):
            await role.guest.run(b"", str(status))


@HOSTS
async def test_a_run_gets_bytes_files_and_arguments_in_their_places(
    host: Process | Sandbox, left: Leftovers
) -> None:
    class Role:
        guest = Guest(Exec("sh", "-c", 'cat - "$1"; echo "$2"', left.token, "{}"), host=host)

    role = Role()
    async with guests_running(role):
        done = await role.guest.run(b"in ", "f", "-rest", files={"f": b"file "})

        assert done.stdout == b"in file -rest\n"
        with pytest.raises(Reject, match="no name for a file"):
            await role.guest.run(b"", "x", files={"../f": b""})
        with pytest.raises(Reject, match="has a NUL"):
            await role.guest.run(b"", "x\0")


async def test_large_input_and_output_pass_each_other(left: Leftovers) -> None:
    class Role:
        guest = Guest(Exec("cat", "-", "/dev/null"), host=Process())

    role = Role()
    async with guests_running(role):
        whole = b"0123456789abcdef" * 500_000

        assert (await role.guest.run(whole)).stdout == whole


async def test_what_a_guest_says_is_logged_line_by_line(left: Leftovers) -> None:
    async with lines(left, Process()) as guest:
        with structlog.testing.capture_logs() as logs:
            await guest.ask(b"say")
            await left.soon(lambda: len(logs) == 2)

    assert [(line["event"], line["guest"], line["said"]) for line in logs] == [
        ("a guest says", "Role.guest", "one"),
        ("a guest says", "Role.guest", "two \x1b[31m"),
    ]


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # gone with another
        os.kill(pid, signal.SIGKILL)


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []


def _is_new(left: Leftovers) -> bool:
    return not any(left.folder.glob("rolekit-guest-*/*/mark"))
