"""Numbers to a collector, over OTLP: all of them, each time; what does not arrive is no loss.

Sums count from when this process began to send, so a collector can tell a restart.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from typing import TYPE_CHECKING, Any, Protocol, cast
from uuid import uuid4

import structlog
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from rolekit.model.sample import METRICS
from rolekit.observe.otlp import resource_of, way_to

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from opentelemetry.sdk.resources import Resource

    from rolekit.model.sample import Sample

log = structlog.get_logger("rolekit.metrics")

EVERY_S = 10.0
INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_CUMULATIVE = AggregationTemporality.CUMULATIVE
_SCOPE = InstrumentationScope("rolekit")


class Sends(Protocol):
    """What is needed of an exporter of OpenTelemetry's."""

    def export(self, metrics_data: MetricsData, /) -> MetricExportResult:
        """Send; may block, and may raise."""
        ...


async def push(
    exporter: Sends, app: str, read: Callable[[], Awaitable[Sequence[Sample]]], every_s: float
) -> None:
    """Send all numbers again and again, until cancelled; that a collector is away is said once.

    Args:
        exporter: Sends.
        app: Name of the service.
        read: Gives the numbers.
        every_s: Pause between two times.
    """
    # Supervisors of one app count for themselves: without a name of their own, what one of
    # them says would take the place of what another said.
    me = {"service.instance.id": str(uuid4())}
    resource = await asyncio.to_thread(resource_of, app, me)  # asks this machine, in threads
    began_ns, is_away = time.time_ns(), False
    while True:
        await asyncio.sleep(every_s)
        try:
            data = _data(await read(), resource, began_ns)
            result = await asyncio.to_thread(exporter.export, data)
            error = "" if result is MetricExportResult.SUCCESS else "it did not take them"
        except Exception as failed:  # noqa: BLE001 - a collector is no reason for anything to end
            error = f"{type(failed).__name__}: {failed}"
        if error and not is_away:
            log.warning(
                "numbers do not reach the collector; they will when it is back", why=error
            )
        is_away = bool(error)


def metric_exporter(url: str, environ: Mapping[str, str]) -> Sends | None:
    """Make what sends numbers to a collector; None where nothing names one.

    Raises:
        ConfigError: As for spans.
    """
    found = way_to("metric", url, environ)
    if found is None:
        return None
    module, options = found
    return cast("Sends", importlib.import_module(module).OTLPMetricExporter(**options))


def every_s(environ: Mapping[str, str]) -> float:
    """Say how often numbers are sent."""
    text = environ.get(INTERVAL, "")
    return int(text) / 1000 if text.isdigit() and int(text) else EVERY_S


def _data(samples: Sequence[Sample], resource: Resource, began_ns: int) -> MetricsData:
    now_ns = time.time_ns()
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)
    metrics = [
        Metric(
            name=name,
            description=METRICS[name].help,
            unit=METRICS[name].unit,
            data=_points(name, some, began_ns, now_ns),
        )
        for name, some in by_name.items()
    ]
    scope = ScopeMetrics(scope=_SCOPE, metrics=metrics, schema_url="")
    return MetricsData(
        [ResourceMetrics(resource=resource, scope_metrics=[scope], schema_url="")]
    )


def _attributes(sample: Sample) -> dict[str, str | int]:
    """Return its labels; a port is a number, where labels know text only."""
    return {
        name: int(value) if name == "server.port" else value for name, value in sample.labels
    }


def _points(
    name: str, samples: Sequence[Sample], began_ns: int, now_ns: int
) -> Sum | Gauge | Histogram:
    metric = METRICS[name]
    if metric.kind == "histogram":
        return Histogram(
            data_points=[
                HistogramDataPoint(
                    attributes=_attributes(one),
                    start_time_unix_nano=began_ns,
                    time_unix_nano=now_ns,
                    count=sum(one.counts),
                    sum=one.value,
                    bucket_counts=list(one.counts),
                    explicit_bounds=list(metric.bounds),
                    min=cast("Any", None),
                    max=cast("Any", None),
                )
                for one in samples
            ],
            aggregation_temporality=_CUMULATIVE,
        )
    points = [
        NumberDataPoint(
            attributes=_attributes(one),
            start_time_unix_nano=began_ns,
            time_unix_nano=now_ns,
            value=one.value,
        )
        for one in samples
    ]
    if metric.kind == "counter":
        return Sum(data_points=points, aggregation_temporality=_CUMULATIVE, is_monotonic=True)
    return Gauge(data_points=points)
