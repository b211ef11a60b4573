"""A zygote of another version gives way to those who serve, and comes back."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from rolekit.supervisor import linux

if TYPE_CHECKING:
    from collections.abc import Generator

NICEST = 19
NOBODY = 65534


@contextlib.contextmanager
def group() -> Generator[int]:
    """Run two processes in a group of their own; give its number."""
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


def members(number: int) -> list[int]:
    found = subprocess.run(["pgrep", "-g", str(number)], capture_output=True, check=True)
    return [int(pid) for pid in found.stdout.split()]


def priorities(number: int) -> set[int]:
    return {os.getpriority(os.PRIO_PROCESS, pid) for pid in members(number)}


def test_a_group_goes_last_until_it_is_told_otherwise() -> None:
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    with group() as number:
        stop = linux.let_others_first(number)
        meanwhile = priorities(number)
        stop()
        afterwards = priorities(number)
        stop()

    assert meanwhile == {NICEST if may_come_back() else mine}
    assert afterwards == {mine}
    assert os.getpriority(os.PRIO_PROCESS, 0) == mine
    stop()  # they are gone


def may_come_back() -> bool:
    return os.geteuid() == 0 or resource.getrlimit(resource.RLIMIT_NICE)[0] >= NICEST + 1


def test_whoever_could_not_come_back_stays_as_it_is() -> None:
    script = f"""
import os, resource, subprocess
from rolekit.supervisor import linux
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
child = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
stop = linux.let_others_first(child.pid)
print(os.getpriority(os.PRIO_PROCESS, child.pid))
child.kill()
stop()
print(os.getpriority(os.PRIO_PROCESS, 0))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    mine = os.getpriority(os.PRIO_PROCESS, 0)
    assert done.stdout == f"{mine}\n{mine}\n"


@pytest.mark.parametrize(("limit", "goes_last"), [(20, True), (19, False)])
def test_a_limit_that_allows_to_come_back_is_enough(
    monkeypatch: pytest.MonkeyPatch, *, limit: int, goes_last: bool
) -> None:
    told: list[int] = []

    def refuse(_which: int, _who: int, nice: int) -> None:
        if nice < 0:
            raise PermissionError
        told.append(nice)

    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    monkeypatch.setattr(os, "getpriority", lambda _which, _who: 0)
    monkeypatch.setattr(os, "setpriority", refuse)

    linux.let_others_first(1)()

    assert told == ([NICEST, 0] if goes_last else [])
