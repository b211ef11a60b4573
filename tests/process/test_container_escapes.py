"""What a guest of a Container tries in order to get out, and does not get."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

import pytest

from rolekit.guest import Container, Guest, Limits, LineGuest, Lines
from rolekit.guest.crew import guests_running
from tests.process.guest_programs import processes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.engine import PrivateEngine

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

CALLS = {  # on x86_64 and on aarch64, with arguments that a privileged caller would get by with
    "mount": ((165, 40), "'none', '/tmp', 'tmpfs', 0, 0"),
    "umount2": ((166, 39), "'/proc', 2"),
    "unshare": ((272, 97), "0x10000000"),
    "setns": ((308, 268), "0, 0"),
    "pivot_root": ((155, 41), "'/', '/tmp'"),
    "chroot": ((161, 51), "'/tmp'"),
    "bpf": ((321, 280), "0, 0, 0"),
    "keyctl": ((250, 219), "0, 0, 0"),
    "perf_event_open": ((298, 241), "0, 0, 0, 0, 0"),
    "open_by_handle_at": ((304, 265), "0, 0, 0"),
    "sethostname": ((170, 161), "'x', 1"),
    "kexec_load": ((246, 104), "0, 0, 0, 0"),
}
EPERM, ESRCH = "1", "3"
RUNNER = r"""
use Socket; $| = 1;
while (<STDIN>) { chomp; my $said = eval pack 'H*', $_;
                  print unpack('H*', $said // "died: $@"), "\n" }
"""


@pytest.fixture(scope="module")
async def prober(engine: PrivateEngine) -> AsyncGenerator[LineGuest]:
    """One guest for all probes: each is a line of Perl that it evaluates."""

    class Role:
        guest = Guest(
            Lines("perl", "-e", RUNNER),
            host=Container(image="rolekit-test:base"),
            limits=Limits(time_s=20, memory_mb=64, pids=10, scratch_mb=4),
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", engine.url)
        patch.setenv("ROLEKIT_DATABASE", "postgresql://u:secret@h/d")
        role = Role()
        async with guests_running(role):
            yield role.guest


async def told(prober: LineGuest, program: str) -> str:
    return bytes.fromhex((await prober.ask(program.encode().hex().encode())).decode()).decode()


@pytest.mark.parametrize("name", CALLS)
async def test_a_system_call_is_denied(name: str, prober: LineGuest) -> None:
    numbers, arguments = CALLS[name]
    number = numbers[platform.machine() == "aarch64"]

    program = f"my @a = ({arguments}); $! = 0; my $r = syscall({number}, @a); $r . ' ' . ($!+0)"
    said = await told(prober, program)

    assert said == f"-1 {EPERM}"


async def test_there_is_no_network(prober: LineGuest) -> None:
    program = (
        "socket(my $s, PF_INET, SOCK_STREAM, 0);"
        "my $c = connect($s, sockaddr_in(53, inet_aton('192.0.2.1'))) ? 'open' : $! + 0;"
        "open my $f, '<', '/proc/net/dev'; join ',', $c, map { (split)[0] } grep /:/, <$f>"
    )

    assert await told(prober, program) == "101,lo:"


async def test_there_are_no_processes_but_its_own(prober: LineGuest) -> None:
    program = (
        "opendir my $d, '/proc'; my @p = grep /^\\d+$/, readdir $d;"
        "open my $f, '<', '/proc/1/environ'; my $e = join '', $f ? <$f> : ();"
        "my $r = opendir(my $o, '/proc/1/root/tmp') ? 'open' : 'shut';"
        "open my $c, '<', '/proc/1/cmdline'; my ($first) = split /\\0/, <$c>;"
        "join ' ', scalar @p, $first, $e =~ /ROLEKIT|PYTEST/ ? 'leak' : 'none'"
    )

    count, first, leak = (await told(prober, program)).split()

    assert int(count) <= 3
    assert first.endswith(("docker-init", "podman-init"))
    assert leak == "none"


@pytest.mark.parametrize(
    ("call", "numbers", "arguments"),
    [
        ("ptrace", (101, 117), "16, $pid, 0, 0"),  # PTRACE_ATTACH
        ("process_vm_readv", (310, 270), "$pid, 0, 0, 0, 0, 0"),
        ("pidfd_open", (434, 434), "$pid, 0"),
        ("kill", (62, 129), "$pid, 0"),
    ],
)
async def test_processes_outside_cannot_be_looked_into(
    call: str, numbers: tuple[int, int], arguments: str, prober: LineGuest
) -> None:
    own = (
        await told(prober, "opendir my $d, '/proc'; join ' ', grep /^\\d+$/, readdir $d")
    ).split()
    outside = {os.getpid(), os.getppid(), *processes("rolekit.guest.launcher")} - set(
        map(int, own)
    )
    number = numbers[platform.machine() == "aarch64"]

    for pid in outside:
        tried = f"$! = 0; my $r = syscall({number}, {arguments}); $r . ' ' . ($!+0)"
        assert await told(prober, f"my $pid = {pid}; {tried}") in {
            f"-1 {EPERM}",
            f"-1 {ESRCH}",
        }, (call, pid)
    assert outside


async def test_it_has_no_rights_and_gets_none(prober: LineGuest) -> None:
    program = (
        "open my $f, '<', '/proc/self/status'; my %s = map { /(\\w+):\\s+(.*)/ } <$f>;"
        "my $h = join ' ', @s{qw(CapEff CapPrm CapBnd NoNewPrivs Seccomp)}, split ' ', $s{Uid};"
        "$! = 0; $< = $> = 0; $h . ' ' . ($< == 0 ? 'root' : 'nobody')"
    )

    assert (
        await told(prober, program)
        == f"{'0' * 16} {'0' * 16} {'0' * 16} 1 2{' 65534' * 4} nobody"
    )


async def test_a_program_that_becomes_root_elsewhere_does_not_here(prober: LineGuest) -> None:
    program = (
        "my ($su) = grep { -u } qw(/bin/su /bin/mount /usr/bin/su /usr/bin/mount);"
        "open my $f, '-|', $su, '--version'; my $there = <$f>; close $f;"
        "open $f, '-|', 'sh', '-c', \"cp $su /tmp/su; chmod u+s /tmp/su; ls -ln /tmp/su\";"
        "my ($mode, $n, $uid) = split ' ', <$f>;"
        "open my $m, '<', '/proc/mounts'; my ($o) = map { (split)[3] } grep m{ /tmp }, <$m>;"
        "join ' ', $there ? 'runs' : 'none', $uid, grep /^(nosuid|nodev)$/, split /,/, $o"
    )

    assert await told(prober, program) == "runs 65534 nosuid nodev"


@pytest.mark.parametrize("request_number", ["0x5412", "0x541C"])  # TIOCSTI, TIOCLINUX
async def test_nothing_can_be_typed_into_a_terminal(
    request_number: str, prober: LineGuest
) -> None:
    program = (
        "my $n = join ' ', map { -t $_ ? 'tty' : 'none' } *STDIN, *STDOUT, *STDERR;"
        f"my $t = open(my $f, '+<', '/dev/tty') ? 'tty' : 'none'; my $c = 'x';"
        f"my $r = ioctl(STDIN, {request_number}, $c); \"$n $t \" . ($r ? 'typed' : 'denied')"
    )

    assert await told(prober, program) == "none none none none denied"


@pytest.mark.parametrize(
    "place", ["/", "/etc", "/usr/bin", "/dev", "/proc/sys/kernel", "/sys", "/var", "/run"]
)
async def test_it_writes_nowhere_but_in_its_scratch_folder(
    place: str, prober: LineGuest
) -> None:
    program = (
        f"my $a = (open my $f, '>', '{place}/x') ? 'written' : 'denied';"
        "my $b = (open my $g, '>', '/tmp/x') ? 'written' : 'denied'; \"$a $b\""
    )

    assert await told(prober, program) == "denied written"


async def test_its_files_have_a_limit_all_together(prober: LineGuest) -> None:
    program = (
        "my @n; for my $p ('/tmp', '/dev/shm') { my $n = 0; for my $i (1 .. 20) {"
        " open my $f, '>', \"$p/$i\" or last;"
        " for (1 .. 16) { $n += syswrite($f, 'x' x 65536) // last } }"
        " unlink glob \"$p/*\"; push @n, $n <= 4 * 1048576 ? 'bounded' : $n } join ' ', @n"
    )

    assert await told(prober, program) == "bounded bounded"


async def test_its_processes_have_a_limit(prober: LineGuest) -> None:
    program = (
        "my @p; for (1 .. 50) { my $p = fork // last; if (!$p) { sleep 60; exit } push @p, $p }"
        "kill 9, @p; waitpid $_, 0 for @p; scalar @p"
    )

    assert 0 < int(await told(prober, program)) < 10


async def test_a_file_of_the_kernel_cannot_be_changed_or_read(prober: LineGuest) -> None:
    program = (
        "join ' ', grep { open my $f, '+<', $_ } qw(/proc/sysrq-trigger /proc/kcore /dev/mem"
        " /proc/sys/kernel/core_pattern /dev/kmsg /sys/kernel/uevent_helper)"
    )

    assert await told(prober, program) == ""


async def test_no_socket_of_the_engine_and_no_secret_is_there(prober: LineGuest) -> None:
    program = (
        "join ' ', (grep { -e } qw(/var/run/docker.sock /run/docker.sock /run/podman)),"
        " (grep /ROLEKIT|DOCKER/, keys %ENV), do { opendir my $d, '/proc/self/fd';"
        " grep { /^\\d+$/ && $_ > 3 } readdir $d }"
    )

    assert await told(prober, program) == ""
