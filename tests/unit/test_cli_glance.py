"""`rolekit ps --ready` without the command line: only in the plain case, and with its words."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

import rolekit
from rolekit.cli.glance import COMMAND, NOT_READY, READY, glance

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@contextmanager
def answering(path: Path, answer: bytes) -> Generator[None]:
    """Answer the first who asks at a path, with these bytes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            asking, _ = listening.accept()
            with asking:
                asking.recv(1024)
                asking.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROLEKIT_HOME", "home")
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (b"200 OK", READY),
        (b"503 Service Unavailable", NOT_READY),
        (b"500 Internal Server Error", None),
    ],
)
def test_the_one_app_in_the_home_is_asked(home: Path, status: bytes, said: str | None) -> None:
    with answering(home / "mail.sock", b"HTTP/1.1 " + status + b"\r\n\r\n"):
        assert glance(COMMAND) == said


def test_one_that_is_gone_is_left_to_the_command_line(home: Path) -> None:
    (home / "mail.sock").touch()

    assert glance(COMMAND) is None


def test_nothing_or_several_are_left_to_the_command_line(home: Path) -> None:
    before = glance(COMMAND)
    (home / "mail.sock").touch()
    (home / "shop.sock").touch()

    assert before is glance(COMMAND) is None


@pytest.mark.parametrize(
    "arguments", [[], ["ps"], ["ps", "--ready", "--json"], ["ps", "--ready", "--app", "mail"]]
)
def test_other_commands_are_left_to_the_command_line(home: Path, arguments: list[str]) -> None:
    with answering(home / "mail.sock", b"HTTP/1.1 200 OK\r\n\r\n"):
        assert glance(arguments) is None
        assert glance(COMMAND) == READY


@pytest.mark.parametrize("variable", ["ROLEKIT_CONTROL", "ROLEKIT_CONFIG"])
def test_settings_that_may_lead_elsewhere_are_left_to_the_command_line(
    home: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(home / "mail.sock", b"HTTP/1.1 200 OK\r\n\r\n"):
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv(variable, "there")
            assert glance(COMMAND) is None
        (home.parent / "rolekit.toml").touch()
        assert glance(COMMAND) is None
        (home.parent / "rolekit.toml").unlink()
        assert glance(COMMAND) == READY


def test_rolekit_is_not_loaded_for_it_but_knows_its_names() -> None:
    assert {*rolekit.__all__, "field"} <= set(dir(rolekit))
    with pytest.raises(AttributeError, match="module 'rolekit' has no attribute 'Rolle'"):
        _ = rolekit.Rolle  # type: ignore[attr-defined]
