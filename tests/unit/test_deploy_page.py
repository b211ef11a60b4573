"""What docs/how-to/deploy.md shows of `rolekit deploy` is what it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rolekit.cli.main import run

PAGE = (Path(__file__).parents[2] / "docs/how-to/deploy.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"\n    rolekit (deploy [^\n]*)\n\n```yaml\n([^`]*)```", PAGE)


def test_each_engine_is_shown() -> None:
    assert [command.split()[1] for command, _ in SHOWN] == ["compose", "swarm", "kubernetes"]


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(("command", "shown"), SHOWN)
def test_what_the_page_shows_is_printed(
    command: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command.split()) == 0

    assert shown in capsys.readouterr().out
