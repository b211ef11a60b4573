"""Under systemd: it is told when the fleet is ready, lives and stops, by a fake socket."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.patience import patient
from tests.process.supervised import Supervised

if TYPE_CHECKING:
    from collections.abc import Iterator

WATCHDOG_S = 1.0


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Be who started the supervisor; receive what it is told."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(12)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", f"{WATCHDOG_S * 1e6:.0f}")
        yield listening


def receive(told: socket.socket) -> str:
    return told.recv(1000).decode().splitlines()[0]


def wait_for(told: socket.socket, line: str) -> None:
    while receive(told) != line:
        pass


def drain(told: socket.socket) -> None:
    told.settimeout(0)
    try:
        while True:
            told.recv(1000)
    except BlockingIOError:
        told.settimeout(patient(12))


def test_it_is_told_of_readiness_of_life_and_of_the_stop(
    tmp_path: Path, told: socket.socket
) -> None:
    with Supervised("steady", tmp_path) as fleet:
        wait_for(told, "READY=1")
        ready = fleet.status().state
        wait_for(told, "WATCHDOG=1")
        began = time.monotonic()
        for _ in range(4):
            wait_for(told, "WATCHDOG=1")
        took_s = time.monotonic() - began
        fleet.interrupt()
        wait_for(told, "STOPPING=1")
        code = fleet.wait()

    assert ready == "ready"
    assert 1.5 <= took_s < patient(4 * WATCHDOG_S)  # each half of what is allowed
    assert code == 0


def test_a_supervisor_that_stands_still_is_silent(tmp_path: Path, told: socket.socket) -> None:
    with Supervised("steady", tmp_path) as fleet:
        wait_for(told, "READY=1")
        os.kill(fleet.process.pid, signal.SIGSTOP)
        drain(told)
        told.settimeout(WATCHDOG_S)

        with pytest.raises(TimeoutError):
            receive(told)

        os.kill(fleet.process.pid, signal.SIGCONT)


def test_a_role_that_always_dies_does_not_keep_the_others_from_being_ready(
    tmp_path: Path, told: socket.socket
) -> None:
    with Supervised("crashing", tmp_path, restarts=2, first_s=0.01) as fleet:
        wait_for(told, "READY=1")

        assert fleet.role("Crashing").state == "crash-looping"
        assert fleet.role("Steady").ready == 2


def test_no_process_below_can_speak_in_its_name(tmp_path: Path, told: socket.socket) -> None:
    with Supervised("steady", tmp_path) as fleet:
        wait_for(told, "READY=1")

        for one in fleet.descendants():
            environ = (Path("/proc") / str(one.pid) / "environ").read_bytes()
            assert b"NOTIFY_SOCKET" not in environ
            assert b"WATCHDOG" not in environ
