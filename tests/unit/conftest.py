"""What tests of commands share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder without settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in ("ROLEKIT_APP", "ROLEKIT_HOME", "ROLEKIT_DATABASE", "ROLEKIT_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path
