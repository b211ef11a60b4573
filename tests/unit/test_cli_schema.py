"""`rolekit schema`: what it prints, and what it refuses."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from rolekit.cli.main import run
from rolekit.schema import as_yaml

pytestmark = pytest.mark.usefixtures("place")

ROOT = Path(__file__).parents[2]
APP = "tests.typing.programs.bookings:app"
MINE = """
from rolekit import App, Message, Secret, WebRole, WorkerRole, handle, web

class Ping(Message):
    n: int

class Player(WorkerRole):
    password: Secret = Secret("open-sesame")
    @handle
    async def play(self, ping: Ping) -> None: ...
class Front(WebRole):
    token: Secret = Secret("open-sesame")
    @web.post("/ping")
    async def ping(self, ping: Ping) -> None: ...

app = App("game", roles=[Player, Front])
"""


@pytest.mark.parametrize(("option", "key"), [((), "asyncapi"), (("--openapi",), "openapi")])
def test_yaml_says_the_same_as_json(
    option: tuple[str, ...], key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["schema", APP, *option, "--release", "08e1"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert run(["schema", APP, *option, "--release", "08e1", "--yaml"]) == 0
    text = capsys.readouterr().out

    assert yaml.safe_load(text) == said
    assert said[key].startswith("3.")
    assert "version: '08e1'" in text, "or readers of YAML 1.2 take it for a number"


def test_text_that_another_reader_takes_for_a_number_is_quoted() -> None:
    texts = ["08", "1e3", "0o7", ".5", "12e45", "on", "1_000"]

    assert as_yaml(texts).splitlines() == [f"- '{text}'" for text in texts]
    assert as_yaml(["3.0.0", "k08", "a1"]).splitlines() == ["- 3.0.0", "- k08", "- a1"]


def test_a_document_is_written_to_a_file(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["schema", "--app", APP, "--output", "bookings.json"]) == 0

    assert capsys.readouterr().out == ""
    assert json.loads((place / "bookings.json").read_text())["info"]["title"] == "bookings"


def test_the_commands_of_the_page_write_what_it_says(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs/how-to/schema.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\$ rolekit (schema .*)$", page, flags=re.MULTILINE)
    commands = [line.replace("mailflow.app:app", APP).partition(" > ")[0] for line in lines]

    codes = [run(command.split()) for command in commands]

    said = capsys.readouterr()
    assert codes == [0, 0]
    assert said.err == "Written to asyncapi.json.\n"
    assert "Written to asyncapi.json.\n" in page
    queues = json.loads((place / "asyncapi.json").read_text())
    assert queues["asyncapi"] == "3.0.0"
    assert yaml.safe_load(said.out)["info"]["version"] == "1.4.0"
    channels, operations = queues["channels"], queues["operations"]
    assert {"in", "replies", "Bookings.partitions"} <= channels.keys()
    assert {one["action"] for one in operations.values()} == {"receive", "send"}
    assert "Debit.dead" in queues["components"]["messages"]


@pytest.mark.parametrize("option", [(), ("--openapi",)])
def test_no_secret_gets_into_a_document(
    option: tuple[str, ...],
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (place / "secret_game.py").write_text(MINE)
    monkeypatch.setenv("ROLEKIT_BROKER", "amqp://user:open-sesame@mq.internal/")
    monkeypatch.setenv("ROLEKIT_DATABASE", "postgresql://user:open-sesame@db.internal/")
    monkeypatch.setenv("ROLEKIT_PLAYER__PASSWORD", "open-sesame")

    assert run(["schema", "secret_game:app", *option]) == 0

    said = capsys.readouterr().out
    assert "Ping" in said
    assert "sesame" not in said
    assert "internal" not in said


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--role", "Front"), 2, "--role goes with --openapi"),
        (("--openapi", "--role", "Fromt"), 2, "no WebRole 'Fromt'"),
        (("--output", "no/such/folder.json"), 2, "No such file or directory"),
        (("--app", "no_such_module:app"), 2, "no_such_module"),
    ],
)
def test_wrong_use_is_a_sentence(
    arguments: tuple[str, ...], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = () if "--app" in arguments else ("--app", APP)

    assert run(["schema", *app, *arguments]) == code

    said = capsys.readouterr()
    assert says in said.err
    assert "Traceback" not in said.err


def test_yaml_without_its_library_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)

    assert run(["schema", APP, "--yaml"]) == 2
    assert "pip install 'rolekit[yaml]'" in capsys.readouterr().err
