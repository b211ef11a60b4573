"""A zygote of another version gives way to those who serve, and comes back."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from rolekit.supervisor import linux
from tests.niceness import NICEST, may_come_back, mine, of_session

if TYPE_CHECKING:
    from collections.abc import Generator

NOBODY = 65534


@contextlib.contextmanager
def session() -> Generator[int]:
    """Run two processes in a session of their own; give its number."""
    command = "sleep 60 & echo; wait"
    with subprocess.Popen(
        ["/bin/sh", "-c", command], start_new_session=True, stdout=subprocess.PIPE
    ) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        try:
            yield shell.pid
        finally:
            os.killpg(shell.pid, 9)


def priorities(group: int) -> set[int]:
    """How nice the processes of a group are."""
    found = subprocess.run(["pgrep", "-g", str(group)], capture_output=True, check=True)
    return {os.getpriority(os.PRIO_PROCESS, int(pid)) for pid in found.stdout.split()}


def surely(group: int, *, first: bool = True) -> None:
    """Have others go first, or no longer, however often somebody else just said so."""
    while not linux.let_others_first(group, first=first):
        time.sleep(linux.AGAIN_S)


def test_a_session_goes_last_until_it_is_told_otherwise() -> None:
    before = mine()
    with session() as number:
        surely(number)
        meanwhile, session_meanwhile = priorities(number), of_session(number)
        surely(number, first=False)
        afterwards, session_afterwards = priorities(number), of_session(number)
        surely(number, first=False)

    assert meanwhile == {NICEST if may_come_back() else before}
    assert afterwards == {before}
    assert session_meanwhile in {str(NICEST), ""}
    assert session_afterwards in {"0", ""}
    assert mine() == before
    assert linux.let_others_first(number, first=False)  # they are gone


def test_a_process_that_could_not_come_back_stays_as_nice_as_it_is_and_its_session_comes() -> (
    None
):
    script = f"""
import os, resource, subprocess, time
from pathlib import Path
from rolekit.supervisor import linux
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
child = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
while not linux.let_others_first(child.pid):
    time.sleep(linux.AGAIN_S)
print(os.getpriority(os.PRIO_PROCESS, child.pid), os.getpriority(os.PRIO_PROCESS, 0))
while not linux.let_others_first(child.pid, first=False):
    time.sleep(linux.AGAIN_S)
try:
    print(Path(f"/proc/{{child.pid}}/autogroup").read_text().split()[-1])
except FileNotFoundError:
    print(0)
child.kill()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout == f"{mine()} {mine()}\n0\n"


@pytest.mark.parametrize(("limit", "goes_last"), [(20, True), (19, False)])
def test_a_limit_that_allows_to_come_back_is_enough(
    monkeypatch: pytest.MonkeyPatch, *, limit: int, goes_last: bool
) -> None:
    told: list[int] = []

    def refuse(_which: int, _who: int, nice: int) -> None:
        if nice < 0:
            raise PermissionError
        told.append(nice)

    def limits(_what: int) -> tuple[int, int]:
        return limit, limit

    def priority(_which: int, _who: int) -> int:
        return 0

    monkeypatch.setattr(resource, "getrlimit", limits)
    monkeypatch.setattr(os, "getpriority", priority)
    monkeypatch.setattr(os, "setpriority", refuse)

    for first in (True, False):
        linux.let_others_first(2**22 + 1, first=first)  # nobody has so large a number

    assert told == ([NICEST, 0] if goes_last else [])
