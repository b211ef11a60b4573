"""RabbitMQ takes back what is held too long: handlers that would are refused at the start."""

from __future__ import annotations

import asyncio

import pytest

from rolekit import App, Message, WorkerRole, handle
from rolekit.cli.ground import _migrate  # pyright: ignore[reportPrivateUsage]
from rolekit.cli.main import run
from rolekit.config import Config
from rolekit.errors import ConfigError
from rolekit.supervisor.describe import examine
from rolekit.supervisor.wire import Described
from rolekit.wiring.parts import settled

RABBIT = "amqp://mq/"
POSTGRES = "postgresql://db/app"


class Film(Message):
    """To be cut."""


class Cutter(WorkerRole):
    """Takes its time."""

    @handle(timeout_s=1500)
    async def cut(self, film: Film) -> None:
        """Do nothing."""


app = App("films", roles=[Cutter])


def config_of(broker: str, timeout_s: float) -> Config:
    return Config(broker=broker, handlers={"Cutter.cut": {"timeout_s": str(timeout_s)}})


def test_on_rabbitmq_a_call_may_take_25_minutes_and_no_longer() -> None:
    plan = settled(app.plan(), Config(broker=RABBIT))

    with pytest.raises(ConfigError, match=r"Cutter.cut may take 1501 s .* 1800 s") as refused:
        settled(app.plan(), config_of(RABBIT, 1501))

    assert plan.handlers["Cutter.cut"].timeout_s == 1500
    for remedy in ("smaller timeout_s", "split", "Postgres", "ROLEKIT_CONSUMER_TIMEOUT_S"):
        assert remedy in str(refused.value.fix)


@pytest.mark.parametrize("broker", ["", POSTGRES])
def test_where_queues_are_in_postgres_a_call_may_take_hours(broker: str) -> None:
    plan = settled(app.plan(), config_of(broker, 36_000))

    assert plan.handlers["Cutter.cut"].timeout_s == 36_000


def test_a_broker_that_waits_longer_is_believed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLEKIT_CONSUMER_TIMEOUT_S", "7200")

    settled(app.plan(), config_of(RABBIT, 6000))
    with pytest.raises(ConfigError, match=r"6001 s .* 7200 s .* 6000 s there at most"):
        settled(app.plan(), config_of(RABBIT, 6001))


@pytest.mark.parametrize("text", ["soon", "0", "-5", "nan", "inf"])
def test_what_is_no_time_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ROLEKIT_CONSUMER_TIMEOUT_S", text)

    with pytest.raises(ConfigError, match="ROLEKIT_CONSUMER_TIMEOUT_S is"):
        settled(app.plan(), Config(broker=RABBIT))


def test_check_says_so_without_a_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROLEKIT_CONSUMER_TIMEOUT_S", "1200")
    sets = [f"--set=broker={RABBIT}", f"--set=database={POSTGRES}"]

    code = run(["check", f"{__name__}:app", *sets])

    assert code == 2
    assert "Cutter.cut may take 1500 s" in capsys.readouterr().err


def test_a_supervisor_says_so_before_anything_starts() -> None:
    found = examine(f"{__name__}:app")
    assert isinstance(found, Described)

    with pytest.raises(ConfigError, match=r"Cutter.cut may take 1501 s"):
        asyncio.run(_migrate(config_of(RABBIT, 1501), found))
