"""Settings of single handlers: they change numbers, and refuse what they cannot change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit import App, Backoff, Circuit, Message, Rate, WorkerRole, handle
from rolekit.config import load
from rolekit.errors import ConfigError
from rolekit.wiring.parts import settled

if TYPE_CHECKING:
    from pathlib import Path


class Charge(Message):
    """To be charged."""

    card: str


class Refund(Message):
    """To be given back."""

    card: str


class Payments(WorkerRole):
    """Has policies of each kind."""

    @handle(
        retry=Backoff(on=OSError, attempts=3),
        circuit=Circuit(pause_s=5),
        rate=Rate(10, key="card"),
    )
    async def charge(self, charge: Charge) -> None:
        """Do nothing."""

    @handle(retry=[Backoff(on=OSError), Backoff(attempts=2)], rate=Rate(1, name="bank"))
    async def refund(self, refund: Refund) -> None:
        """Do nothing."""


class Ordered(WorkerRole):
    """Has a key."""

    @handle(key="card")
    async def count(self, charge: Charge) -> None:
        """Do nothing."""


app = App("settled", roles=[Payments, Ordered])


def test_a_setting_changes_the_numbers_it_names_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "rolekit.toml").write_text(
        """
        [handlers."Payments.charge"]
        timeout_s = 45
        retry = {attempts = 8}
        rate = {limit = 2.5}
        circuit = {pause_s = 60, at_least = 3}
        """
    )

    config = load({}, folder=tmp_path, settings=["Payments.charge.timeout_s=50"])
    charge = settled(app.plan(), config).handlers["Payments.charge"]

    assert charge.timeout_s == 50
    assert charge.retry == (Backoff(on=OSError, attempts=8),)
    assert charge.rates == (Rate(2.5, key="card"),)
    assert charge.circuit == Circuit(pause_s=60, at_least=3)
    assert config.sources["handlers.Payments.charge.timeout_s"] == "--set"


def test_a_policy_that_the_code_does_not_have_is_made(tmp_path: Path) -> None:
    config = load({}, folder=tmp_path, settings=['Payments.refund.circuit={"failures": 0.9}'])

    refund = settled(app.plan(), config).handlers["Payments.refund"]

    assert refund.circuit == Circuit(failures=0.9)


def test_a_process_that_is_started_reads_the_same_settings(tmp_path: Path) -> None:
    given = load({}, folder=tmp_path, settings=["Payments.charge.timeout_s=50"])

    read = load(given.environment(), folder=tmp_path)

    assert read.handlers == given.handlers
    assert settled(app.plan(), read).handlers["Payments.charge"].timeout_s == 50


def test_limits_can_be_set_where_messages_have_an_order_too(tmp_path: Path) -> None:
    settings = ['Ordered.count.rate={"limit": 3}', 'Ordered.count.circuit={"pause_s": 3}']
    config = load({}, folder=tmp_path, settings=settings)

    count = settled(app.plan(), config).handlers["Ordered.count"]

    assert (count.rates, count.circuit) == ((Rate(3),), Circuit(pause_s=3))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("Payments.chrge.timeout_s=5", "Did you mean Payments.charge?"),
        ("Payments.charge.timeout=5", "Did you mean timeout_s?"),
        ("Payments.charge.timeout_s=soon", "seconds, more than 0"),
        ("Payments.charge.timeout_s=0", "seconds, more than 0"),
        ("Payments.charge.retry=5", "a table of numbers is expected"),
        ('Payments.charge.retry={"tries": 5}', "there is no such number"),
        ('Payments.charge.retry={"attempts": 2.5}', "a whole number is expected"),
        ('Payments.charge.retry={"attempts": 0}', "attempts must be 1 or more"),
        ('Payments.refund.retry={"attempts": 3}', "the code has 2 policies"),
        ('Payments.refund.rate={"limit": 3}', "shared by name"),
    ],
)
def test_what_cannot_be_set_is_refused_with_a_sentence(
    setting: str, said: str, tmp_path: Path
) -> None:
    config = load({}, folder=tmp_path, settings=[setting])

    with pytest.raises(ConfigError, match=r"handler") as refused:
        settled(app.plan(), config)

    assert said in str(refused.value)


def test_a_rate_needs_its_limit(tmp_path: Path) -> None:
    class Alone(WorkerRole):
        @handle
        async def refund(self, refund: Refund) -> None:
            """Do nothing."""

    config = load({}, folder=tmp_path, settings=['Alone.refund.rate={"per_s": 3}'])

    with pytest.raises(ConfigError, match="lacks a number"):
        settled(App("alone", roles=[Alone]).plan(), config)
