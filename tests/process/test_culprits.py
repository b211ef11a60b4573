"""Whoever does harm is ended, named and replaced; nobody else is touched."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from rolekit.cli.main import run
from tests.process.many import Many
from tests.process.supervised import ROOT, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.servers, pytest.mark.timeout(150)]

SOON_S = 30.0


@pytest.fixture
def fleet(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Many]:
    """A fleet with harmful roles that have no instance yet; the good one must not notice."""
    with Many(tmp_path, database_url, "", monkeypatch, app="culprit") as fleet:
        before = fleet.pids("Good")
        yield fleet
        assert fleet.pids("Good") == before
        rolekit("send", "Ping", "{}")
        eventually(lambda: f"{before[0]} Good" in fleet.hits.read_text(), SOON_S)


def rolekit(*arguments: str) -> str:
    """Run a command; return what it says."""
    command = [sys.executable, "-m", "rolekit", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def scale(change: str) -> None:
    assert run(["scale", change]) == 0


def waits_for_why(fleet: Many, role: str, what: str) -> None:
    """Wait until `rolekit ps --why` has this to say about a role."""

    def said() -> str:
        return "\n".join(reason.what for reason in fleet.role(role).reasons)

    try:
        eventually(lambda: what in said(), SOON_S)
    except TimeoutError:
        raise AssertionError(f"{said()!r} does not say {what!r}:\n{fleet.log}") from None


def test_one_that_wants_all_memory_fails_and_one_that_leaks_is_replaced(
    fleet: Many,
) -> None:
    scale("Hog=1")
    scale("Leaky=1")
    eventually(lambda: len(fleet.pids("Leaky")) == 1, SOON_S)
    before = fleet.pids("Leaky")

    for kind in ("Eat", "Keep", "Keep"):
        rolekit("send", kind, "{}")

    waits_for_why(fleet, "Leaky", "MB of memory, of 150 MB at most")
    eventually(lambda: len(fleet.pids("Leaky")) == 1 and fleet.pids("Leaky") != before, SOON_S)
    eventually(lambda: fleet.hits.read_text().count("Leaky") == 2, SOON_S)
    eventually(lambda: fleet.role("Hog").dead == 1, SOON_S)
    (dead,) = json.loads(rolekit("dead", "list", "--json"))
    assert "MemoryError" in dead["reason"]
    assert "ate" not in fleet.hits.read_text()


def test_one_whose_loop_is_blocked_is_ended_and_its_siblings_are_not_disturbed(
    fleet: Many,
) -> None:
    scale("Stuck=4")
    eventually(lambda: len(fleet.pids("Stuck")) == 4, SOON_S)
    before = {place.name: place.pid for place in fleet.role("Stuck").places}

    rolekit("send", "Block", "{}")

    waits_for_why(fleet, "Stuck", "ended: it said nothing for 10 s: its loop was blocked")
    eventually(lambda: "Stuck" in fleet.hits.read_text(), SOON_S)
    eventually(lambda: len(fleet.pids("Stuck")) == 4, SOON_S)
    places = fleet.role("Stuck").places
    (culprit,) = (one for one in places if one.pid != before[one.name])
    assert culprit.restarts == 1
    assert sum(one.restarts for one in places) == 1
    assert fleet.role("Stuck").dead == 0
    assert "in block" in fleet.log  # its stacks


def test_the_reason_for_an_end_is_said_where_an_instance_fails(fleet: Many) -> None:
    for role in ("Slow", "Messy", "Hasty", "Unready"):
        scale(f"{role}=1")
    eventually(lambda: fleet.role("Messy").ready == 1, SOON_S)
    scale("Messy=0")

    waits_for_why(fleet, "Slow", "Slow/0 ended: it was not ready in 1 s, its start_s")
    waits_for_why(
        fleet, "Messy", "Messy/0 stopped, but on_stop raised OSError: the disk is full"
    )
    waits_for_why(fleet, "Hasty", "Hasty/0 ended: run raised LookupError: no such mailbox (")
    waits_for_why(fleet, "Unready", "Unready/0 ended: on_start raised ConnectionError: nobody")
    eventually(lambda: fleet.role("Slow").places[0].restarts >= 2, SOON_S)

    scale("Slow=0")
    eventually(lambda: fleet.role("Slow").running == fleet.role("Messy").running == 0, SOON_S)
