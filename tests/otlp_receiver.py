"""A real OTLP receiver, which nobody here wrote: `oteltest` from PyPI, over HTTP and gRPC."""

from __future__ import annotations

import contextlib
import importlib
import logging
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator


@dataclass(frozen=True, slots=True)
class Got:
    """A span as it came.

    Attributes:
        service: Name of the service it is of.
        attributes: By name; numbers as numbers.
    """

    service: str
    trace: str
    id: str
    parent: str
    name: str
    kind: int
    error: bool
    begun_ns: int
    ended_ns: int
    attributes: dict[str, object]
    links: list[tuple[str, str]]


class Receiver:
    """What was received."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: list[Got] = []
        self.metrics: set[str] = set()

    @property
    def spans(self) -> list[Got]:
        """All spans so far, in the order in which they came."""
        with self._lock:
            return list(self._spans)

    def handle_trace(self, request: Any, headers: object) -> None:  # noqa: ANN401 - protobuf
        for resource in request.resource_spans:
            service = _values(resource.resource.attributes).get("service.name", "")
            for scope in resource.scope_spans:
                with self._lock:
                    self._spans += [_got(str(service), span) for span in scope.spans]

    def handle_metrics(self, request: Any, headers: object) -> None:  # noqa: ANN401 - likewise
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                with self._lock:
                    self.metrics |= {metric.name for metric in scope.metrics}

    def handle_logs(self, request: object, headers: object) -> None: ...


def _got(service: str, span: Any) -> Got:  # noqa: ANN401 - likewise
    return Got(
        service=service,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        name=span.name,
        kind=span.kind,
        error=span.status.code == 2,
        begun_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        attributes=_values(span.attributes),
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
    )


def _values(attributes: Any) -> dict[str, object]:  # noqa: ANN401 - likewise
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextlib.contextmanager
def receiving(way: str = "http") -> Generator[tuple[Receiver, str]]:
    """Receive inside the block, at the URL that comes with it."""
    receiver, port, log = Receiver(), _free_port(), logging.getLogger("otlp receiver")
    sinks: Any = importlib.import_module("oteltest.sink")  # it has no types
    sink = (sinks.HttpSink if way == "http" else sinks.GrpcSink)(receiver, log, port=port)
    sink.start()
    try:
        yield receiver, f"http://127.0.0.1:{port}"
    finally:
        sink.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
