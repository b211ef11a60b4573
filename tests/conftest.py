"""What every tier shares: the blocked-loop guard, databases and brokers on private servers."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import structlog
from anyio.from_thread import start_blocking_portal
from blockbuster import blockbuster_ctx

from rolekit.testing.broker import PrivateBroker
from rolekit.testing.plugin import DatabaseServer
from tests.engine import NoEngine, PrivateEngine
from tests.limits import (  # hooks
    pytest_pyfunc_call,
    pytest_runtest_call,
    pytest_runtest_setup,
    pytest_runtest_teardown,
    pytest_timeout_cancel_timer,
    pytest_timeout_set_timer,
)
from tests.servers import PrivatePostgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockbuster import BlockBuster

__all__ = [
    "pytest_pyfunc_call",
    "pytest_runtest_call",
    "pytest_runtest_setup",
    "pytest_runtest_teardown",
    "pytest_timeout_cancel_timer",
    "pytest_timeout_set_timer",
]
MAY_BLOCK = {
    "rolekit/cli/main.py": {"run"},
    "rolekit/database.py": {"load_queries"},
    "rolekit/store/migrate.py": {"_migrations"},
    "rolekit/store/postgres/host.py": {"_machine", "_started"},
}
"""A command has its loop for itself; parts may read small files of their own at their start."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests and fixtures of any scope on asyncio: rolekit has no other loop."""
    return "asyncio"


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[BlockBuster]:
    """Fail any test in which rolekit blocks the event loop."""
    with blockbuster_ctx("rolekit") as guard:
        for function in guard.functions.values():  # asyncpg looks for ~/.pgpass
            function.can_block_in("asyncpg/connect_utils.py", "_parse_connect_dsn_and_args")
            for file, names in MAY_BLOCK.items():
                function.can_block_in(file, names)
        yield guard


@pytest.fixture
def database_url(rolekit_database: str) -> str:
    """A fresh database on the embedded server: what users get by default."""
    return rolekit_database


@pytest.fixture
def postgres_server() -> Iterator[PrivatePostgres]:
    """A started server of the distribution's PostgreSQL, for this test to kill and restart."""
    with PrivatePostgres() as server:
        yield server


@pytest.fixture(scope="session")
def distribution_server() -> Iterator[DatabaseServer]:
    """One server of the distribution's PostgreSQL (Debian 12: version 15) for a test run."""
    with PrivatePostgres() as server, start_blocking_portal("asyncio") as portal:
        yield DatabaseServer(server.url, portal)


@pytest.fixture
def postgres15(distribution_server: DatabaseServer) -> Iterator[str]:
    """A fresh database on the distribution's PostgreSQL, the oldest that is supported."""
    with distribution_server.database() as url:
        yield url


@pytest.fixture
def broker_url(rolekit_broker: str) -> str:
    """A fresh virtual host on the broker of the test run; for a broker to break, see below."""
    return rolekit_broker


@pytest.fixture
def private_broker() -> Iterator[PrivateBroker]:
    """A started RabbitMQ of its own, for this test to kill and restart."""
    with PrivateBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def engine() -> Iterator[PrivateEngine]:
    """A container engine of this test run, with a plain Debian as `rolekit-test:base`.

    A machine that can run none is the one thing for which tests are skipped: it may itself
    be a container, which no test can change. The reason has the engine's own words.
    """
    try:
        with PrivateEngine() as private:
            private.make_base("rolekit-test:base")
            yield private
    except NoEngine as error:
        pytest.skip(f"no container engine can run here: {error}")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Take back how a command in this process set logging up: its streams end with its test."""
    yield
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(handler)
    structlog.reset_defaults()
