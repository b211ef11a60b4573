"""Which traces a role keeps, and what its spans say of where messages travel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit.config import Config
from rolekit.errors import ConfigError
from rolekit.flow.attempt import Attempt
from rolekit.model.envelope import Packet
from rolekit.model.span import SpanKind
from rolekit.observe.tracing import Live
from rolekit.store.base import Step
from rolekit.wiring.tracing import tracing_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rolekit.flow.tracing import Tracing
    from rolekit.model.span import Span

DATABASE = "postgresql://db:5433/shop"


def tracing(values: Mapping[str, str], *, broker: str = "", spans: list[Span]) -> Tracing:
    config = Config(app="a:b", database=DATABASE, broker=broker, traces=0.25)
    made = tracing_of(config, values, spans.append, app="shop", role="R", instance="R/0")
    assert made is not None
    return made


def test_the_share_of_a_role_goes_before_that_of_all() -> None:
    shares = [
        tracing(values, spans=[]).tracer.sampling.ratio for values in ({}, {"traces": "0.75"})
    ]

    assert shares == [0.25, 0.75]


def test_a_role_may_trace_nothing() -> None:
    config = Config(app="a:b", database=DATABASE, traces=1)
    off = {"traces": "off"}

    found = tracing_of(config, off, lambda _: None, app="shop", role="R", instance="R/0")

    assert found is None


def test_a_share_of_a_role_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="traces of a role"):
        tracing({"traces": "2"}, spans=[])


@pytest.mark.parametrize(
    ("broker", "system", "name"),
    [
        pytest.param("amqp://broker", "rabbitmq", "shop.Work.do", id="RabbitMQ"),
        pytest.param("", "postgresql", "Work.do", id="Postgres"),
    ],
)
def test_a_send_says_what_carries_it_and_where_to(broker: str, system: str, name: str) -> None:
    spans: list[Span] = []
    made = tracing({"traces": "1"}, broker=broker, spans=spans)
    _, sending = made.entering({})
    assert sending is not None

    made.sent(sending, [Packet(queue="Work.do", id="7", head=b"", body=b"")], "7")

    (span,) = spans
    assert (span.name, span.kind) == ("send Work.do", SpanKind.PRODUCER)
    assert span.attributes["messaging.system"] == system
    assert span.attributes["messaging.destination.name"] == name
    assert span.attributes["messaging.destination.template"] == "Work.do"
    assert span.attributes["messaging.client.id"] == "R/0"
    where = (span.attributes["server.address"], span.attributes["server.port"])
    assert where == (("broker", 5672) if broker else ("db", 5433))
    key = span.attributes.get("messaging.rabbitmq.destination.routing_key")
    assert key == (name if broker else None)


@pytest.mark.parametrize(
    ("steps", "more"),
    [
        pytest.param(1, {}, id="one is no batch"),
        pytest.param(3, {"db.operation.batch.size": 3}, id="a batch"),
    ],
)
def test_a_commit_says_what_it_wrote_to(steps: int, more: dict[str, int]) -> None:
    spans: list[Span] = []
    made = tracing({"traces": "1"}, spans=spans)
    process = Live(made.tracer, "process Work.do", SpanKind.CONSUMER, trace="7" * 32)
    step = Step(id="07" * 16, generation=0, birth_ms=0, trace=Attempt(made, process))

    made.committed([step] * steps, 1)

    assert spans[-1].attributes == {
        "db.system.name": "postgresql",
        "db.operation.name": "COMMIT",
        "db.namespace": "shop|rolekit_shop",
        "server.address": "db",
        "server.port": 5433,
        **more,
    }
