"""However an instance was started, collections of garbage pass over the app and its imports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.supervised import eventually

pytestmark = [pytest.mark.servers, pytest.mark.timeout(120)]

SAID = re.compile(rb"passes over it: .*\n")
HERE = Path(__file__).parent
COMMANDS: dict[str, tuple[list[str], dict[str, str]]] = {
    "in the foreground": (["run", "--app", "frozen_app:app", "Frozen"], {}),
    "forked": (["up", "frozen_app:app"], {"ROLEKIT_START_METHOD": "fork"}),
    "spawned": (["up", "frozen_app:app"], {"ROLEKIT_START_METHOD": "spawn"}),
}


@pytest.mark.parametrize("way", COMMANDS)
def test_it_is_passed_over(way: str, tmp_path: Path, rolekit_database: str) -> None:
    command, settings = COMMANDS[way]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "rolekit", *command],
            cwd=HERE,
            env={
                **os.environ,
                **settings,
                "PYTHONPATH": f"{HERE.parent.parent}:{HERE}",
                "ROLEKIT_HOME": str(tmp_path / "home"),
                "ROLEKIT_DATABASE": rolekit_database,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            eventually(lambda: SAID.search(log.read_bytes()) is not None, within_s=50)
        finally:
            process.kill()
            process.wait()
    assert b"passes over it: True True" in log.read_bytes()
