"""A sandbox that stays for one run after another: no run learns of the one before it."""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import GuestFailed
from rolekit.guest import Exec, ExecGuest, Guest, Limits, Process, Sandbox
from rolekit.guest.crew import guests_running
from rolekit.guest.spawning import CannotSpawn, Spawning
from tests.process.guest_programs import (
    LIMITS,
    Leftovers,
    at_work,
    groups,
    left_in_one_place,
    limits_of,
    no_groups,
    once,
    processes,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from rolekit.guest.kept import Ended

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

CALLS = {  # on x86_64 and on aarch64
    "clone": (56, 220),
    "mq_open": (240, 180),
    "prctl": (157, 167),
    "prlimit64": (302, 261),
}
FIRST, ONLY = 3, 2
"""What a run is as a process: behind bubblewrap and the shell that waits; or that shell."""
LOOK = (
    "print join ' ', $$, (map { opendir my $d, $_; sort grep !/^\\.+$/, readdir $d }"
    " '/tmp', '/dev/shm'),"
    " (map { (lstat)[2, 8, 9] } '/tmp', '/dev/shm', '/dev/pts', '/dev/pts/ptmx'),"
    " (grep /^\\d/, do { opendir my $d, '/proc'; readdir $d }),"
    " (map { open my $f, '<', $_; <$f> } '/proc/net/dev', '/proc/net/ip6_flowlabel',"
    " glob '/proc/sysvipc/* /proc/[12]/limits /proc/[12]/oom_score_adj'),"
    " map { open my $f, '<', $_; (split ' ', <$f>)[2, 18, 40] } glob '/proc/[12]/stat'"
)
"""Prints all that a run could know another by, its own number as a process first."""
LEFT = {
    "a daemon": "if (!fork) { setpgrp; close STDOUT; close STDERR; exit if fork; sleep 1000 }",
    "a process that cannot be looked into": (
        "pipe R, W; if (!fork) { close STDOUT; close STDERR; syscall($n{prctl}, 4, 0);"
        " close W; sleep 1000 } close W; <R>"
    ),
    "a process that is nobody's child": (
        # CLONE_PARENT | SIGCHLD
        "my $p = syscall($n{clone}, 0x8011, 0, 0, 0, 0);"
        " if (!$p) { close STDOUT; close STDERR; sleep 1000 }"
    ),
    "a file": "open my $f, '>', '/tmp/x' or die",
    "a file in shared memory": "open my $f, '>', '/dev/shm/x' or die",
    "a full scratch folder": (
        "for (1 .. 9) { open my $f, '>', \"/tmp/$_\" or die;"
        " for (1 .. 16) { syswrite $f, 'x' x 65536 } }"
    ),
    "a time": "utime 1, 2, '/tmp' or die",
    "a mode": "chmod 0700, '/dev/shm' or die",
    "the mode of a device": "chmod 0600, '/dev/pts/ptmx' or die",
    "the mode of a folder of devices": "chmod 0700, '/dev/pts' or die",
    "a segment": "shmget(7, 4096, 0x3ff) // die",
    "a semaphore": "semget(7, 1, 0x3ff) // die",
    "a queue": "msgget(7, 0x3ff) // die",
    "a shell that is stopped": "kill 'STOP', 2 or die",
    "a nice shell": "setpriority 0, 2, 5; die if getpriority(0, 2) != 5",
    "a shell with a limit": (
        # RLIMIT_NPROC
        "my $l = pack 'QQ', 1, 1; syscall($n{prlimit64}, 2, 6, $l, 0) && die $!"
    ),
    "a shell that is killed soon": (
        "open my $f, '>', '/proc/2/oom_score_adj' or die; syswrite $f, 900 or die"
    ),
    "a name for packets": (
        # IPV6_FLOWLABEL_MGR: IPV6_FL_A_GET of label 7 for ::1, IPV6_FL_F_CREATE
        "use Socket; socket my $s, PF_INET6, SOCK_DGRAM, 0 or die; setsockopt $s, 41, 32,"
        " pack 'x15 C N C2 S3 L', 1, 7, 0, 255, 1, 60, 60, 0 or die $!"
    ),
    "a connection": (
        "use Socket; socket my $l, PF_INET, SOCK_STREAM, 0; bind $l, sockaddr_in(9999,"
        " INADDR_LOOPBACK) or die; listen $l, 1; socket my $c, PF_INET, SOCK_STREAM, 0;"
        " connect $c, getsockname $l or die"
    ),
}


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Leftovers]:
    yield from left_in_one_place(tmp_path, monkeypatch)


