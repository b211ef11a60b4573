"""`rolekit deploy`: what it prints is what the page shows, and what systemd reads."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rolekit import App, Message, WorkerRole, handle
from rolekit.cli.main import run

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("place")

APP = "tests.typing.programs.letters:app"


class Mail(Message):
    """Something to carry."""

    to: str


class Carrier(WorkerRole):
    """Carries."""

    @handle
    async def carry(self, mail: Mail) -> None: ...


@pytest.fixture
def mailflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app of the page."""
    package, module = ModuleType("mailflow"), ModuleType("mailflow.app")
    vars(module)["app"] = App("mailflow", roles=[Carrier])
    monkeypatch.setitem(sys.modules, "mailflow", package)
    monkeypatch.setitem(sys.modules, "mailflow.app", module)


def lines_of(unit: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit, flags=re.MULTILINE)


def test_the_unit_is_the_one_that_the_page_shows(
    mailflow: None, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs/how-to/operate.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^    rolekit (deploy systemd .*)$", page, flags=re.MULTILINE)
    shown = re.search(r"```ini\n(\[Unit\]\n.*?)```", page, flags=re.DOTALL)
    assert shown is not None

    assert run(command.split()) == 0

    assert capsys.readouterr().out == shown[1]


def test_it_waits_longer_than_the_soft_stop_and_names_the_settings_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my settings.toml").write_text("grace_s = 500\n")

    assert (
        run(["deploy", "systemd", APP, "--config", "my settings.toml", "--user", "post"]) == 0
    )

    unit = capsys.readouterr().out
    assert lines_of(unit, "TimeoutStopSec") == ["540"]
    assert lines_of(unit, "User") == ["post"]
    assert lines_of(unit, "WorkingDirectory") == [str(tmp_path)]
    (started,) = lines_of(unit, "ExecStart")
    assert started.endswith(f'up --app {APP} --config "{tmp_path}/my settings.toml"')
    assert Path(started.split()[0]).name == "rolekit"


def test_what_systemd_would_expand_is_written_so_that_it_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = '/opt/100% "mine"/$x/rolekit'

    assert run(["deploy", "systemd", APP, "--folder", "/srv/50%", "--program", program]) == 0

    unit = capsys.readouterr().out
    assert lines_of(unit, "WorkingDirectory") == ["/srv/50%%"]
    (started,) = lines_of(unit, "ExecStart")
    assert started.startswith('"/opt/100%% \\"mine\\"/$$x/rolekit" up')


def test_secrets_do_not_get_into_a_unit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROLEKIT_DATABASE", "postgresql://user:open-sesame@db/")

    assert run(["deploy", "systemd", APP]) == 0

    assert "sesame" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--folder", "srv"], "--folder is 'srv'; systemd wants a path from the root."),
        (["--program", "rolekit"], "--program is 'rolekit'"),
        (["--user", "a\nb"], "a character that a unit of systemd cannot have"),
    ],
)
def test_what_no_unit_can_have_is_a_sentence(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["deploy", "systemd", APP, *arguments]) == 2
    assert says in capsys.readouterr().err
