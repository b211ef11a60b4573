"""Spans to a collector, over OTLP: from a thread, bounded, and never in the way.

What cannot be sent is counted, and said once when that begins and once when it is over. The
exporter is that of OpenTelemetry; it is an extra, `rolekit[otlp]`.

Call `exporter` after every fork: a thread does not survive one.
"""

from __future__ import annotations

import importlib
import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import structlog
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from rolekit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolekit.model.span import Span

log = structlog.get_logger("rolekit.traces")

WAITING = 20_000
"""So many spans wait to be sent; the oldest go first beyond."""
BATCH = 512
EVERY_S = 0.5
TIMEOUT_S = 5.0
GRPC_PORT = ":4317"
_ALL = "OTEL_EXPORTER_OTLP_"
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope("rolekit")
_KINDS = (SpanKind.INTERNAL, SpanKind.SERVER, SpanKind.CLIENT, SpanKind.PRODUCER,
          SpanKind.CONSUMER)  # fmt: skip
_FIX = "pip install 'rolekit[otlp]', or leave ROLEKIT_OTLP and OTEL_EXPORTER_OTLP_* out."


class Sends(Protocol):
    """What `OtlpExport` needs of an exporter of OpenTelemetry's."""

    def export(self, spans: Sequence[ReadableSpan], /) -> SpanExportResult:
        """Send some; may block, and may raise."""
        ...

    def shutdown(self) -> None:
        """Give up what is being sent."""
        ...


class OtlpExport:
    """Sends spans from a thread of its own.

    Args:
        exporter: Sends.
        app: Name of the service.
        resource: More that is true of all spans.
    """

    def __init__(
        self, exporter: Sends, app: str, resource: Mapping[str, str] | None = None
    ) -> None:
        self._exporter = exporter
        self._app = app
        self._more = dict(resource or {})
        self._resources: dict[str, Resource] = {}
        self._waiting: deque[Span] = deque()
        self._wake = threading.Event()
        self._is_closed = False
        self._is_away = False
        self.dropped = 0
        self.sent = 0
        self._thread = threading.Thread(target=self._run, name="rolekit otlp", daemon=True)
        self._thread.start()

    def offer(self, span: Span) -> None:
        """Take a span that ended; the oldest is dropped where too many wait."""
        if len(self._waiting) >= WAITING:
            self._drop(1)
            self._waiting.popleft()
        self._waiting.append(span)
        if len(self._waiting) >= BATCH:
            self._wake.set()

    def close(self, within_s: float = TIMEOUT_S) -> None:
        """Send what waits, but not for long, and end the thread."""
        self._is_closed = True
        self._wake.set()
        self._thread.join(within_s)
        self._exporter.shutdown()

    def _run(self) -> None:
        while True:
            self._wake.wait(EVERY_S)
            self._wake.clear()
            while self._waiting:
                count = min(BATCH, len(self._waiting))
                # Only `offer` takes from the same end, where all is full: one may be missed.
                some = [self._waiting.popleft() for _ in range(count)]
                self._send(some)
                if self._is_away and self._is_closed:
                    return
            if self._is_closed:
                return

    def _send(self, some: Sequence[Span]) -> None:
        try:
            result = self._exporter.export([self._readable(span) for span in some])
            error = "" if result is SpanExportResult.SUCCESS else "it did not take them"
        except Exception as failed:  # noqa: BLE001 - a collector is no reason for anything to end
            error = f"{type(failed).__name__}: {failed}"
        if error:
            self._drop(len(some), error)
        else:
            self.sent += len(some)
            if self._is_away:
                log.info("the collector takes spans again", dropped=self.dropped)
            self._is_away = False

    def _drop(self, count: int, why: str = "too many wait") -> None:
        self.dropped += count
        if not self._is_away:
            log.warning(
                "spans do not reach the collector; they are dropped and counted until they do",
                why=why,
            )
        self._is_away = True

    def _readable(self, span: Span) -> ReadableSpan:
        trace = int(span.trace, 16)

        def context(trace_id: int, id_: str) -> SpanContext:
            return SpanContext(trace_id, int(id_, 16), is_remote=False, trace_flags=_SAMPLED)

        attributes: dict[str, Any] = dict(span.attributes)
        if span.error:
            attributes["error.type"] = span.error
        status = Status(StatusCode.ERROR, span.detail or None) if span.error else Status()
        return ReadableSpan(
            name=span.name,
            context=context(trace, span.id),
            parent=context(trace, span.parent) if span.parent else None,
            resource=self._resource(span),
            attributes=attributes,
            links=[Link(context(int(of, 16), id_)) for of, id_ in span.links],
            kind=_KINDS[span.kind - 1],
            status=status,
            start_time=span.begun_ns,
            end_time=span.ended_ns,
            instrumentation_scope=_SCOPE,
        )

    def _resource(self, span: Span) -> Resource:
        found = self._resources.get(span.instance)
        if found is None:
            if len(self._resources) > WAITING:
                self._resources.clear()
            said = {"service.instance.id": span.instance, "rolekit.role": span.role}
            found = resource_of(self._app, said | self._more)
            self._resources[span.instance] = found
        return found


