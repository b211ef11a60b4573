"""What fails is seen whole, though its trace was not to be kept: other processes remember."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from rolekit.config import Config
from tests.patience import patient
from tests.process.hosts import host
from tests.process.recalled_app import Start, app
from tests.process.supervised import ROOT, eventually
from tests.process.traced import rolekit, sent, spans_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rolekit.model.span import Span

pytestmark = [pytest.mark.servers, pytest.mark.timeout(150)]

APP = "tests.process.recalled_app:app"
STAGES = {"process First.first", "process Second.second", "process Third.third"}


@contextlib.contextmanager
def supervised(home: Path, database: str) -> Generator[None]:
    """Run all roles below one supervisor."""
    said = home / "said"
    with said.open("w") as file:
        up = subprocess.Popen(
            [sys.executable, "-m", "rolekit", "up", APP],
            cwd=ROOT,
            env={**os.environ, "ROLEKIT_HOME": str(home), "ROLEKIT_DATABASE": database},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: "recalled is up" in said.read_text(), within_s=60)
        yield
    finally:
        up.terminate()
        up.wait(patient(30))


@contextlib.contextmanager
def alone(home: Path, database: str) -> Generator[None]:
    """Run each role as a host of its own would."""
    with contextlib.ExitStack() as held:
        for role in ("First", "Second", "Third"):
            held.enter_context(host(APP, role, home / role, database, ""))
        yield


@pytest.mark.parametrize("running", [supervised, alone])
def test_what_fails_in_the_third_stage_shows_all_three(
    running: Callable[[Path, str], AbstractContextManager[None]],
    rolekit_database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROLEKIT_TRACES", "0")
    config = Config(app=APP, database=rolekit_database, home=tmp_path, traces=0.0)
    with running(tmp_path, rolekit_database):
        # The first that a client sends is kept in any case; it says when all are up.
        (first,) = sent(app, config, Start(n=1))
        eventually(
            lambda: {s.name for s in spans_of(app, config, first)} >= STAGES, within_s=50
        )
        failing = sent(app, config, *(Start(n=n) for n in (1, -1, -2, -3)))[1:]

        def is_whole(spans: list[Span]) -> bool:
            recalled = {s.name for s in spans if "rolekit.remembered" in s.attributes}
            return {s.name for s in spans} >= STAGES and "process First.first" in recalled

        eventually(
            lambda: any(is_whole(spans_of(app, config, one)) for one in failing), within_s=20
        )

    whole = next(one for one in failing if is_whole(spans_of(app, config, one)))
    spans = spans_of(app, config, whole)
    ids = {span.id for span in spans}
    failed = [span for span in spans if span.error]
    assert [(span.name, span.detail) for span in failed] == [
        ("process Third.third", "below zero")
    ]
    assert [s.name for s in spans if s.parent and s.parent not in ids] == [
        "process First.first"
    ]
    told = json.loads(rolekit(config, "why", whole, "--json")[1])
    assert {piece["where"] for piece in told["pieces"]} >= {
        "First.first", "Second.second", "Third.third",
    }  # fmt: skip
    drawn = rolekit(config, "trace", whole)[1]
    assert drawn.index("process First") < drawn.index("process Second")
    assert drawn.index("process Second") < drawn.index("process Third")
