"""`rolekit up --reload`: the app runs the code as it was saved last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit.cli.main import run
from rolekit.supervisor import watching
from tests.process.supervised import Supervised, eventually

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(90)

APP = "import fleet_app\n\nwatched = fleet_app.app_of('watched', fleet_app.Steady)\n"
SOON_S = 25


def _nothing(_name: str) -> None:
    """Find no module."""


def test_a_saved_file_is_run_and_a_broken_one_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    app = tmp_path / "watched_app.py"
    app.write_text(APP)
    with Supervised("watched", tmp_path) as fleet:
        fleet.wait_for_line("watched is up", SOON_S)

        def versions() -> set[int]:
            return {place.version for place in fleet.role("Steady").places}

        app.write_text(APP + "# saved\n")
        fleet.wait_for_line("The new code runs.", SOON_S)
        first = versions()
        app.write_text(APP + "raise RuntimeError('half done')\n")
        fleet.wait_for_line("The old code goes on.", SOON_S)
        second = versions()
        app.write_text(APP)
        eventually(lambda: fleet.output.count("The new code runs.") == 2, SOON_S)

        assert (first, second) == ({2}, {2})
        assert fleet.role("Steady").ready == 2
        assert "watched_app.py changed." in fleet.output
        assert "Importing watched_app:watched raised RuntimeError: half done." in fleet.output


def test_without_the_library_it_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watching, "find_spec", _nothing)

    code = run(["up", "fleet_app:steady", "--reload", "--set", f"home={tmp_path}"])

    assert code == 2
    assert 'pip install "rolekit[reload]"' in capsys.readouterr().err