def resource_of(app: str, more: Mapping[str, str]) -> Resource:
    """Say whose spans or numbers these are.

    Last wins what OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say: that is the operator's.
    What the SDK makes up, such as an instance of its own, is only for what nobody named.
    """
    sdk, operator = Resource.create(), OTELResourceDetector().detect()
    named = {"service.name": app, **more}
    return Resource({**sdk.attributes, **named, **operator.attributes})


def exporter(url: str, environ: Mapping[str, str]) -> SpanExporter | None:
    """Make what sends spans to a collector; None where nothing names one.

    Raises:
        ConfigError: As `way_to`.
    """
    found = way_to("trace", url, environ)
    if found is None:
        return None
    module, options = found
    return cast("SpanExporter", importlib.import_module(module).OTLPSpanExporter(**options))


def way_to(
    signal: Literal["trace", "metric"], url: str, environ: Mapping[str, str]
) -> tuple[str, dict[str, Any]] | None:
    """Say which exporter sends to a collector, and with which options.

    Args:
        signal: What is sent.
        url: Of the collector, as in "http://collector:4318"; with port 4317 it is gRPC. Empty:
            as OTEL_EXPORTER_OTLP_ENDPOINT and its kin say.
        environ: The environment.

    Returns:
        Its module and options; None where nothing names a collector.

    Raises:
        ConfigError: The extra is not installed, or the URL is none.
    """
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}S_"
    if not url and not any(environ.get(f"{kin}ENDPOINT") for kin in (own, _ALL)):
        return None
    if url and not url.startswith(("http://", "https://")):
        raise ConfigError(
            f"otlp is {url!r}; a URL such as http://collector:4318 is expected.",
            fix="Correct ROLEKIT_OTLP; port 4318 is OTLP over HTTP, 4317 over gRPC.",
        )
    named = environ.get(f"{own}PROTOCOL") or environ.get(f"{_ALL}PROTOCOL", "")
    is_grpc = named == "grpc" or (not named and url.rstrip("/").endswith(GRPC_PORT))
    module = f"opentelemetry.exporter.otlp.proto.{'grpc' if is_grpc else 'http'}"
    try:
        importlib.import_module(f"{module}.{signal}_exporter")
    except ImportError as error:
        raise ConfigError(
            "A collector is named, and what sends to it is not installed.", fix=_FIX
        ) from error
    options: dict[str, Any] = {"timeout": TIMEOUT_S}
    if url:
        base = url.rstrip("/")
        options["endpoint"] = base if is_grpc else f"{base}/v1/{signal}s"
        if is_grpc:
            options["insecure"] = base.startswith("http://")
    return f"{module}.{signal}_exporter", options


def export_of(url: str, environ: Mapping[str, str], app: str) -> OtlpExport | None:
    """Begin to send to the collector that is named; None: none is.

    Raises:
        ConfigError: As `exporter`.
    """
    found = exporter(url, environ)
    if found is None:
        return None
    # It says on each attempt that it failed; here that is said once.
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
    logging.getLogger("opentelemetry.sdk").setLevel(logging.CRITICAL)
    return OtlpExport(found, app)
