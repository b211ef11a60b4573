"""The public API as users type it: programs accepted, one file refused line by line."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rolekit import App

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PROGRAMS = ("letters", "subtitles", "bookings", "translations", "gallery", "rates", "archive")


def app_of(program: str) -> App:
    app: App = importlib.import_module(f"tests.typing.programs.{program}").app
    return app


def lines_with(mark: str) -> set[int]:
    text = (HERE / "refused.txt").read_text()
    return {at for at, line in enumerate(text.splitlines(), 1) if re.search(mark, line)}


@pytest.fixture
def refused(tmp_path: Path) -> Path:
    path = tmp_path / "refused.py"
    path.write_text((HERE / "refused.txt").read_text())
    return path


def run(*command: str) -> str:
    tool = [sys.executable, "-m", *command]
    return subprocess.run(tool, cwd=ROOT, capture_output=True, text=True, check=False).stdout


@pytest.mark.timeout(300)
def test_mypy_accepts_the_programs_and_refuses_each_marked_line(refused: Path) -> None:
    out = run("mypy", "--strict", "--output", "json", str(HERE / "programs"), str(refused))

    found: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    errors = [each for each in found if each["severity"] == "error"]
    assert {Path(each["file"]).name for each in errors} == {"refused.py"}
    assert {each["line"] for each in errors} == lines_with(r"# refused$")


@pytest.mark.timeout(300)
def test_pyright_accepts_the_programs_and_refuses_each_marked_line(refused: Path) -> None:
    out = run("pyright", "--outputjson", str(HERE / "programs"), str(refused))

    errors: list[dict[str, Any]] = json.loads(out)["generalDiagnostics"]
    assert {Path(each["file"]).name for each in errors} == {"refused.py"}
    lines = {each["range"]["start"]["line"] + 1 for each in errors}
    assert lines == lines_with(r"# refused( by pyright)?$")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_can_start(program: str) -> None:
    plan = app_of(program).plan()

    assert plan.name == program
