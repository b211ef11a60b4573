"""The pytest plug-in: a database and a broker for tests, on servers that live for one test run.

The database is on an embedded PostgreSQL. The broker is a private RabbitMQ, whose programs
must be on the machine: a test without them fails, it is never skipped.

It is found by pytest by itself once rolekit is installed. The fixtures are plain ones, so they
serve tests under AnyIO, pytest-asyncio and no event loop at all.
"""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING

import pytest
from anyio.from_thread import start_blocking_portal

from rolekit.errors import ConfigError, Unavailable
from rolekit.store import embedded
from rolekit.testing.broker import PrivateBroker
from rolekit.testing.folders import Folder

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from anyio.from_thread import BlockingPortal


class DatabaseServer:
    """A server on which tests get databases of their own.

    Args:
        url: Any database of it.
        portal: The event loop on which databases are made and removed.
    """

    def __init__(self, url: str, portal: BlockingPortal) -> None:
        self.url = url
        self._portal = portal

    @contextlib.contextmanager
    def database(self) -> Generator[str]:
        """Make an empty database; remove it at the end, whoever still uses it."""
        name = f"test_{uuid.uuid4().hex}"
        url = self._portal.call(embedded.create_database, self.url, name)
        try:
            yield url
        finally:
            self._portal.call(embedded.drop_database, self.url, name)


@pytest.fixture(scope="session")
def rolekit_database_server() -> Iterator[DatabaseServer]:
    """One embedded PostgreSQL for a whole test run; its data go with it."""
    home = Folder("rolekit-db-")
    try:
        with (
            start_blocking_portal("asyncio") as portal,
            portal.wrap_async_context_manager(embedded.server(home.path)) as url,
        ):
            yield DatabaseServer(url, portal)
    finally:
        home.remove()


@pytest.fixture
def rolekit_database(rolekit_database_server: DatabaseServer) -> Iterator[str]:
    """The URL of a fresh database, removed after the test."""
    with rolekit_database_server.database() as url:
        yield url


@pytest.fixture(scope="session")
def rolekit_broker_server() -> Iterator[PrivateBroker]:
    """One private RabbitMQ for a whole test run; its data go with it."""
    try:
        broker = PrivateBroker()
    except ConfigError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        broker.start()
        yield broker
    except Unavailable as error:
        pytest.fail(str(error), pytrace=False)
    finally:
        broker.close()


@pytest.fixture
def rolekit_broker(rolekit_broker_server: PrivateBroker) -> Iterator[str]:
    """The AMQP URL of a fresh virtual host, removed after the test."""
    with rolekit_broker_server.vhost() as url:
        yield url
