"""Guests that are given files, and leave files: complete ones, and one for each."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import GuestFailed, Reject
from rolekit.guest import FileGuest, FileResult, Files, Guest, Limits, Process, Sandbox
from rolekit.guest.crew import guests_running
from tests.process.guest_programs import Leftovers, first_of, leftovers_in, limits_of, processes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

HOSTS = pytest.mark.parametrize("host", [Process(), Sandbox()], ids=["process", "sandbox"])
LIMITS = Limits(time_s=30, memory_mb=64, output_mb=1, pids=20, scratch_mb=8)
WORKER = r"""
my ($in, $out) = @ARGV;
sub leave {
    my ($name, $text) = @_;
    open my $f, ">", "$out/.new" or die; print $f $text; close $f;
    rename "$out/.new", "$out/$name";
}
while (1) {
    select undef, undef, undef, .002;
    opendir my $d, $in or die; my ($name) = grep !/^\./, readdir $d;
    next unless defined $name; open my $f, "<", "$in/$name" or next;
    local $/; my $told = <$f>; close $f;
    unlink "$in/$name" unless $told eq "keep";
    if ($told eq "exit")    { exit 3 }
    if ($told eq "kill")    { kill KILL => $$ }
    if ($told eq "hang")    { sleep 1000 }
    if ($told eq "half")    { open my $h, ">", "$out/.new"; print $h "ha"; close $h; sleep 99 }
    if ($told eq "partial") { open my $h, ">", "$out/.new"; print $h "ha"; exit 0 }
    if ($told eq "flood")   { leave "big", "x" x (2 << 20); next }
    if ($told eq "link")    { symlink "/etc/passwd", "$out/l"; next }
    if ($told eq "pipe")    { system "mkfifo", "$out/p"; next }
    if ($told eq "folder")  { mkdir "$out/f"; next }
    if ($told eq "two")     { leave "also", "x"; leave "$name.done", "fine"; next }
    if ($told eq "last")    { leave "$name.done", "fine"; exit 0 }
    if ($told eq "write")   { open my $m, ">", "mark" }
    if ($told eq "look")    { leave "$name.done", -e "mark" ? "there" : "nothing"; next }
    leave "$name.done", uc $told;
    if ($told eq "keep")    { select undef, undef, undef, .002 while -e "$in/$name" }
}
"""


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Leftovers]:
    leftovers = leftovers_in(tmp_path, monkeypatch)
    yield leftovers
    assert leftovers.all() == []


@asynccontextmanager
async def working(
    left: Leftovers, host: Process | Sandbox, limits: Limits = LIMITS
) -> AsyncGenerator[FileGuest]:
    class Role:
        guest = Guest(
            Files("perl", "-e", WORKER, "{in}", "{out}", left.token), host=host, limits=limits
        )

    role = Role()
    async with guests_running(role):
        yield role.guest


@HOSTS
async def test_a_file_is_given_and_another_comes_back(
    host: Process | Sandbox, left: Leftovers
) -> None:
    async with working(left, host) as guest:
        assert await guest.drop(b"one", name="a b.txt") == FileResult("a b.txt.done", b"ONE")
        first = first_of(left.token)  # now that it has begun for sure
        assert await guest.drop(b"keep") == FileResult("message.done", b"KEEP")
        whole = os.urandom(1000).hex().encode() * 200
        assert (await guest.drop(whole)).body == whole.upper()
        assert first_of(left.token) == first


FAULTS = {
    "exit": r"it ended instead of answering. Its exit status was 3",
    "kill": "it ended instead of answering",
    "partial": "it ended instead of answering",
    "hang": "took longer than its time_s, 2.5 s; it was killed",
    "half": "took longer than its time_s, 2.5 s; it was killed",
    "flood": "it wrote more than the 1 MB that output_mb allows",
    "link": "its folders: Too many levels of symbolic links",
    "pipe": "its folders: 'p' is no file",
    "folder": "its folders: 'f' is no file",
}


@HOSTS
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_guest_with_folders_is_replaced_after_a_fault(
    fault: str, host: Process | Sandbox, left: Leftovers
) -> None:
    async with working(left, host, limits_of(fault, LIMITS)) as guest:
        before = set(processes(left.token))
        await guest.drop(b"write")

        with pytest.raises(GuestFailed, match=FAULTS[fault]):
            await guest.drop(fault.encode())

        assert (await guest.drop(b"look")).body == b"nothing"
        assert not before & set(processes(left.token))


@HOSTS
async def test_what_is_left_beside_a_result_costs_the_guest(
    host: Process | Sandbox, left: Leftovers
) -> None:
    async with working(left, host) as guest:
        first = first_of(left.token)
        answer = await guest.drop(b"two")
        assert answer.name in {"also", "message.done"}  # whichever was there first

        answers = [await guest.drop(b"fine") for _ in range(5)]

        assert answers == [FileResult("message.done", b"FINE")] * 5
        assert not first & first_of(left.token)


@HOSTS
async def test_a_guest_that_dies_after_its_result_is_replaced(
    host: Process | Sandbox, left: Leftovers
) -> None:
    async with working(left, host) as guest:
        assert (await guest.drop(b"fine")).body == b"FINE"
        first = first_of(left.token)
        with suppress(GuestFailed):  # its folders went with it, before they were looked at
            assert (await guest.drop(b"last")).body == b"fine"

        await left.soon(lambda: bool(first_of(left.token) - first))

        assert (await guest.drop(b"fine")).body == b"FINE"


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a\0", "x" * 201])
async def test_what_is_no_name_is_refused_and_costs_no_guest(
    name: str, left: Leftovers
) -> None:
    async with working(left, Process()) as guest:
        first = first_of(left.token)

        with pytest.raises(Reject, match="is no name for a file of a guest"):
            await guest.drop(b"", name=name)

        assert first_of(left.token) == first
