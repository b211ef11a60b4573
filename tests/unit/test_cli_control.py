"""What the command line says to a supervisor that goes away meanwhile."""

from __future__ import annotations

import gc
import select
import socket
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from rolekit.cli.client import GONE, Control
from rolekit.errors import Unavailable
from rolekit.supervisor.control import StopOrder, Stopping

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@contextmanager
def going(path: Path) -> Generator[None]:
    """Listen at a path until the first one has connected, accept nobody, and be gone."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    listening.listen(0)

    def go() -> None:
        select.select([listening], [], [])
        listening.close()

    leaving = threading.Thread(target=go)
    leaving.start()
    yield
    leaving.join()


def test_a_supervisor_that_goes_away_while_it_is_asked_leaves_no_socket_open(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.sock"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        with going(path), pytest.raises(GONE):
            Control(path).status()
        gc.collect()

    assert caught == []


def test_one_that_is_not_there_leaves_no_socket_open(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        with pytest.raises(GONE):
            Control(tmp_path / "a.sock").status()
        gc.collect()

    assert caught == []


def test_an_order_to_one_that_goes_away_meanwhile_is_refused_with_a_sentence(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.sock"

    with going(path), pytest.raises(Unavailable, match="went away while it was asked"):
        Control(path).order("/stop", StopOrder(), Stopping)
