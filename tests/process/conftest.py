"""What tests of the real command run on: Postgres as the broker, and RabbitMQ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.process.guest_programs import Leftovers, leftovers_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.engine import PrivateEngine


@pytest.fixture(params=["postgres", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str:
    """The URL of a broker; empty: the database is it."""
    if request.param == "postgres":
        return ""
    url: str = request.getfixturevalue("broker_url")
    return url


@pytest.fixture
def left(
    engine: PrivateEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Leftovers]:
    """What guests in containers leave: nothing. Files on other hosts have their own."""
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    leftovers = leftovers_in(tmp_path, monkeypatch)
    yield leftovers
    assert engine.docker("ps", "--all", "--quiet") == ""
    assert leftovers.all() == []
    assert list(tmp_path.glob("rolekit-launcher-*")) == []
