"""The command line: a user's mistake is a sentence and exit code 2, never a traceback."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from rolekit.cli.main import COMMANDS as NAMES
from rolekit.cli.main import line_of, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("place")

_ALL = get_command(line_of(NAMES))
assert isinstance(_ALL, TyperGroup)
COMMANDS = _ALL.commands

APP = """
from rolekit import App, Message, WorkerRole, handle

class Ping(Message):
    n: int
class Pong(Message):
    n: int

class Player(WorkerRole):
    @handle
    async def play(self, ping: Ping) -> {result}:
        return Pong(n=ping.n)
class Wall(WorkerRole):
    @handle
    async def bounce(self, pong: Pong) -> None: ...

app = App("game", roles=[Player, Wall])
"""


def write_app(place: Path, name: str, result: str = "Pong", tail: str = "") -> str:
    (place / f"{name}.py").write_text(APP.format(result=result) + tail)
    return f"{name}:app"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_says_what_it_does(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run([command, "--help"])

    assert code == 0
    assert f"rolekit {command}" in capsys.readouterr().out
    assert COMMANDS[command].help


def test_a_sound_app_checks_out(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = write_app(place, "sound_game")

    code = run(["check", target])

    assert code == 0
    assert capsys.readouterr().out == "game: 2 roles, 2 handlers, no problems\n"


def test_the_problems_of_an_app_are_counted_and_listed(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = write_app(place, "odd_game", result="int")

    code = run(["check", target])

    printed = capsys.readouterr().err
    assert code == 1
    assert printed.startswith("game: ")
    assert "Player.play: " in printed
    assert "Traceback" not in printed


def test_problems_as_json_are_data(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = write_app(place, "odd_game_2", result="int")

    code = run(["check", target, "--json"])

    found = json.loads(capsys.readouterr().out)
    assert code == 1
    assert found["app"] == "game"
    assert "Player.play" in found["problems"][0]["what"]


def test_an_error_in_the_users_module_shows_their_line(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = write_app(place, "broken_game", tail="\nspeed = 1 / 0\n")

    code = run(["check", target])

    printed = capsys.readouterr().err
    assert code == 1
    assert "speed = 1 / 0" in printed
    assert "raised ZeroDivisionError: division by zero." in printed
    assert "importlib" not in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["check"], "No app is named."),
        (["check", "nowhere:app"], "There is no module nowhere"),
        (["check", "json:dumpss"], "Did you mean dumps?"),
        (["check", "json:dumps"], "is function and not an App"),
        (["check", ":"], "does not name an app"),
        (["ps"], "No app is running here"),
        (["stop", "--app", "mail:app"], "mail:app is not running here"),
        (["scale", "Deliverer"], "does not say how many"),
        (["config", "--set", "log=loud"], "one of debug, info"),
        (["dead", "replay"], "Which dead letters?"),
        (["dead", "drop", "1", "--all"], "Which dead letters?"),
    ],
)
def test_wrong_use_is_a_sentence_and_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(arguments)

    printed = capsys.readouterr().err
    assert code == 2
    assert sentence in printed
    assert "Traceback" not in printed


def test_a_misspelt_command_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["chck"])

    assert code == 2
    assert "Did you mean 'check'?" in capsys.readouterr().err


def test_a_misspelt_role_gets_the_nearest(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = write_app(place, "run_game")

    code = run(["run", "Plaer", "--app", target])

    assert code == 2
    assert "Did you mean Player?" in capsys.readouterr().err


def test_a_misspelt_message_gets_the_nearest(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = write_app(place, "send_game")

    code = run(["send", "Pin", "{}", "--app", target])

    assert code == 2
    assert "Did you mean Ping?" in capsys.readouterr().err


def test_a_message_that_does_not_fit_its_class_names_the_field(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = write_app(place, "send_game_2")

    code = run(["send", "Ping", '{"n": "x"}', "--app", target])

    assert code == 2
    assert "$.n" in capsys.readouterr().err


def test_the_graph_is_mermaid(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = write_app(place, "drawn_game")

    code = run(["graph", target])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert lines[0] == "flowchart LR"
    assert '    outside -->|"Ping"| h0' in lines
    assert '    h0 -->|"Pong"| h1' in lines


def test_config_says_where_each_value_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["config", "--json", "--set", "grace_s=5", "--set", "Payments.api_key=k"])

    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert code == 0
    assert rows["grace_s"] == {"name": "grace_s", "value": "5.0", "source": "--set"}
    assert rows["log"]["source"] == "default"
    assert rows["roles.Payments.api_key"]["value"] == "********"
