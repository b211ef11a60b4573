"""The suites are imported by test modules, and assert as those do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockbuster import BlockBuster

    from rolekit.testing.plugin import DatabaseServer

pytest.register_assert_rewrite(
    "tests.conformance.transport",
    "tests.conformance.transport_settling",
    "tests.conformance.store",
    "tests.conformance.store_runs",
    "tests.conformance.store_sequences",
    "tests.conformance.store_services",
)

READS_AT_START = {
    "rolekit/database.py": {"load_queries"},
    "rolekit/store/migrate.py": {"_migrations"},
    "rolekit/store/postgres/host.py": {"_machine", "_started"},
}


@pytest.fixture(autouse=True)
def no_blocking_calls(no_blocking_calls: BlockBuster) -> BlockBuster:
    """Let parts read their own small files when they start."""
    for function in no_blocking_calls.functions.values():
        for file, names in READS_AT_START.items():
            function.can_block_in(file, names)
    return no_blocking_calls


@pytest.fixture(scope="module", params=["rolekit_database_server", "distribution_server"])
def shared_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database for one module, where each test makes a schema of its own."""
    server: DatabaseServer = request.getfixturevalue(request.param)
    with server.database() as url:
        yield url
