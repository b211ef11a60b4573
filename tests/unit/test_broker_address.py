"""The URL of a broker: one host or several, and parameters within their ranges."""

from __future__ import annotations

from pathlib import Path

import pytest

from rolekit.errors import ConfigError
from rolekit.transport.rabbitmq.access import refusal
from rolekit.transport.rabbitmq.address import PARAMETERS, RANGES, parse_address


def test_several_hosts_share_everything_else() -> None:
    address = parse_address("amqps://me:tops3cret@one:5671,two/mail?heartbeat=5&cafile=ca.pem")

    assert [(url.host, url.port) for url in address.urls] == [("one", 5671), ("two", None)]
    assert {url.query["cafile"] for url in address.urls} == {"ca.pem"}
    assert {url.query["heartbeat"] for url in address.urls} == {"5"}
    assert address.shown == "amqps://one:5671,two/mail"


@pytest.mark.parametrize(
    ("parameter", "sentence"),
    [
        ("heartbeat=70000", "heartbeat must be 0 to 65534 seconds (0: none)."),
        ("heartbeat=-1", "heartbeat must be 0 to 65534 seconds (0: none)."),
        ("frame_max=4095", "frame_max must be 4096 to 1048576 bytes."),
        ("frame_max=all", "frame_max must be 4096 to 1048576 bytes."),
        ("cafiel=x", "there is no parameter cafiel. Did you mean cafile?"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named_with_what_can(
    parameter: str, sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_address(f"amqp://me:tops3cret@host/?{parameter}")

    assert caught.value.what == f"The broker's URL cannot be read: {sentence}"


@pytest.mark.parametrize("port", ["amqp", "99999", "-1"])
def test_no_url_shows_its_password(port: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_address(f"amqp://me:tops3cret@host:{port}/")

    assert "tops3cret" not in str(caught.value)


PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "rabbitmq.md"


def test_the_page_has_every_parameter_and_range() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert [name for name in PARAMETERS if f"`{name}`" not in page] == []
    for low, high, _ in RANGES.values():
        assert f"{low} to {high}" in page


def test_the_page_grants_what_a_refusal_asks_for() -> None:
    said = Exception("access to queue 'mail.D.d' in vhost 'mail' refused for user 'app'")

    fix = refusal(said, "read", "mail.D.d").fix

    assert fix.removeprefix("Grant it: ") in PAGE.read_text(encoding="utf-8").splitlines()
