"""The span of a request, and what goes on from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from rolekit.flow.tracing import Tracing
from rolekit.model.span import SpanKind
from rolekit.observe.tracing import Live, Sampling, Tracer, Untraced, carried, current
from rolekit.roles.http_tracing import traced

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from rolekit.model.span import Span

pytestmark = [pytest.mark.anyio]

THEIRS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Front:
    """Answers requests, each within its span, and notes what it saw inside."""

    def __init__(self, ratio: float, status: int = 200) -> None:
        sampling = Sampling(ratio=ratio, first_per_s=0)
        self.tracer = Tracer(self._ship, sampling, role="Front", instance="Front/0")
        self._status = status
        self.spans: list[Span] = []
        self.seen: list[object] = []
        self.carried: list[dict[str, str]] = []

    def _ship(self, span: Span) -> None:
        if span.ended_ns:
            self.spans.append(span)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(out: Send) -> None:
            self.seen.append(current.get())
            self.carried.append(carried.get())
            scope["rolekit.route"] = "GET /mail/{id}"
            await out({"type": "http.response.start", "status": self._status, "headers": []})
            await out({"type": "http.response.body", "body": b"ok"})

        await traced(self.tracer, scope, send, answer)

    async def get(self, path: str, headers: dict[str, str] | None = None) -> None:
        transport = httpx.ASGITransport(app=self)
        async with httpx.AsyncClient(transport=transport, base_url="http://front") as http:
            await http.get(path, headers=headers)


async def test_a_request_is_a_span_that_what_it_sends_is_below() -> None:
    front = Front(1)

    await front.get("/mail/7")

    (span,) = front.spans
    (inside,) = front.seen
    assert isinstance(inside, Live)
    assert inside.context.span == span.id
    assert (span.name, span.kind, span.parent) == ("GET /mail/{id}", SpanKind.SERVER, "")
    assert span.attributes["http.route"] == "/mail/{id}"
    assert span.attributes["http.response.status_code"] == 200
    assert current.get() is None


async def test_a_request_goes_on_with_the_trace_it_came_with() -> None:
    front = Front(0)

    await front.get("/mail/7", {"traceparent": THEIRS, "tracestate": "a=b", "baggage": "t=7"})

    (span,) = front.spans
    assert (span.trace, span.parent) == tuple(THEIRS.split("-")[1:3])
    assert front.carried == [{"tracestate": "a=b", "baggage": "t=7"}]


@pytest.mark.parametrize(
    ("path", "ratio", "header"),
    [
        pytest.param("/mail/7", 0, None, id="the share says no"),
        pytest.param("/mail/7", 1, THEIRS[:-1] + "0", id="whoever asks says no"),
        pytest.param("/healthz", 1, None, id="nobody wants to see it"),
    ],
)
async def test_what_is_not_kept_is_decided_for_all_it_sends(
    path: str, ratio: float, header: str | None
) -> None:
    front = Front(ratio)

    await front.get(path, {"traceparent": header} if header else None)

    assert front.spans == []
    assert [type(one) for one in front.seen] == [Untraced]


async def test_a_trace_that_whoever_asks_does_not_keep_goes_on_under_its_id() -> None:
    front = Front(1)
    unsampled = THEIRS[:-1] + "0"

    await front.get("/mail/7", {"traceparent": unsampled, "tracestate": "a=b"})

    assert front.spans == []
    assert front.carried == [{"traceparent": unsampled, "tracestate": "a=b"}]
    token = carried.set(front.carried[0])
    try:
        headers, sending = Tracing(front.tracer, system="postgresql").entering({})
    finally:
        carried.reset(token)
    assert (headers["traceparent"], sending) == (unsampled, None)


async def test_a_server_error_is_an_error_of_the_span() -> None:
    front = Front(1, status=503)

    await front.get("/mail/7")

    assert front.spans[0].error == "503"
