"""The place in aiormq where the demultiplexer goes: looked for before anything is connected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiormq
import pytest
from aiormq.abc import DeliveredMessage
from pamqp import commands, header
from yarl import URL

from rolekit.config import load
from rolekit.errors import ConfigError
from rolekit.transport.rabbitmq import connection, seam, wire
from rolekit.transport.rabbitmq.plain import PlainSession, properties_of
from rolekit.transport.rabbitmq.session import Session
from rolekit.transport.rabbitmq.transport import RabbitTransport
from rolekit.wiring.broker import rabbit_transport

if TYPE_CHECKING:
    from pathlib import Path

    from pamqp.common import FieldTable


@pytest.fixture(autouse=True)
def looks_anew() -> None:
    """Forget that it was looked at before."""
    seam.check_seam.cache_clear()


class Other:
    """What a later aiormq might have in its place."""

    def __init__(self, url: str) -> None:
        """Connect to nothing."""

    async def create(self, url: str, timeout: float) -> None: ...  # noqa: ASYNC109 - other than ours

    def create_later(self, url: str, **kwargs: object) -> None: ...


def test_the_release_that_is_here_has_the_place() -> None:
    seam.check_seam()


@pytest.mark.parametrize("found", ["7.2.3", "7.1", "6.9.9rc1"])
def test_an_older_release_has_not(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seam, "FOUND", found)

    with pytest.raises(ConfigError, match=f"aiormq {found}: 7.2.4 or a later"):
        seam.check_seam()


@pytest.mark.parametrize("found", ["7.2.4", "7.10", "8.0.0b1"])
def test_a_later_release_has_if_it_looks_the_same(
    found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seam, "FOUND", found)

    seam.check_seam()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("aiormq.Connection", Other, "takes no transport_factory"),
        ("aiormq.connection.TransportFactory", None, "no create"),
        ("aiormq.connection.TransportFactory.create", Other.create_later, "no create"),
        ("aiormq.connection.TransportFactory.create", Other.create, "another create"),
    ],
)
async def test_another_place_is_told_before_anything_is_connected(
    name: str, value: object, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name, value)
    session = Session()

    with pytest.raises(ConfigError, match=why) as caught:
        await session.open(URL("amqp://nobody.invalid"), "test")

    assert "ROLEKIT_RABBITMQ_PLAIN=1" in caught.value.fix


@pytest.mark.parametrize(("value", "kind"), [("1", PlainSession), ("0", Session)])
def test_a_setting_does_without_it(
    value: str, kind: type[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[object] = []

    class Noted(connection.BrokerConnection):
        def __init__(
            self, address: object, name: str, file: object, session_type: type[Session]
        ) -> None:
            kinds.append(session_type)

    monkeypatch.setenv("ROLEKIT_RABBITMQ_PLAIN", value)
    monkeypatch.setattr("rolekit.transport.rabbitmq.transport.BrokerConnection", Noted)

    assert isinstance(rabbit_transport("a", "amqp://one"), RabbitTransport)
    assert kinds == [kind, kind]


def test_that_setting_is_known(tmp_path: Path) -> None:
    config = load({"ROLEKIT_RABBITMQ_PLAIN": "1"}, folder=tmp_path)

    assert not config.warnings


@pytest.mark.parametrize(
    "headers",
    [
        {"n": 5, "text": "t"},
        {"no text": b"\xff", "text": "t"},
        {"far": 1e300, "text": "t"},
        {"list": [b"\xff"], "text": "t"},
    ],
)
def test_headers_that_cannot_be_written_anew_are_left_out(headers: FieldTable) -> None:
    properties = commands.Basic.Properties(message_id="m", headers=headers)
    message = DeliveredMessage(
        delivery=commands.Basic.Deliver(),
        header=header.ContentHeader(properties=properties),
        body=b"",
        channel=aiormq.abc.AbstractChannel.__new__(aiormq.Channel),
    )

    read = wire.read_properties(properties_of(message))

    assert isinstance(read, wire.Foreign)
    assert (read.message_id, read.headers["text"]) == ("m", "t")
