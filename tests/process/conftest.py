"""What tests of the real command run on: Postgres as the broker, and RabbitMQ."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["postgres", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str:
    """The URL of a broker; empty: the database is it."""
    if request.param == "postgres":
        return ""
    url: str = request.getfixturevalue("broker_url")
    return url