@asynccontextmanager
async def perl(left: Leftovers, limits: Limits = LIMITS) -> AsyncGenerator[ExecGuest]:
    """Have a guest that runs the Perl that it is given."""
    numbers = {name: both[platform.machine() == "aarch64"] for name, both in CALLS.items()}
    known = "our %n = (" + ", ".join(f"{name} => {n}" for name, n in numbers.items()) + ");"

    class Role:
        guest = Guest(
            Exec("perl", "-e", f"{known} eval shift; die $@ if $@", "{}", left.token),
            host=Sandbox(),
            limits=limits,
        )

    role = Role()
    async with guests_running(role):
        yield role.guest


async def told(guest: ExecGuest, program: str) -> str:
    return (await guest.run(b"", program)).stdout.decode()


async def test_runs_that_leave_nothing_have_one_sandbox(left: Leftovers) -> None:
    async with perl(left) as guest:
        looks = [(await told(guest, LOOK)).split(" ", 1) for _ in range(4)]

    assert [int(pid) for pid, _ in looks] == [FIRST + n for n in range(4)]
    assert len({seen.replace(f" {pid} ", " ") for pid, seen in looks}) == 1


@pytest.mark.parametrize("what", LEFT)
async def test_a_run_sees_nothing_of_what_another_left(what: str, left: Leftovers) -> None:
    async with perl(left) as guest:
        fresh = await told(guest, LOOK)
        await guest.run(b"", LEFT[what])

        assert _timeless(await told(guest, LOOK)) == _timeless(fresh)


def _timeless(look: str) -> list[str]:
    """Leave out when a sandbox was made."""
    return [word for word in look.split(" ") if not (word.isdigit() and len(word) > 9)]


async def test_a_message_queue_cannot_be_made(left: Leftovers) -> None:
    # O_CREAT | O_RDWR
    program = "my $q = 'q'; $! = 0; syscall($n{mq_open}, $q, 0x42, 0600, 0); print $! + 0"

    async with perl(left) as guest:
        assert await told(guest, program) == "24"  # EMFILE: its limit is none


async def test_settings_of_the_kernel_cannot_be_changed(left: Leftovers) -> None:
    program = (
        'use File::Find; find(sub { print "$File::Find::name "'
        " if -f && open my $f, '+<', $_ }, '/proc/sys'); print 'end'"
    )

    async with perl(left) as guest:
        assert await told(guest, program) == "end"


@pytest.mark.parametrize("pid", [1, 2])
async def test_what_keeps_the_sandbox_cannot_be_looked_into_or_changed(
    pid: int, left: Leftovers
) -> None:
    program = (
        "for my $p (qw(mem environ maps auxv fd/0 fd/6 root cwd exe)) {"
        f' print "$p " if open(my $f, \'<\', "/proc/{pid}/$p")'
        f" || open($f, '+<', \"/proc/{pid}/$p\") || readlink \"/proc/{pid}/$p\" }} print 'end'"
    )

    async with perl(left) as guest:
        assert await told(guest, program) == "end"


async def test_no_socket_of_ours_can_be_found(left: Leftovers) -> None:
    program = "open my $f, '<', '/proc/net/unix'; <$f>; print <$f>, 'end'"

    async with perl(left) as guest:
        assert await told(guest, program) == "end"


