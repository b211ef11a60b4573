"""What a guest of a Sandbox tries in order to get out, and does not get."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from rolekit.guest import Exec, Guest, Limits, Sandbox
from rolekit.guest.crew import guests_running
from tests.process.guest_programs import Leftovers, leftovers_in, no_groups

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

CALLS = {  # on x86_64 and on aarch64
    "mount": (165, 40),
    "umount2": (166, 39),
    "ptrace": (101, 117),
    "unshare": (272, 97),
    "setns": (308, 268),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "bpf": (321, 280),
    "keyctl": (250, 219),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    "process_vm_readv": (310, 270),
    "open_by_handle_at": (304, 265),
    "perf_event_open": (298, 241),
}
EPERM, ENOSYS = 1, 38


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Leftovers]:
    leftovers = leftovers_in(tmp_path, monkeypatch)
    yield leftovers
    assert leftovers.all() == []


async def told(left: Leftovers, program: str, *arguments: str) -> str:
    """Run some Perl in a sandbox; return what it prints."""

    class Role:
        guest = Guest(
            Exec("perl", "-e", program, *arguments),
            host=Sandbox(),
            limits=Limits(time_s=20, memory_mb=64, pids=10, scratch_mb=4),
        )

    role = Role()
    async with guests_running(role):
        return (await role.guest.run()).stdout.decode()


def number(name: str) -> str:
    return str(CALLS[name][platform.machine() == "aarch64"])


@pytest.mark.parametrize("name", CALLS)
async def test_a_system_call_is_denied(name: str, left: Leftovers) -> None:
    # Bad addresses: a call that were let in would fail with another error than EPERM.
    program = "$! = 0; my $r = syscall($ARGV[0] + 0, -1, -1, -1, -1, -1); print $! + 0"

    assert await told(left, program, number(name)) == str(EPERM)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x32 is an interface of x86_64")
async def test_the_other_number_of_a_system_call_is_denied(left: Leftovers) -> None:
    program = "$! = 0; syscall($ARGV[0] + 0x40000000, -1, -1, -1, -1, -1); print $! + 0"

    assert await told(left, program, number("mount")) == str(ENOSYS)


async def test_there_are_no_namespaces_to_be_made(left: Leftovers) -> None:
    clone, clone3 = ("56", "435") if platform.machine() == "x86_64" else ("220", "435")
    # CLONE_NEWUSER | SIGCHLD: what many an exploit begins with
    program = (
        "$! = 0; my $p = syscall($ARGV[0] + 0, 0x10000011, 0, 0, 0, 0);"
        "exit if $p == 0; print $! + 0, ' '; $! = 0; syscall($ARGV[1] + 0, 0, 0); print $! + 0"
    )

    assert await told(left, program, clone, clone3) == f"{EPERM} {ENOSYS}"


@pytest.mark.parametrize("request_number", ["0x5412", "0x541C"])  # TIOCSTI, TIOCLINUX
async def test_nothing_can_be_typed_into_a_terminal(
    request_number: str, left: Leftovers
) -> None:
    program = "my $c = 'x'; $! = 0; ioctl(STDIN, hex $ARGV[0], $c); print $! + 0"

    assert await told(left, program, request_number) == str(EPERM)


async def test_there_is_no_network(left: Leftovers) -> None:
    program = (
        "use Socket; socket(my $s, PF_INET, SOCK_STREAM, 0);"
        "print connect($s, sockaddr_in(53, inet_aton('192.0.2.1'))) ? 'open' : $! + 0, ' ';"
        "opendir my $d, '/sys/class/net'; print join ',', map { (split)[0] }"
        " grep /:/, do { open my $f, '<', '/proc/net/dev'; <$f> }"
    )

    assert await told(left, program) == "101 lo:"


async def test_there_are_no_processes_but_its_own(left: Leftovers) -> None:
    program = (
        "opendir my $d, '/proc'; my @p = grep /^\\d+$/, readdir $d; print scalar @p, ' ';"
        "open my $f, '<', '/proc/1/cmdline'; print((split /\\0/, <$f>)[0]);"
        "print ' ', -r '/proc/1/environ' && open(my $e, '<', '/proc/1/environ')"
        " && (<$e> // '') =~ /PYTEST/ ? 'leak' : 'none', ' ', kill(0, 1) ? 'own' : 'no'"
    )

    count, first, leak, _ = (await told(left, program)).split()

    assert int(count) <= 3
    assert first.endswith("bwrap")
    assert leak == "none"


async def test_it_has_no_rights_and_gets_none(left: Leftovers) -> None:
    program = (
        "open my $f, '<', '/proc/self/status'; my %s = map { /(\\w+):\\s+(.*)/ } <$f>;"
        "print join ' ', @s{qw(CapEff CapPrm CapBnd NoNewPrivs Seccomp)};"
        "print ' ', (split ' ', $s{Uid})[0];"
        "$! = 0; $< = $> = 0; print ' ', $< == 0 ? 'root' : 'nobody'"
    )

    assert await told(left, program) == f"{'0' * 16} {'0' * 16} {'0' * 16} 1 2 65534 nobody"


@pytest.mark.parametrize(
    "place", ["/", "/etc", "/usr/bin", "/dev", "/proc/sys/kernel", "/sys", "/home", "/run"]
)
async def test_it_writes_nowhere_but_in_its_scratch_folder(place: str, left: Leftovers) -> None:
    program = (
        "print((open my $f, '>', \"$ARGV[0]/x\") ? 'written ' : 'denied ');"
        "print((open my $g, '>', '/tmp/x') ? 'written' : 'denied')"
    )

    assert await told(left, program, place) == "denied written"


async def test_what_is_mounted_cannot_be_written_but_for_the_scratch_folder(
    left: Leftovers,
) -> None:
    program = (
        "open my $f, '<', '/proc/mounts'; for (<$f>) { my ($t, $p, $k, $o) = split;"
        # Mounts below the machine's /tmp are hidden: the guest's own lies over them. And what
        # nobody may reach stays as it is, below /var/lib/containers where Podman runs.
        ' print "$p " if -e $p && $o =~ /^rw/ && $p !~ m{^/(tmp(/.*)?|proc|dev/.*)$} }'
    )

    assert await told(left, program) == ""


async def test_a_file_of_the_kernel_cannot_be_changed(left: Leftovers) -> None:
    program = (
        "for my $p ('/proc/sysrq-trigger', '/proc/sys/kernel/core_pattern',"
        " '/proc/kcore', '/dev/mem') { print open(my $f, '+<', $p) ? \"$p \" : '' } print 'end'"
    )

    assert await told(left, program) == "end"


async def test_homes_and_sockets_and_secrets_are_not_there(
    left: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROLEKIT_DATABASE", "postgresql://u:secret@h/d")
    program = (
        "for my $p (qw(/home /root /run /var/tmp /tmp)) { next unless opendir my $d, $p;"
        " print join ' ', grep !/^\\./, readdir $d } print grep /ROLEKIT/, keys %ENV"
    )

    assert await told(left, program) == ""


async def test_its_files_have_a_limit_all_together(left: Leftovers) -> None:
    program = (
        "for my $p ('/tmp', '/dev/shm') { my $n = 0; for my $i (1 .. 20) {"
        " open my $f, '>', \"$p/$i\" or last;"
        " for (1 .. 16) { $n += syswrite($f, 'x' x 65536) // last } "
        " } print $n <= 4 * 1048576 ? 'bounded ' : \"$n \" }"
    )

    assert await told(left, program) == "bounded bounded "


async def test_its_processes_have_a_limit_of_their_own_without_a_cgroup(
    left: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rolekit.guest.cgroups.make", no_groups)
    program = (
        "my $n = 0; for (1 .. 50) { my $p = fork // last; if (!$p) { sleep 5; exit } $n++ }"
        "print $n"
    )

    assert int(await told(left, program)) <= 10


async def test_no_descriptor_of_ours_is_open(left: Leftovers) -> None:
    program = "opendir my $d, '/proc/self/fd'; print join ' ', sort grep /^\\d/, readdir $d"

    assert (await told(left, program)).split() in (
        ["0", "1", "2", "3"],
        ["0", "1", "2", "3", "4"],
    )
