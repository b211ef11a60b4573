"""Spans to a collector: as they are, and never in the way when nobody takes them."""

from __future__ import annotations

import importlib
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.trace.export import SpanExportResult
from structlog.testing import capture_logs

from rolekit.errors import ConfigError
from rolekit.model.span import Span, SpanKind
from rolekit.observe import otlp, otlp_metrics
from rolekit.observe.otlp import OtlpExport, export_of, exporter
from tests.otlp_receiver import receiving
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from rolekit.model.sample import Sample


def span(n: int = 1) -> Span:
    return Span(
        trace="ab" * 16,
        id=f"{n:016x}",
        parent="cd" * 8,
        name="process Worker.work",
        kind=SpanKind.CONSUMER,
        begun_ns=1_000_000_000,
        ended_ns=3_000_000_000,
        role="Worker",
        instance="Worker/0",
        error="ValueError",
        detail="no",
        attributes={"messaging.system": "rabbitmq", "rolekit.attempt": 2},
        links=(("ab" * 16, "ef" * 8),),
    )


def wait(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 15
    while not is_so():
        assert time.monotonic() < until, "not so in 15 s"
        time.sleep(0.02)


@pytest.mark.parametrize("way", ["http", "grpc"])
def test_a_receiver_gets_spans_as_they_are(way: str) -> None:
    with receiving(way) as (receiver, url):
        export = export_of(url, {"OTEL_EXPORTER_OTLP_PROTOCOL": way}, "shop")
        assert export is not None
        export.offer(span())
        wait(lambda: bool(receiver.spans))
        export.close()

    (got,) = receiver.spans
    assert (got.service, got.trace, got.id, got.parent) == (
        "shop", "ab" * 16, "0" * 15 + "1", "cd" * 8,
    )  # fmt: skip
    assert (got.name, got.kind, got.error) == ("process Worker.work", 5, True)
    assert got.ended_ns - got.begun_ns == 2_000_000_000
    assert got.attributes["rolekit.attempt"] == 2
    assert got.attributes["error.type"] == "ValueError"
    assert got.links == [("ab" * 16, "ef" * 8)]


def test_a_collector_that_is_down_costs_nothing_and_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(otlp, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(otlp, "EVERY_S", 0.01)
    with capture_logs() as lines:
        export = export_of("http://127.0.0.1:9", {}, "shop")
        assert export is not None
        began_s = time.perf_counter()
        for n in range(1000):
            export.offer(span(n + 1))
        took_s = time.perf_counter() - began_s
        wait(lambda: export.dropped >= 1000)
        export.offer(span())
        wait(lambda: export.dropped >= 1001)
        export.close(2)

    assert took_s < patient(0.5)
    assert [line["log_level"] for line in lines] == ["warning"]


class Stuck:
    """Sends nothing until it may."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.got: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan], /) -> SpanExportResult:
        self.may.wait(10)
        self.got += spans
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.may.set()


def test_what_waits_for_a_slow_collector_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "WAITING", 100)
    monkeypatch.setattr(otlp, "EVERY_S", 0.01)
    stuck = Stuck()
    with capture_logs() as lines:
        export = OtlpExport(stuck, "shop")
        for n in range(1000):
            export.offer(span(n + 1))
        stuck.may.set()
        wait(lambda: export.sent + export.dropped == 1000)
        export.close()

    assert 100 <= export.sent < 1000
    assert stuck.got[-1].context is not None
    assert stuck.got[-1].context.span_id == 1000  # the newest are kept
    assert [line["log_level"] for line in lines] == ["warning", "info"]


@pytest.mark.anyio
async def test_numbers_of_two_supervisors_of_an_app_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    told: list[dict[str, Any]] = []

    class Taker:
        def export(self, metrics_data: MetricsData, /) -> MetricExportResult:
            (one,) = metrics_data.resource_metrics
            told.append(dict(one.resource.attributes))
            return MetricExportResult.SUCCESS

    async def read() -> list[Sample]:
        return []

    for _ in range(2):
        with anyio.move_on_after(15):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(otlp_metrics.push, Taker(), "shop", read, 0.001)
                before = len(told)
                while len(told) < before + 2:  # noqa: ASYNC110 - a thread takes them
                    await anyio.sleep(0.001)
                tasks.cancel_scope.cancel()

    ids = [one["service.instance.id"] for one in told]
    assert len(set(ids)) == 2
    assert ids[0] == ids[1], "the same as long as it runs"
    assert {one["service.name"] for one in told} == {"shop"}
    assert {one["deployment.environment"] for one in told} == {"test"}


def test_a_resource_is_named_as_it_was_told_whatever_the_sdk_makes_up() -> None:
    attributes = otlp.resource_of("shop", {"service.instance.id": "Worker/0"}).attributes

    assert attributes["service.name"] == "shop"
    assert attributes["service.instance.id"] == "Worker/0"
    assert attributes["telemetry.sdk.language"] == "python"


def test_what_the_operator_says_of_the_service_goes_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop-eu")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=host-7")

    attributes = otlp.resource_of("shop", {"service.instance.id": "x"}).attributes

    assert attributes["service.name"] == "shop-eu"
    assert attributes["service.instance.id"] == "host-7"


def test_without_a_collector_there_is_no_exporter() -> None:
    assert exporter("", {}) is None
    assert exporter("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}) is not None


def test_a_url_that_is_none_gets_a_sentence() -> None:
    with pytest.raises(ConfigError, match="http://collector:4318 is expected"):
        exporter("collector:4318", {})


def test_an_extra_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)

    with pytest.raises(ConfigError, match=r"rolekit\[otlp\]"):
        exporter("http://127.0.0.1:4318", {})
