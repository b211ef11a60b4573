"""Scenarios: what they say, and the line and field of what they say wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit.errors import ConfigError
from rolekit.load.arrivals import Poisson, Ramp
from rolekit.load.objectives import objective
from rolekit.load.reading import parse, read
from rolekit.load.scenario import Http, Scenario, Smtp, changed

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """\
name = "mail"
for_s = 30
seed = 7

[entry]
kind = "http"
url = "http://127.0.0.1:8000/mail?n=$n"
method = "POST"
body_file = "letter"

[arrival]
law = "ramp"
from = 10
to = 100

[objectives]
p99 = "250ms"

[[chaos]]
at_s = 10
kill = "Deliverer"

[[chaos]]
at_s = 12.5
every_s = 3
command = ["true"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "letter").write_bytes(b"Subject: x\r\n\r\n")
    return tmp_path


def test_a_scenario_is_read_with_files_beside_it(folder: Path) -> None:
    (folder / "mail.toml").write_text(GOOD, encoding="utf-8")

    scenario = read(folder / "mail.toml")

    assert scenario.arrival == Ramp(start=10, end=100)
    assert isinstance(scenario.entry, Http)
    assert scenario.entry.body_file == str(folder / "letter")
    assert [one.name for one in scenario.wanted] == ["p99"]
    assert [chaos.text for chaos in scenario.chaos] == ["kill -9 Deliverer", "true"]


def test_a_share_of_traces_is_refused_where_a_request_cannot_start_one(folder: Path) -> None:
    text = """
trace = 0.1
entry = {kind = "smtp", at = "a:25", sender = "x@a", recipients = ["y@a"], body_file = ""}
arrival = {law = "poisson", rate = 5}
"""

    with pytest.raises(ConfigError, match="line 2, trace: a mail has no header that starts"):
        parse(text, "mail.toml", folder)

    assert parse(text.replace("0.1", "0"), "mail.toml", folder).trace == 0


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("for_s = 30", "for_s = 0", "mail.toml, line 2, for_s: 0 is not above 0"),
        ("for_s = 30", 'for_s = "30"', "mail.toml, line 2, for_s: expected"),
        ("seed = 7", "sead = 7", "line 3, sead: nobody knows this. Did you mean seed?"),
        ("seed = 7", "warm_up_s = 30", "line 3, warm_up_s: 30 s leave nothing of 30 s"),
        ("seed = 7", "trace = 2", "line 3, trace: 2 is not a share"),
        ('kind = "http"', 'kind = "htp"', "line 6, entry.kind: .*Did you mean http?"),
        ("url = ", "uri = ", "line 7, entry.uri: nobody knows this. Did you mean url?"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", "line 7, entry.url: .* is no URL"),
        ('"letter"', '"lettre"', "line 9, entry.body_file: there is nothing at"),
        ('law = "ramp"', 'law = "lamp"', "line 12, arrival.law: .*Did you mean ramp?"),
        ("from = 10\n", "", "line 11, arrival: from is missing"),
        (
            "from = 10",
            "form = 10",
            "line 13, arrival.form: nobody knows this. Did you mean from?",
        ),
        ("from = 10", "from = -1", "line 13, arrival.from: a ramp goes"),
        ('"250ms"', '"250"', "line 17, objectives.p99: .*Write p99=250ms"),
        ('kill = "Deliverer"', "", "line 19, chaos.0.: exactly one thing happens"),
        ("every_s = 3", "evry_s = 3", "line 25, chaos.1..evry_s: .*Did you mean every_s?"),
        ("[entry]", "[entry", "mail.toml is not TOML: .*line 5"),
    ],
)
def test_what_cannot_be_used_is_named_with_line_and_field(
    folder: Path, before: str, after: str, said: str
) -> None:
    assert before in GOOD

    with pytest.raises(ConfigError, match=said):
        parse(GOOD.replace(before, after, 1), "mail.toml", folder)


def test_a_scenario_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read(tmp_path / "none.toml")


def test_the_command_line_goes_before_the_file() -> None:
    scenario = Scenario(
        entry=Http(url="http://a:1/b?c=$n"),
        arrival=Poisson(rate=5),
        objectives={"p99": "1s", "max": "2s"},
    )

    found = changed(
        scenario, rate=9, for_s=3, url="https://other/", objectives=["p99 = 20ms", "rate=5"]
    )

    assert found.arrival == Poisson(rate=9)
    assert found.for_s == 3
    assert isinstance(found.entry, Http)
    assert found.entry.url == "https://other/b?c=$n"
    assert found.objectives == {"p99": "20ms", "max": "2s", "rate": "5"}


@pytest.mark.parametrize(
    ("scenario", "url", "rate", "for_s", "said"),
    [
        (Ramp(start=1, end=2), "", 5.0, 0.0, "The law 'ramp' has no single rate"),
        (Poisson(rate=1), "x:25", 0.0, 0.0, "'x:25' is nowhere an entry of kind 'http'"),
        (Poisson(rate=1), "", 0.0, 2.0, "are over before the warm-up"),
    ],
)
def test_what_the_command_line_cannot_say_is_refused(
    scenario: Poisson | Ramp, url: str, rate: float, for_s: float, said: str
) -> None:
    made = Scenario(entry=Http(url="http://a/"), arrival=scenario, warm_up_s=2)

    with pytest.raises(ConfigError, match=said):
        changed(made, rate=rate, for_s=for_s, url=url)


def test_mail_goes_to_a_host_and_port() -> None:
    entry = Smtp(at="a:25", sender="x", recipients=("y",), body_file="")
    made = Scenario(entry=entry, arrival=Poisson(rate=1))

    found = changed(made, url="b:2525").entry

    assert isinstance(found, Smtp)
    assert found.at == "b:2525"


@pytest.mark.parametrize(
    ("text", "name", "bound"),
    [
        ("p99=250ms", "p99", 250_000),
        ("p99.9 = 2s", "p99.9", 2_000_000),
        ("max=900us", "max", 900),
        ("errors=0.5%", "errors", 0.005),
        ("errors=0", "errors", 0),
        ("rate=950", "rate", 950),
    ],
)
def test_objectives_are_read(text: str, name: str, bound: float) -> None:
    found = objective(text)

    assert found.name == name
    assert found.bound == pytest.approx(bound)


@pytest.mark.parametrize(
    "text", ["p99", "p99=250", "fast=1s", "p99=-1ms", "rate=5ms", "p100=1s"]
)
def test_an_objective_that_cannot_be_read_comes_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="is not an objective") as refused:
        objective(text)

    assert "p99=250ms" in refused.value.fix
