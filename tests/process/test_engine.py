"""The engine of tests: it runs programs, and nothing of it is left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine import NoEngine, PrivateEngine

if TYPE_CHECKING:
    from tests.engine import PrivateEngine as Engine

pytestmark = pytest.mark.timeout(180)


def test_it_runs_programs_of_its_base_image(engine: Engine) -> None:
    said = engine.docker("run", "--rm", "rolekit-test:base", "perl", "-e", "print 6 * 7")

    assert said == "42"


def test_an_engine_that_fails_says_why_in_its_own_words(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bad_options(_: object) -> list[str]:
        return ["--storage-driver", "none-such"]

    monkeypatch.setattr(PrivateEngine, "_options", bad_options)

    with pytest.raises(NoEngine, match="none-such"):
        PrivateEngine().__enter__()


def test_nothing_of_an_engine_is_left(engine: Engine) -> None:
    with PrivateEngine() as other:
        folder = other.socket.parent
    assert not folder.exists()
    assert str(folder) not in Path("/proc/self/mounts").read_text()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and Path(entry.path, "cmdline").exists():
            assert str(folder).encode() not in Path(entry.path, "cmdline").read_bytes()
