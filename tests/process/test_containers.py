"""Guests in containers of a real engine: their faults, and that nothing is left of them."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import AppError, GuestFailed, Reject, Retry
from rolekit.guest import Container, Exec, Frames, Guest, Limits, Lines
from rolekit.guest.crew import guests_running
from tests.process.guest_programs import (
    BRIEF,
    DEBIAN,
    LIMITS,
    TIMELY,
    Leftovers,
    actor,
    once,
    processes,
    silent,
)

if TYPE_CHECKING:
    from rolekit.guest.once import ExecGuest
    from rolekit.guest.talks import LineGuest
    from tests.engine import PrivateEngine

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]


FAULTS = {
    "exit": "it ended instead of answering. Its exit status was 3",
    "kill": "it ended instead of answering",
    "hang": "took longer than its time_s, 2.5 s; it was killed",
    "half": "took longer than its time_s, 2.5 s; it was killed",
    "partial": r"it ended in the middle of an answer \(3 bytes\). Its exit status was 0",
    "flood": "it wrote more than the 4 MB that output_mb allows",
    "bomb": "took longer than its time_s",
    "hog": "used more than its memory_mb|it ended instead of answering",
    "fill": "it ended instead of answering",
}


async def test_a_guest_that_stays_is_replaced_after_each_fault(left: Leftovers) -> None:
    class Role:
        guest = Guest(Lines(*actor(f"guest-{left.token}")), host=DEBIAN, limits=LIMITS)
        hang = Guest(Lines(*actor(f"hang-{left.token}")), host=DEBIAN, limits=BRIEF)
        half = Guest(Lines(*actor(f"half-{left.token}")), host=DEBIAN, limits=BRIEF)
        bomb = Guest(Lines(*actor(f"bomb-{left.token}")), host=DEBIAN, limits=BRIEF)

    role = Role()
    async with guests_running(role):
        async with asyncio.TaskGroup() as at_once:  # most of the time is waiting
            at_once.create_task(_replaced(role.hang, "hang", f"hang-{left.token}"))
            at_once.create_task(_replaced(role.half, "half", f"half-{left.token}"))
            at_once.create_task(_replaced(role.bomb, "bomb", f"bomb-{left.token}"))
            for fault in [name for name in FAULTS if name not in TIMELY]:
                await _replaced(role.guest, fault, f"guest-{left.token}")

        assert await role.guest.ask(b"garbage") == b"x"
        assert [await role.guest.ask(b"fine") for _ in range(3)] == [b"fine"] * 3
        assert await role.guest.ask(b"stray") == b"fine"
        assert await role.guest.ask(b"last") == b"fine"


async def _replaced(guest: LineGuest, fault: str, token: str) -> None:
    """See that a fault is told as it is, and that the next call finds nothing of it."""
    assert await guest.ask(b"write") == b"fine"
    assert await guest.ask(b"look") == b"there"

    with pytest.raises(GuestFailed, match=FAULTS[fault]):
        await guest.ask(fault.encode())

    assert await guest.ask(b"look") == b"nothing"
    assert len(processes(token)) == 2  # the guest, and the engine's init


async def test_a_run_that_fails_says_how_and_leaves_nothing(left: Leftovers) -> None:
    class Role:
        guest = Guest(Exec(*once(f"guest-{left.token}")), host=DEBIAN, limits=LIMITS)
        hang = Guest(Exec(*once(f"hang-{left.token}")), host=DEBIAN, limits=BRIEF)
        bomb = Guest(Exec(*once(f"bomb-{left.token}")), host=DEBIAN, limits=BRIEF)

    said = {"exit": "exit status 3", "kill": "SIGKILL ended it", "hog": "memory_mb|ended|exit"}
    said |= {"fill": "exit status .*full", "flood": FAULTS["flood"]}
    role = Role()

    async def fails(guest: ExecGuest, fault: str, token: str) -> None:
        with pytest.raises(GuestFailed, match=said.get(fault, FAULTS[fault])):
            await guest.run(b"", fault)
        assert processes(token) == []

    async with guests_running(role):
        async with asyncio.TaskGroup() as at_once:  # most of the time is waiting
            at_once.create_task(fails(role.hang, "hang", f"hang-{left.token}"))
            at_once.create_task(fails(role.bomb, "bomb", f"bomb-{left.token}"))
            for fault in said:
                await fails(role.guest, fault, f"guest-{left.token}")

        await role.guest.run(b"", "write")
        assert (await role.guest.run(b"", "look")).stdout == b"nothing\n"
        assert (await role.guest.run(b"", "stray")).stdout == b"fine\n"
        assert processes(left.token) == []


async def test_a_guest_has_so_much_processor_time(left: Leftovers) -> None:
    class Role:
        guest = Guest(Exec(*once(left.token)), host=DEBIAN, limits=replace(LIMITS, cpu_s=1))

    role = Role()
    async with guests_running(role):
        with pytest.raises(GuestFailed, match="used more than its cpu_s, 1 s, and was killed"):
            await role.guest.run(b"", "spin")

        assert (await role.guest.run(b"", "fine")).stdout == b"fine\n"


async def test_a_run_gets_bytes_files_and_arguments_in_their_places(left: Leftovers) -> None:
    class Role:
        guest = Guest(
            Exec("sh", "-c", 'cat - "$1"; shift; printf "%s|" "$@"', left.token, "{}", "{}"),
            host=DEBIAN,
            limits=Limits(start_s=60),
        )
        status = Guest(Exec("sh", "-c", "echo why >&2; exit $0", "{}"), host=DEBIAN)

    role = Role()
    odd = 'it\'s "$HOME" `id`\n\\n; é'
    async with guests_running(role):
        done = await role.guest.run(
            b"in ", "f f", odd, "-rest", "", files={"f f": bytes(range(256)) * 400, "e": b""}
        )
        assert done.stdout == b"in " + bytes(range(256)) * 400 + f"{odd}|-rest||".encode()

        whole = b"0123456789abcdef" * 200_000
        assert (await role.guest.run(whole, "/dev/null", "")).stdout == whole + b"|"

        for number, error in [(75, Retry), (64, Reject), (1, GuestFailed)]:
            with pytest.raises(error, match=f"exit status {number}: why"):
                await role.status.run(b"", str(number))


async def test_frames_carry_any_bytes(left: Leftovers) -> None:
    echo = (
        "binmode STDIN; binmode STDOUT; $| = 1;"
        "while (read(STDIN, my $h, 4) == 4) { my $n = unpack 'N', $h; read STDIN, my $b, $n;"
        " print $h, $b }"
    )

    class Role:
        guest = Guest(Frames("perl", "-e", echo, left.token), host=DEBIAN)

    role = Role()
    async with guests_running(role):
        whole = bytes(range(256)) * 8000
        assert await role.guest.ask(whole) == whole
        assert await role.guest.ask(b"") == b""


async def test_a_guest_killed_while_idle_is_replaced_before_anybody_asks(
    engine: PrivateEngine, left: Leftovers
) -> None:
    class Role:
        stays = Guest(Lines(*actor(left.token)), host=DEBIAN)
        runs = Guest(Exec(*once(left.token)), host=DEBIAN)

    role = Role()
    async with guests_running(role):
        before = await there(engine)
        await asyncio.to_thread(engine.docker, "rm", "--force", *before)

        while not await there(engine) - before:
            continue
        assert await role.stays.ask(b"fine") == b"fine"
        assert (await role.runs.run(b"", "fine")).stdout == b"fine\n"


async def test_the_launcher_may_die_and_its_successor_clears_up(
    engine: PrivateEngine, left: Leftovers
) -> None:
    class Role:
        guest = Guest(Lines(*actor(left.token)), host=DEBIAN)

    role = Role()
    async with guests_running(role):
        before = await there(engine)
        (launcher,) = [
            pid for pid in processes("rolekit.guest.launcher") if _parent(pid) == os.getpid()
        ]
        os.kill(launcher, 9)

        answers: list[bytes] = []
        while not answers:  # the first may meet it while it dies
            try:
                answers.append(await role.guest.ask(b"fine"))
            except GuestFailed:
                continue
        while before & await there(engine):
            continue


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (Container(image="no-such:image"), "has no image 'no-such:image'. Get it"),
        (
            Container(image="rolekit-test:base", network="no-such"),
            "network .*no-such.*not found",
        ),
    ],
)
async def test_what_the_engine_has_not_is_refused(
    host: Container, said: str, left: Leftovers
) -> None:
    class Role:
        guest = Guest(Lines("cat"), host=host)

    with pytest.raises(AppError, match=f"Role.guest \\('cat' in .*{said}"):
        async with guests_running(Role()):
            pass


@pytest.mark.parametrize("speaks", [Exec, Lines])
async def test_a_command_that_the_image_has_not_is_refused(
    speaks: type[Exec | Lines], left: Leftovers
) -> None:
    class Role:
        guest = Guest(speaks("no-such-program"), host=DEBIAN)

    with pytest.raises(AppError, match=r"Role.guest .*no-such-program.*not found"):
        async with guests_running(Role()):
            pass


async def test_an_engine_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Role:
        guest = Guest(Lines("cat"), host=DEBIAN)

    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(AppError, match=r"Role.guest .*no container engine answers at .*/none"):
        async with guests_running(Role()):
            pass

    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(AppError, match=r"Role.guest .*a Unix socket is expected"):
        async with guests_running(Role()):
            pass


async def test_an_image_is_built_or_its_fault_is_told(left: Leftovers, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM rolekit-test:base\nCOPY words /words\nENTRYPOINT ['never']\n"
    )
    (tmp_path / "words").write_text("hello\n")

    class Role:
        guest = Guest(Exec("cat", "/words"), host=Container(build=str(tmp_path)))

    role = Role()
    async with guests_running(role):
        assert (await role.guest.run()).stdout == b"hello\n"

    (tmp_path / "Dockerfile").write_text("FROM rolekit-test:base\nCOPY none /\n")
    with pytest.raises(AppError, match=r"Role.guest .*does not build: .*none"):
        async with guests_running(Role()):
            pass


async def test_a_slow_start_keeps_the_instance_from_starting(left: Leftovers) -> None:
    class Role:
        guest = Guest(silent(left.token), host=DEBIAN, limits=Limits(start_s=3))

    with pytest.raises(AppError, match=r"Role.guest \(.*not ready within start_s, 3 s"):
        async with guests_running(Role()):
            pass


async def there(engine: PrivateEngine) -> set[str]:
    """Return the containers that run."""
    return set((await asyncio.to_thread(engine.docker, "ps", "--quiet")).split())


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
