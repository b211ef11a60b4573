"""A supervisor that is killed while messages flow, and the one that takes over."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.patience import patient
from tests.process.many import Many
from tests.process.supervised import Descendant, eventually
from tests.process.test_stopped import SOON_S, holds, noted, prepare

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.servers, pytest.mark.timeout(180)]

COUNT, PER_S = 300, 100


def test_a_supervisor_killed_under_load_is_followed_by_another_and_nothing_is_lost(
    tmp_path: Path, database_url: str, broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(database_url)
    with Many(tmp_path, database_url, broker, monkeypatch) as fleet:
        fleet.scale("Writer", 3, SOON_S)
        before = [holds(fleet), *fleet.pids("Writer")]
        held = [Descendant(pid, 0, os.pidfd_open(pid)) for pid in before]
        sender = fleet.sending(COUNT, PER_S, "Note")
        eventually(lambda: len(fleet.numbers()) > COUNT // 10, SOON_S)

        fleet.process.kill()
        fleet.process.wait()
        fleet.start_again()
        eventually(lambda: not any(one.is_alive for one in held), SOON_S)
        for one in held:
            os.close(one.pidfd)
        fleet.go.touch()
        fleet.scale("Writer", 3, SOON_S)
        fleet.scale("Holder", 1, SOON_S)
        assert sender.wait(patient(SOON_S)) == 0
        eventually(lambda: len(noted(database_url)) >= fleet.sent, SOON_S)
        eventually(lambda: not fleet.role("Writer").in_hand, SOON_S)
        eventually(lambda: not fleet.role("Holder").in_hand, SOON_S)

        assert noted(database_url) == list(range(fleet.sent))
