"""The queues of partitions: on the broker, and in what `rolekit ps` and `topology` look at."""

from __future__ import annotations

from typing import Any

import pytest

from rolekit.supervisor.describe import describe
from rolekit.transport.rabbitmq.lint import lint
from rolekit.transport.rabbitmq.topology import NO_LIMIT, Names
from tests.unit.keyed_programs import bank


def test_a_partition_has_one_consumer_at_a_time_and_is_never_given_up() -> None:
    queue = Names("bank").queue("Accounts~k03")

    assert queue.name == "bank.Accounts@k03"
    assert queue.arguments["x-single-active-consumer"] is True
    assert queue.arguments["x-delivery-limit"] == NO_LIMIT
    assert lint(queue) == []


def test_it_has_one_consumer_at_a_time_on_classic_queues_too() -> None:
    queue = Names("bank", "classic").queue("Accounts~k03")

    assert queue.arguments == {"x-queue-type": "classic", "x-single-active-consumer": True}


def test_other_queues_have_as_many_consumers_as_come() -> None:
    assert "x-single-active-consumer" not in Names("bank").queue("Accounts.put").arguments


@pytest.mark.parametrize("queue", ["Accounts~k03", "Accounts.put", "~dead", "Rôle~k117"])
def test_the_name_on_the_broker_leads_back_to_the_queue(queue: str) -> None:
    names = Names("bank")

    assert names.back(f"bank.{queue.replace('~', '@')}") == queue


def test_a_supervisor_is_told_of_partitions_beside_handlers() -> None:
    app: Any = bank  # as a supervisor sees it: by the few attributes it reads

    described = describe(app)

    (role,) = described.roles
    assert role.handlers == ("Accounts.put", "Accounts.skip", "Accounts.take", "Accounts.ask")
    assert described.queues == [f"Accounts~k0{number}" for number in range(4)]
    assert described.partitions == {"Accounts": 4}
