"""Log lines: no value can forge a line or a colour."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest
import structlog

from rolekit.observe import logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """Put logging back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_json_lines_carry_the_fields_of_their_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.set_up("info", "json", app="mailflow", role="Deliverer")

    structlog.get_logger("x").info("delivered", message_id="m1")

    line = json.loads(capsys.readouterr().err)
    assert line["event"] == "delivered"
    assert (line["app"], line["role"], line["message_id"]) == ("mailflow", "Deliverer", "m1")


def test_setting_up_again_changes_the_fields_of_all_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = structlog.get_logger("x")

    logs.set_up("info", "json", app="mailflow")
    log.info("first")
    logs.set_up("info", "json", app="mailflow", role="Deliverer")
    log.info("second")

    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert "role" not in first
    assert second["role"] == "Deliverer"


@pytest.mark.parametrize("form", ["pretty", "json"])
def test_control_characters_are_escaped(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("info", form)

    structlog.get_logger("x").info("got", subject="a\r\nforged \x1b[31mred\u2028")
    logging.getLogger("y").warning("lib says %s", "b\nforged")

    printed = capsys.readouterr().err
    assert len(printed.splitlines()) == 2
    assert "\x1b[31mred" not in printed


def test_an_exception_keeps_its_lines_in_json_as_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.set_up("info", "json")

    try:
        _ = 1 / 0
    except ZeroDivisionError:
        structlog.get_logger("x").exception("failed")

    line = json.loads(capsys.readouterr().err)
    assert "ZeroDivisionError" in line["exception"]


def test_lines_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("warning", "json")

    structlog.get_logger("x").info("quiet")

    assert capsys.readouterr().err == ""
