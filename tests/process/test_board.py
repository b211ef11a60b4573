"""Every query of the board for Grafana has data, in a real Prometheus that asks a real app."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from rolekit.config import Config
from rolekit.wiring import open_client
from tests.patience import patient
from tests.process.board import queries
from tests.process.supervised import ROOT, eventually
from tests.process.why_app import Flaky, Item, Whole, app

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rolekit.testing.plugin import DatabaseServer

pytestmark = [pytest.mark.load, pytest.mark.servers, pytest.mark.timeout(240)]


@dataclass(frozen=True)
class Running:
    """The app under way, with its numbers over TCP."""

    config: Config
    control: str
    token: str

    def send(self, *messages: Any) -> None:  # noqa: ANN401 - messages
        """Send these."""

        async def send() -> None:
            async with open_client(app, self.config) as client:
                await client.send_many(messages)

        asyncio.run(send())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def running(rolekit_database_server: DatabaseServer, tmp_path: Path) -> Iterator[Running]:
    home = tmp_path / "home"
    home.mkdir()
    control, token = f"127.0.0.1:{free_port()}", secrets.token_urlsafe()
    with rolekit_database_server.database() as database:
        said = home / "said"
        with said.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "rolekit", "up", "tests.process.why_app:app"],
                cwd=ROOT,
                env={
                    **os.environ,
                    "ROLEKIT_HOME": str(home),
                    "ROLEKIT_DATABASE": database,
                    "ROLEKIT_CONTROL": control,
                    "ROLEKIT_CONTROL_TOKEN": token,
                },
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            eventually(lambda: "why is up" in said.read_text(), within_s=60)
            yield Running(Config(app="", database=database, home=home), control, token)
        finally:
            process.terminate()
            process.wait(patient(30))


def some(number: int) -> Sequence[object]:
    """Give work of each kind: a retry, a split with its gather, a batch."""
    return [Flaky(n=number), Whole(parts=3), *(Item(n=n) for n in range(5))]


def program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is needed: apt-get install prometheus"
    return found


def test_every_query_of_the_board_has_data_in_a_real_prometheus(
    running: Running, tmp_path: Path
) -> None:
    port = free_port()
    (tmp_path / "token").write_text(running.token)
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
        "scrape_configs": [
            {
                "job_name": "rolekit",
                "static_configs": [{"targets": [running.control]}],
                "authorization": {"credentials_file": str(tmp_path / "token")},
            }
        ],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    for file in (tmp_path / "prometheus.yml", ROOT / "deploy/prometheus.yml"):
        subprocess.run([program("promtool"), "check", "config", str(file)], check=True)
    with (tmp_path / "said").open("w") as said:
        server = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
            mine = [one for one in queries(app.name) if "rolekit_broker_" not in one]
            empty, number, until = mine, 0, time.monotonic() + 90  # it has no RabbitMQ
            while empty and time.monotonic() < until:  # rates are of two times at least
                running.send(*some(number))
                number += 1
                empty = [query for query in empty if not has_data(http, query)]
    finally:
        server.terminate()
        server.wait(patient(30))

    assert empty == []


def has_data(http: httpx.Client, query: str) -> bool:
    """Ask Prometheus; a query that is wrong is said at once."""
    try:
        said = http.get("/api/v1/query", params={"query": query})
    except httpx.TransportError:
        return False  # it has not begun
    if said.status_code == 503:
        return False
    assert said.status_code == 200, said.text
    values = [float(one["value"][1]) for one in said.json()["data"]["result"]]
    return any(value == value for value in values)  # noqa: PLR0124 - NaN is no data
