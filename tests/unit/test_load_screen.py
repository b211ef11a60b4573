"""What `load` says on a terminal, and at its end."""

from __future__ import annotations

import datetime as dt
import io
import os
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING

from rolekit.cli.load_screen import Screen, say_outcome
from rolekit.load.arrivals import Constant
from rolekit.load.client import Told
from rolekit.load.result import Recorder
from rolekit.load.scenario import Http, Scenario

if TYPE_CHECKING:
    import pytest

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
SCENARIO = Scenario(
    name="evening",
    entry=Http(url="http://nowhere/"),
    arrival=Constant(rate=100),
    for_s=3600,
)
CLEAR = "\r\x1b[2K"


class Terminal(io.StringIO):
    """One of 80 columns that keeps what is written."""

    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        """Return the line that was written last."""
        return self.getvalue().rpartition(CLEAR)[2]


def opened(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Have standard error be a terminal; pytest sets its own before each test."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    return terminal


def recorder(*, seconds: int, each: int = 1, under_way: int = 0) -> Recorder:
    """Make one that heard of so many requests each second, each of which took 1.14 s."""
    made = Recorder(SCENARIO)
    due_us = [second * 1_000_000 for second in range(seconds)] * each
    count = len(due_us)
    made.take(
        0,
        Told(
            due_us=due_us, took_us=[1_140_000] * count, end=[0] * count, ways=[], ids=[],
            under_way=under_way,
        ),
    )  # fmt: skip
    return made


def test_the_terminal_that_is_asked_for_its_width_is_the_one_that_is_written_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 40))
    with os.fdopen(ours, "rb", buffering=0) as read, os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.delenv("COLUMNS", raising=False)

        Screen(SCENARIO).tick(recorder(seconds=1250, under_way=412), 1234)
        shown = read.read(1000).decode().rpartition(CLEAR)[2]

    assert shown == "1234 of 3600 s    1/s answered  412 und"


def test_a_line_of_a_terminal_is_never_longer_than_a_row_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = opened(monkeypatch)
    screen = Screen(SCENARIO)

    screen.tick(recorder(seconds=1250, under_way=412), 1234)
    line = "1234 of 3600 s    1/s answered  412 under way  0 failed  p50 1.14 s  p99 1.14 s"
    assert terminal.shown() == line

    # What is longer would go on in the next row, and stay there when the line is written anew.
    screen.tick(recorder(seconds=10, each=1500, under_way=1_234_567), 10)
    assert len(terminal.shown()) == 79
    assert "1,234,567 under way" in terminal.shown()


def test_when_no_more_is_sent_the_line_says_what_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = opened(monkeypatch)
    screen = Screen(SCENARIO)

    screen.tick(recorder(seconds=2, under_way=12), 3605)
    assert terminal.shown() == "3605 s  no more is sent; waiting for 12, 0 failed"
    screen.tick(recorder(seconds=2), 3610)
    assert terminal.shown() == "3610 s  all ended, 0 failed; waiting until the app is idle"
    screen.end()
    assert terminal.shown() == ""


def test_each_reason_of_a_failure_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    result = recorder(seconds=2).result("run", NOON, "")
    result.reasons = ["p99=1s was missed: 1.14 s.", "Deliverer has 3 messages left."]

    say_outcome(result, [], Path("evening.html"))

    assert capsys.readouterr().out.splitlines()[-3:] == [
        "report     evening.html",
        "FAILED     p99=1s was missed: 1.14 s.",
        "           Deliverer has 3 messages left.",
    ]