@pytest.mark.parametrize("victim", ["1", "2", "-1"])
async def test_who_kills_its_sandbox_kills_itself_only(victim: str, left: Leftovers) -> None:
    async with perl(left) as guest:
        kills = f"kill 9, {victim}; select undef, undef, undef, .2; print 1"
        if victim == "1":
            assert await told(guest, kills) == "1"
        else:
            with pytest.raises(GuestFailed, match="SIGKILL ended it"):
                await guest.run(b"", kills)

        assert await told(guest, "print 'fine'") == "fine"


@pytest.mark.parametrize("fault", ["exit", "kill", "hang", "flood", "bomb", "hog", "stray"])
@pytest.mark.parametrize("groups", ["group", "no group"])
@pytest.mark.parametrize("host", [Process(), Sandbox()], ids=["process", "sandbox"])
async def test_a_fault_after_good_runs_concerns_its_own_run(
    host: Process | Sandbox,
    fault: str,
    groups: str,
    left: Leftovers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if groups == "no group":
        monkeypatch.setattr("rolekit.guest.cgroups.make", no_groups)

    class Role:
        guest = Guest(Exec(*once(left.token)), host=host, limits=limits_of(fault))

    role = Role()
    async with guests_running(role):
        for _ in range(2):
            assert (await role.guest.run(b"", "fine")).stdout == b"fine\n"
        if fault == "stray":
            assert (await role.guest.run(b"", fault)).stdout == b"fine\n"
        else:
            with pytest.raises(GuestFailed):
                await role.guest.run(b"", fault)

        assert processes(left.token) == []
        for _ in range(2):
            assert (await role.guest.run(b"", "fine")).stdout == b"fine\n"


async def test_a_run_after_one_that_ended_well_and_failed_here_has_a_new_sandbox(
    left: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(_pipes: object, _stdin: bytes, end: asyncio.Future[Ended]) -> None:
        await end
        raise GuestFailed("it wrote too much.")

    async with perl(left) as guest:
        with monkeypatch.context() as patch:
            patch.setattr("rolekit.guest.runner.run_through", failing)
            with pytest.raises(GuestFailed, match="wrote too much"):
                await guest.run(b"", "1")

        assert int(await told(guest, "print $$")) == FIRST


async def test_each_run_has_its_rights_and_limits(left: Leftovers) -> None:
    program = (
        "sub lines { open my $f, '<', \"/proc/self/$_[0]\"; <$f> }"
        " print lines('limits'), grep(/^(Uid|Groups|Cap|NoNew|Seccomp:)/, lines('status')),"
        " 'score ', lines('oom_score_adj'), 'session ', (split ' ', join '', lines('stat'))[5]"
        " == $$ ? 'own' : 'other'"
    )
    async with perl(left, replace(LIMITS, cpu_s=2)) as guest:
        first, second = [await told(guest, program) for _ in range(2)]
        sleeping = asyncio.create_task(guest.run(b"", "print 'here'; sleep 1000"))
        await left.soon(lambda: bool(processes(left.token)))

        for group in groups():
            held = (group / "cgroup.procs").read_text().split()
            assert {str(pid) for pid in processes(left.token)} <= set(held)
        sleeping.cancel()
        await asyncio.gather(sleeping, return_exceptions=True)
    assert first == second
    for words in (
        "Max cpu time 2 3 seconds",
        f"Max file size {4 << 20} {4 << 20} bytes",
        f"Max data size {64 << 20} {64 << 20} bytes",
        "Max core file size 0 0 bytes",
        "Max processes 21 21 processes",  # and the spawner
        "Max msgqueue size 0 0 bytes",
        "Uid: 65534 65534 65534 65534",
        "CapEff: 0000000000000000 CapBnd: 0000000000000000",
        "NoNewPrivs: 1 Seccomp: 2 score 500 session own",
    ):
        assert words in " ".join(first.split())


async def test_a_folder_above_what_is_shown_in_tmp_is_looked_at(left: Leftovers) -> None:
    program = 'my $d = shift; print -e "$d/x" ? 1 : 0; open my $f, ">", "$d/x" or die $!'
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        shown = Path(folder, "model")
        shown.mkdir()
        Path(folder).chmod(0o755)
        host = Sandbox(read_only=(str(shown),))
        speaks = Exec("perl", "-e", program, folder, left.token)
        async with at_work(speaks, host=host, limits=LIMITS) as guest:
            assert [(await guest.run()).stdout for _ in range(2)] == [b"0", b"0"]


async def test_memory_is_said_to_be_the_reason_after_good_runs(left: Leftovers) -> None:
    async with perl(left) as guest:
        await guest.run(b"", "1")

        with pytest.raises(GuestFailed, match="used more than its memory_mb"):
            await guest.run(b"", "my @x; push @x, 'x' x (1 << 20) while 1")


async def test_processor_time_is_that_of_a_run(left: Leftovers) -> None:
    async with perl(left, replace(LIMITS, cpu_s=1)) as guest:
        spun = "1 while (times)[0] + (times)[1] < 0.6; print 1"
        assert [await told(guest, spun) for _ in range(3)] == ["1"] * 3

        with pytest.raises(GuestFailed, match="used more than its cpu_s"):
            await guest.run(b"", "1 while 1")


async def test_a_sandbox_is_replaced_after_so_many_uses(left: Leftovers) -> None:
    async with perl(left, replace(LIMITS, uses=2)) as guest:
        pids = [int(await told(guest, "print $$")) for _ in range(4)]

    assert pids == [FIRST, FIRST + 1] * 2


async def test_a_sandbox_is_replaced_when_it_is_old(left: Leftovers) -> None:
    async with perl(left, replace(LIMITS, age_s=0.1)) as guest:
        pids: list[int] = []
        for _ in range(2):
            pids.append(int(await told(guest, "print $$")))
            await asyncio.sleep(0.15)

    assert pids == [FIRST, FIRST]


async def test_programs_that_always_leave_something_have_a_sandbox_each(
    left: Leftovers,
) -> None:
    async with perl(left) as guest:
        for _ in range(3):
            await guest.run(b"", LEFT["a file"])

        assert [int(await told(guest, "print $$")) for _ in range(2)] == [ONLY, ONLY]


async def test_where_none_can_stay_each_run_has_a_sandbox(
    left: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start(_self: Spawning, _launch: object) -> None:
        raise CannotSpawn("unshare: Operation not permitted")

    monkeypatch.setattr(Spawning, "start", start)

    async with perl(left) as guest:
        assert [int(await told(guest, "print $$")) for _ in range(2)] == [ONLY, ONLY]


async def test_a_run_gets_its_own_environment_and_arguments_of_any_length(
    left: Leftovers,
) -> None:
    async with perl(left) as guest:
        await guest.run(b"", "$ENV{LEFT} = 1")
        long = "x" * 100_000
        program = "print length $ARGV[-1], $ENV{LEFT} // '', umask"

        assert (
            await guest.run(b"", program, *[long] * 5)
        ).stdout == b"100000" + b"%d" % _umask()
        with pytest.raises(GuestFailed, match=r"was not started: .*Argument list too long"):
            await guest.run(b"", program, "x" * (1 << 20))
        assert await told(guest, "print 1") == "1"


async def test_no_signal_is_ignored_or_held_back(left: Leftovers) -> None:
    program = (
        "open my $f, '<', '/proc/self/status'; my %s = map { /(\\w+):\\s+(.*)/ } <$f>;"
        " print join ' ', map { hex($_) & (1 << 12 | 1 << 24) } @s{qw(SigIgn SigBlk)}"
    )  # SIGPIPE and SIGXFSZ, which Python ignores

    async with perl(left) as guest:
        assert await told(guest, program) == "0 0"


def _umask() -> int:
    old = os.umask(0o22)
    os.umask(old)
    return old


async def test_a_script_without_a_first_line_is_run_by_a_shell(left: Leftovers) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        script = Path(folder, "script")
        script.write_text("echo $1")
        script.chmod(0o755)

        class Role:
            guest = Guest(Exec(str(script), "one"), host=Sandbox(read_only=(folder,)))

        role = Role()
        async with guests_running(role):
            assert (await role.guest.run()).stdout == b"one\n"
