"""RabbitMQ takes back what is held too long: what may take longer runs from a claim."""

from __future__ import annotations

import pytest

from rolekit import App, Message, WorkerRole, handle
from rolekit.config import Config
from rolekit.errors import ConfigError
from rolekit.wiring.holding import consumer_timeout_s, long_queues
from rolekit.wiring.parts import settled


class Film(Message):
    """To be cut."""


class Scene(Message):
    """To be joined with others of its film."""

    film: str


class Cutter(WorkerRole):
    """Takes its time."""

    @handle(timeout_s=600)
    async def cut(self, film: Film) -> None:
        """Do nothing."""

    @handle
    async def show(self, film: Film) -> None:
        """Do nothing."""


class Joiner(WorkerRole):
    """Takes more time, in order."""

    partitions = 2

    @handle(key="film", timeout_s=601)
    async def join(self, scene: Scene) -> None:
        """Do nothing."""


app = App("films", roles=[Cutter, Joiner])


def long_when(**timeouts_s: str) -> frozenset[str]:
    said = {f"Cutter.{name}": {"timeout_s": text} for name, text in timeouts_s.items()}
    return long_queues(settled(app.plan(), Config(handlers=said)))


def test_what_may_take_more_than_ten_minutes_is_long() -> None:
    shared = frozenset(app.plan().partition_queues("Joiner"))

    assert len(shared) == 2
    assert long_when() == shared
    assert long_when(cut="601") == shared | {"Cutter.cut"}
    assert long_when(cut="36000", show="601") == shared | {"Cutter.cut", "Cutter.show"}


def test_where_the_broker_has_less_patience_less_is_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROLEKIT_CONSUMER_TIMEOUT_S", "180")

    assert {"Cutter.cut", "Cutter.show"} & long_when() == {"Cutter.cut"}
    assert "Cutter.show" in long_when(show="61")


@pytest.mark.parametrize("text", ["soon", "0", "-5", "nan", "inf"])
def test_what_is_no_time_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ROLEKIT_CONSUMER_TIMEOUT_S", text)

    with pytest.raises(ConfigError, match="ROLEKIT_CONSUMER_TIMEOUT_S is"):
        consumer_timeout_s()
