"""A program that does what it is told, good or bad, and what is left of it afterwards."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rolekit.guest import Container, Guest, Limits, Session, Talks
from rolekit.guest.crew import guests_running

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    import pytest

    from rolekit.guest import Process, Sandbox, Speaks

G = TypeVar("G")

DEBIAN = Container(image="rolekit-test:base")
LIMITS = Limits(time_s=30, memory_mb=64, output_mb=4, pids=20, scratch_mb=4)
BRIEF = replace(LIMITS, time_s=2.5)
TIMELY = {"hang", "half", "bomb"}
"""Faults that only time ends."""


def limits_of(fault: str, usual: Limits = LIMITS) -> Limits:
    """Limit a guest that is told to fail so: nobody waits long, and nobody else is hurried."""
    return replace(usual, time_s=BRIEF.time_s) if fault in TIMELY else usual


ACTOR = r"""
$| = 1;
sub act {
    my $told = shift;
    if ($told eq "fine")   { return "fine"; }
    if ($told eq "exit")   { exit 3; }
    if ($told eq "kill")   { kill 9, $$; }
    if ($told eq "hang")   { sleep 1000; }
    if ($told eq "garbage"){ return "x\ny\nz"; }
    if ($told eq "flood")  { my $x = "x" x 65536; print $x for 1 .. 16384; return ""; }
    if ($told eq "partial"){ print "par"; exit 0; }
    if ($told eq "spin")   { 1 while 1; }
    if ($told eq "half")   { print "par"; sleep 1000; }
    if ($told eq "bomb")   { fork for 1 .. 8; sleep 1000; }
    if ($told eq "stray")  {
        if (!fork) { setpgrp; exit 0 if fork; sleep 1000; }
        wait; return "fine";
    }
    if ($told eq "hog")    { my @x; push @x, "x" x (1 << 20) while 1; }
    if ($told eq "last")   { print "fine\n"; exit 0; }
    if ($told eq "write")  { open my $f, ">", "mark" or die; close $f; return "fine"; }
    if ($told eq "look")   { return -e "mark" ? "there" : "nothing"; }
    if ($told eq "fill")   { open my $f, ">", "big" or die;
                             (syswrite $f, "x" x 65536) or die "full: $!" for 1 .. 65536; }
    if ($told eq "say")    { print STDERR "one\ntwo \e[31m\n"; return "fine"; }
    return "what?";
}
while (my $told = <STDIN>) { chomp $told; print act($told), "\n"; }
"""
"""In Perl, since that is on each machine and starts at once.

Its bomb stops at 256 processes: where the limit under test fails, the machine must not.
"""


def actor(token: str) -> tuple[str, ...]:
    """Return the command of a program that is told what to do by lines."""
    return ("perl", "-e", ACTOR, token)


def once(token: str) -> tuple[str, ...]:
    """Return the command of one that is told once, by its last argument."""
    body = ACTOR.partition("while (my $told")[0]
    program = body.replace("$| = 1;", "$| = 1; binmode STDIN;")
    return ("perl", "-e", program + 'print act($ARGV[1]), "\\n";', token)


def processes(token: str) -> list[int]:
    """Return who has this in its command line, in whatever namespace, and is no zombie."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and token.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def first_of(token: str) -> set[int]:
    """Return those of `processes` that none of them has started: one for each guest."""
    found = set(processes(token))
    parents = {pid: _parent(pid) for pid in found}
    return {pid for pid, parent in parents.items() if parent and parent not in found}


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it is gone
        return 0


def groups() -> list[Path]:
    """Return the cgroups that guests of this process have."""
    name = f"rolekit-guest-{os.getpid()}-*"
    return [*Path("/sys/fs/cgroup").glob(name), *Path("/sys/fs/cgroup").glob(f"*/{name}")]


def no_groups(*_: object) -> list[str]:
    """Make no cgroup, in place of `cgroups.make`."""
    return []


class Leftovers:
    """Looks for what guests leave: processes, folders, cgroups."""

    def __init__(self, token: str, folder: Path) -> None:
        self.token = token
        self.folder = folder

    def all(self) -> list[object]:
        """Return everything that is left."""
        return [*processes(self.token), *self.folder.glob("rolekit-guest-*"), *groups()]

    async def soon(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds; the limit is the test's."""
        while not holds():  # noqa: ASYNC110 - what other processes do is not an event of ours
            await asyncio.sleep(0.01)


def leftovers_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Leftovers:
    """Have the folders of guests made in one of ours."""
    folder.chmod(0o755)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return Leftovers(f"token-{os.getpid()}-{os.urandom(4).hex()}", folder)


def left_in_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Leftovers]:
    """Have each run where the one before it was; in the end, nothing is left."""
    monkeypatch.setattr("rolekit.guest.pool.SPARE", 0)
    leftovers = leftovers_in(tmp_path, monkeypatch)
    yield leftovers
    assert leftovers.all() == []


@asynccontextmanager
async def at_work(
    speaks: Speaks[G],
    *,
    host: Process | Sandbox | Container,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> AsyncGenerator[G]:
    """Have a role with one guest; give the guest."""

    class Role:
        guest = Guest(speaks, host=host, limits=limits)

    role = Role()
    async with guests_running(role):
        yield role.guest


class _Greeted(Session):
    """Is ready once its program has said a line."""

    async def ready(self) -> None:
        await self.read_until(b"\n")


def silent(token: str) -> Talks[_Greeted]:
    """Return a guest that says nothing, and so is never ready."""
    return Talks(_Greeted, "perl", "-e", "sleep 1000", token)
