"""What operators did, as it is kept in Postgres, and as the command shows it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from rolekit.database import Database
from rolekit.store.postgres import audit
from rolekit.store.postgres.audit import Act, AuditLog
from rolekit.wiring import migrate
from tests.process.supervised import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.servers]

APP = "tests.process.recalled_app:app"


def shown(database: str, home: Path, *options: str) -> str:
    command = [sys.executable, "-m", "rolekit", "audit", "--app", APP, *options]
    command += ["--set", f"database={database}", "--set", f"home={home}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_newest_are_kept_and_shown(
    rolekit_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "KEPT", 2)

    async def note(*acts: Act) -> list[Act]:
        database = Database(rolekit_database, "recalled")
        try:
            log = AuditLog(database)
            for act in acts:
                await log.note(act)
            return await log.newest(10)
        finally:
            await database.close()

    asyncio.run(migrate("recalled", rolekit_database))
    nobody = shown(rolekit_database, tmp_path)
    acts = [
        Act(who="10.0.0.5", act="scale", what=f"Third={n}", outcome="x" * 1000)
        for n in range(4)
    ]
    kept = asyncio.run(note(*acts))
    told = json.loads(shown(rolekit_database, tmp_path, "--json"))

    assert nobody == "Nobody has changed anything.\n"
    assert [act.what for act in kept] == ["Third=3", "Third=2"]
    assert {len(act.outcome) for act in kept} == {300}
    assert [one["what"] for one in told] == ["Third=3", "Third=2"]
    assert "10.0.0.5  scale  Third=3" in shown(rolekit_database, tmp_path, "--limit", "1")
