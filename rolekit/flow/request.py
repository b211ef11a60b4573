"""What a web front asks of the flow: the sends of one request leave together, once per key.

A request runs inside a scope. What its handler sends is held back until `commit`; with an
idempotency key, that one commit also keeps the key, the hash of the body and the reply, so
that a repeat gets the same reply and sends nothing. A scope left without `commit` sent
nothing. `follow`, `ask` and `result` flush what was held back first, because they wait for it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from rolekit.errors import RolekitError
from rolekit.store.base import Saved

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager


__all__ = ["RequestScope", "Requests", "Saved", "UnknownId", "event_cursor", "last_event_id"]


class UnknownId(RolekitError):
    """An id is none that this app gives to what it is sent, and nothing answered to it."""


class RequestScope(Protocol):
    """One request under way.

    Attributes:
        prior: The reply given to an earlier request with this key, or None. When it is
            there the handler must not run.
    """

    @property
    def prior(self) -> Saved | None:
        """The reply an earlier request with this key was given."""
        ...

    async def commit(self, reply: Saved | None) -> Saved | None:
        """Let everything sent in this request leave, in one commit with key and reply.

        Args:
            reply: What will be answered; None without a key.

        Returns:
            The reply to give: another's, if another request with this key came first.
        """
        ...


class Requests(Protocol):
    """Opens request scopes."""

    def scope(
        self, *, key: str | None, route: str, caller: str, body_hash: str
    ) -> AbstractAsyncContextManager[RequestScope]:
        """Begin a request.

        Args:
            key: The idempotency key, or None.
            route: Method and path template; keys of different routes are different keys.
            caller: Who asks, as an opaque string; empty for anybody.
            body_hash: Fingerprint of all that the request says; empty without a key.

        Raises:
            KeyReused: The key came before with another body.
            KeyInUse: The first request with this key has not been answered yet.
        """
        ...


last_event_id: ContextVar[str | None] = ContextVar("last_event_id", default=None)
"""The Last-Event-ID of the request being answered; `follow` goes on behind it."""

event_cursor: ContextVar[str | None] = ContextVar("event_cursor", default=None)
"""Set by `follow` before each item it yields: what a reader sends back as Last-Event-ID.

A context variable and not a field, so that it survives a handler's own generator around
`follow`; an async generator runs in the context of whoever iterates it.
"""
