"""Lines that handlers log name their message and trace; levels change while they run."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from rolekit.config import Config
from rolekit.wiring import open_client
from tests.patience import patient
from tests.process.spoken_app import Say, app
from tests.process.supervised import ROOT, eventually

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.servers, pytest.mark.timeout(60)]

APP = "tests.process.spoken_app:app"
TOKEN = "body-that-nobody-may-log"  # noqa: S105 - of a message


def lines_of(log: Path, event: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for line in log.read_text().splitlines():
        if line.startswith("{"):
            said = json.loads(line)
            if said["event"] == event:
                found.append(said)
    return found


def send(config: Config, word: str) -> str:
    async def sent() -> str:
        async with open_client(app, config) as client:
            return (await client.send(Say(word=word, secret=TOKEN))).id

    return asyncio.run(sent())


def test_lines_name_message_and_trace_and_levels_change_while_they_run(
    tmp_path: Path, rolekit_database: str
) -> None:
    settings, log = tmp_path / "rolekit.toml", tmp_path / "log"
    settings.write_text("log_format = 'json'\n")
    environment = {
        **os.environ,
        "ROLEKIT_CONFIG": str(settings),
        "ROLEKIT_HOME": str(tmp_path),
        "ROLEKIT_DATABASE": rolekit_database,
    }
    config = Config(app=APP, database=rolekit_database, home=tmp_path, traces=1.0)
    command = [sys.executable, "-m", "rolekit"]
    with log.open("w") as file:
        up = subprocess.Popen(
            [*command, "up", APP], cwd=ROOT, env=environment, stdout=file, stderr=file
        )
    try:
        eventually(lambda: "spoken is up" in log.read_text(), within_s=20)
        quiet = send(config, "quiet")
        eventually(lambda: len(lines_of(log, "echo quiet")) == 1, within_s=20)
        eventually(lambda: len(lines_of(log, "shouted")) == 1, within_s=20)
        settings.write_text("log_format = 'json'\n[roles.Speaker]\nlog = 'loud'\n")
        refused = subprocess.run(
            [*command, "reload"], cwd=ROOT, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        settings.write_text("log_format = 'json'\n[roles.Speaker]\nlog = 'debug'\n")
        subprocess.run([*command, "reload"], cwd=ROOT, env=environment, check=True)
        send(config, "open")
        eventually(lambda: len(lines_of(log, "echo open")) == 1, within_s=20)
    finally:
        up.terminate()
        up.wait(patient(30))

    said, echo = lines_of(log, "said")[0], lines_of(log, "echo quiet")[0]
    shouted = lines_of(log, "shouted")[0]
    assert {said["app"], echo["app"], shouted["app"]} == {"spoken"}
    assert {(one["role"], one["instance"]) for one in (said, echo)} == {("Speaker", 0)}
    assert said["message"] == echo["message"] != shouted["message"]
    assert len({said["trace"], echo["trace"], shouted["trace"]}) == 1
    assert quiet not in {said["message"], shouted["message"]}  # two handlers: an id for each
    assert [one["word"] for one in lines_of(log, "whispered")] == ["open"]
    assert refused.returncode == 2
    assert "one of debug, info, warning, error, critical is expected" in refused.stderr
    text = log.read_text()
    assert TOKEN not in text
    assert "hush" not in text
    assert text.count("********") >= 3
