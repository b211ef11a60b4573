"""The control API over TCP: the same commands, with the token."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from rolekit.cli.main import run
from rolekit.supervisor.control_access import BURST
from tests.process.fleet_main import CONTROL_TOKEN
from tests.process.supervised import Supervised, eventually

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture
def port() -> int:
    """One that is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def fleet(tmp_path: Path, port: int) -> Generator[Supervised]:
    """A fleet that answers there."""
    with Supervised("steady", tmp_path, control=port) as fleet:
        fleet.wait_for_line("steady is up")
        yield fleet


def test_the_command_line_reaches_it_with_the_token_alone(
    fleet: Supervised,
    port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROLEKIT_CONTROL", f"127.0.0.1:{port}")
    monkeypatch.setenv("ROLEKIT_CONTROL_TOKEN", CONTROL_TOKEN)
    right = run(["scale", "Steady=3"])
    scaled = capsys.readouterr().out
    monkeypatch.setenv("ROLEKIT_CONTROL_TOKEN", "another" * 5)
    wrong = run(["scale", "Steady=0"])

    assert (right, scaled) == (0, "Steady: 3 instances\n")
    assert wrong == 2
    assert "was sent a wrong token" in capsys.readouterr().err
    assert httpx.get(f"http://127.0.0.1:{port}/ready").json() == {"ready": True}
    assert '"why": "a wrong token"' in fleet.output
    assert len(fleet.role("Steady").places) == 3


def test_who_guesses_is_refused_logged_and_held_up(fleet: Supervised, port: int) -> None:
    url = f"http://127.0.0.1:{port}/ps"
    right, wrong = ({"Authorization": f"Bearer {one}"} for one in (CONTROL_TOKEN, "guess" * 8))
    answers: list[httpx.Response] = []

    with httpx.Client() as http:
        # Guesses are forgotten at one a second, so a slow machine makes a few more.
        while not answers or (answers[-1].status_code == 401 and len(answers) < 10 * BURST):
            answers.append(http.get(url, headers=wrong))
        eventually(lambda: http.get(url, headers=right).status_code == 200)

    *refused, held_up = answers
    assert {one.status_code for one in refused} == {401}
    assert len(refused) >= BURST
    assert held_up.status_code == 429
    assert int(held_up.headers["Retry-After"]) >= 1
    assert fleet.output.count('"why": "a wrong token"') == len(refused)
    assert "guess" not in fleet.output


def test_the_socket_is_for_its_owner_and_the_token_for_the_supervisor(
    fleet: Supervised, tmp_path: Path
) -> None:
    mode = (tmp_path / "steady.sock").stat().st_mode

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert fleet.process.pid != os.getpid()
    for one in fleet.descendants():
        assert CONTROL_TOKEN not in (Path("/proc") / str(one.pid) / "environ").read_text()
