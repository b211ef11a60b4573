"""The front on real tables, with a client of rolekit in memory."""

from __future__ import annotations

import contextlib
from html.parser import HTMLParser
from typing import TYPE_CHECKING, NamedTuple

import httpx

from examples.mailflow.front import MailFront
from examples.mailflow.samples import all_samples
from rolekit.roles.http_app import asgi
from tests.examples.database import Tables, tables
from tests.unit.fakes_web import FakeClient

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager

    from rolekit.flow.context import Transaction

SAMPLES = {sample.name: sample.raw for sample in all_samples()}
RCPT = "bob@mail.example"
ATTACK = '"><script>alert(1)</script>'


class Front(MailFront):
    """The role with a database, as a host would give it."""

    def __init__(self, database: Tables) -> None:
        self._database = database

    def tx(self) -> AbstractAsyncContextManager[Transaction]:
        return self._database.tx()


class Site(NamedTuple):
    """The front, its database and its client."""

    http: httpx.AsyncClient
    database: Tables
    client: FakeClient


@contextlib.asynccontextmanager
async def open_site(database_url: str) -> AsyncGenerator[Site]:
    """Serve the front without a socket."""
    client = FakeClient()
    async with tables(database_url) as database:
        transport = httpx.ASGITransport(asgi(Front(database), client))
        async with httpx.AsyncClient(transport=transport, base_url="http://front") as http:
            yield Site(http, database, client)


class Outline(HTMLParser):
    """What a page is made of, for those who do not see it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def ids(self) -> list[str]:
        return [found for _, attributes in self.tags if (found := attributes.get("id"))]
