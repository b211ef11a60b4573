"""A client in memory: enough of Client and Requests for a front to be tested alone."""

from __future__ import annotations

from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import anyio

from rolekit.errors import KeyInUse, KeyReused
from rolekit.flow.request import Saved, UnknownId, event_cursor, last_event_id
from rolekit.model.message import AnyMessage, Blob, Receipt, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable


@dataclass
class Scope:
    """A request under way; what it sends is held back."""

    owner: FakeClient
    key: tuple[str, str, str] | None
    body_hash: str
    prior: Saved | None = None
    held: list[object] = field(default_factory=list[object])

    async def commit(self, reply: Saved | None) -> Saved | None:
        self.flush()
        if self.key is None or reply is None:
            return None
        return self.owner.kept.setdefault(self.key, (self.body_hash, reply))[1]

    def flush(self) -> None:
        self.owner.sent += self.held
        self.held.clear()


_scope: ContextVar[Scope | None] = ContextVar("_scope", default=None)


class FakeClient:
    """Sends into a list; replies are put in by the test, by the id of what was sent."""

    def __init__(self) -> None:
        self.sent: list[object] = []
        self.kept: dict[tuple[str, str, str], tuple[str, Saved]] = {}
        self.open: set[tuple[str, str, str]] = set()
        self.replies: dict[str, list[Reply]] = {}
        self.blobs: dict[str, bytes] = {}
        self.fails: Exception | None = None
        self.more = anyio.Event()

    @asynccontextmanager
    async def scope(
        self, *, key: str | None, route: str, caller: str, body_hash: str
    ) -> AsyncGenerator[Scope]:
        named = None if key is None else (route, caller, key)
        scope = Scope(self, named, body_hash)
        if named is not None:
            self._look_up(named, scope)
            self.open.add(named)
        token = _scope.set(scope)
        try:
            yield scope
        finally:
            _scope.reset(token)
            if named is not None:
                self.open.discard(named)

    def _look_up(self, named: tuple[str, str, str], scope: Scope) -> None:
        if named in self.open:
            raise KeyInUse("The first request is under way.")
        if named in self.kept:
            body_hash, scope.prior = self.kept[named]
            if body_hash != scope.body_hash:
                raise KeyReused("The key came with another body.")

    async def send(
        self, message: AnyMessage, /, *, idempotency_key: str | None = None, **options: object
    ) -> Receipt:
        if self.fails is not None:
            raise self.fails
        scope = _scope.get()
        (self.sent if scope is None else scope.held).append(message)
        held = 0 if scope is None else len(scope.held)
        return Receipt(id=f"m{len(self.sent) + held}")

    async def send_many(
        self, messages: Iterable[AnyMessage] | AsyncIterable[AnyMessage], /
    ) -> list[Receipt]:
        return [await self.send(message) for message in cast("Iterable[AnyMessage]", messages)]

    async def ask(self, message: AnyMessage, *kinds: type[Any], timeout_s: float = 30) -> Any:  # noqa: ANN401
        self._flush()
        receipt = await self.send(message)
        return self.replies[receipt.id][0]

    async def follow(
        self, sent: Receipt | str, *kinds: type[Any], until: type[Any], timeout_s: float = 3600
    ) -> AsyncIterator[Any]:
        self._flush()
        name = sent if isinstance(sent, str) else sent.id
        if name not in self.replies:
            raise UnknownId(f"Nothing was sent here under {name}.")
        place = int(last_event_id.get() or 0)
        while True:
            for reply in self.replies[name][place:]:
                place += 1
                event_cursor.set(str(place))
                yield reply
                if isinstance(reply, until):
                    return
            if place and isinstance(self.replies[name][place - 1], until):
                return
            await self.more.wait()
            self.more = anyio.Event()

    async def result(self, sent: Receipt | str, a: type[Any], /) -> Any:  # noqa: ANN401
        self._flush()
        name = sent if isinstance(sent, str) else sent.id
        return self.replies[name][-1]

    async def save(self, data: bytes | AsyncIterable[bytes], /, media_type: str = "") -> Blob:
        whole = data if isinstance(data, bytes) else b"".join([part async for part in data])
        name = f"b{len(self.blobs)}"
        self.blobs[name] = whole
        return Blob(id=name, size_bytes=len(whole))

    async def load(self, blob: Blob, /) -> bytes:
        return self.blobs[blob.id]

    def _flush(self) -> None:
        scope = _scope.get()
        if scope is not None:
            scope.flush()
