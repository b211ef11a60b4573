"""Folders of servers of a test run: in memory where there is room, and none is left over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit.testing import folders
from rolekit.testing.folders import Folder

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "rolekit-folders-"


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "memory"
    place.mkdir()
    monkeypatch.setattr(folders, "MEMORY", place)
    monkeypatch.setattr(folders, "ROOM_BYTES", 0)
    return place


def test_a_folder_is_in_memory_and_gone_at_the_end(memory: Path) -> None:
    folder = Folder(PREFIX)
    (folder.path / "data").write_bytes(b"some")

    assert folder.path.parent == memory
    folder.remove()
    folder.remove()
    assert list(memory.iterdir()) == []


def test_without_room_in_memory_it_is_elsewhere(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "ROOM_BYTES", 1 << 60)
    elsewhere = Folder(PREFIX, tmp_path)
    monkeypatch.setattr(folders, "MEMORY", tmp_path / "none")
    without = Folder(PREFIX, tmp_path)

    assert elsewhere.path.parent == without.path.parent == tmp_path
    elsewhere.remove()
    without.remove()


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_is_not(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_YOUNG_S", 0.0)
    used = Folder(PREFIX)
    left = memory / f"{PREFIX}left"  # and its lock went with who made it
    left.mkdir()
    (left / "data").touch()

    new = Folder(PREFIX)

    assert set(memory.iterdir()) == {used.path, new.path}
    used.remove()
    new.remove()


def test_one_that_was_made_just_now_is_left_to_who_made_it(memory: Path) -> None:
    young = memory / f"{PREFIX}young"
    young.mkdir()

    Folder(PREFIX).remove()

    assert young.exists()
