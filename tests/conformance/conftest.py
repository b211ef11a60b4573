"""The suites are imported by test modules, and assert as those do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rolekit.testing.plugin import DatabaseServer

pytest.register_assert_rewrite(
    "tests.conformance.transport",
    "tests.conformance.transport_settling",
    "tests.conformance.transport_epochs",
    "tests.conformance.store",
    "tests.conformance.store_letters",
    "tests.conformance.store_keys",
    "tests.conformance.store_runs",
    "tests.conformance.store_sent",
    "tests.conformance.store_sequences",
    "tests.conformance.store_services",
    "tests.conformance.store_states",
    "tests.conformance.store_buckets",
    "tests.conformance.store_timers",
    "tests.conformance.store_whole",
)


@pytest.fixture(scope="module", params=["rolekit_database_server", "distribution_server"])
def shared_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database for one module, where each test has a schema of its own."""
    server: DatabaseServer = request.getfixturevalue(request.param)
    with server.database() as url:
        yield url
