"""One role in the foreground, as containers run it: what it says of itself, to its end."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from rolekit.config import Config
from tests.patience import patient
from tests.process.hosts import host
from tests.process.supervised import ROOT, eventually
from tests.process.traced import sent, spans_of
from tests.process.why_app import Heavy, app

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = [pytest.mark.servers, pytest.mark.timeout(150)]

APP = "tests.process.why_app:app"
TOKEN = "t" * 32
OUTCOMES = 'rolekit_outcomes_total{app="why",handler="Wide.heavy",outcome="done",role="Wide"} 1'
BALANCE = 'rolekit_unaccounted{app="why",role="Wide"} 0'


@pytest.fixture
def address() -> str:
    """An address nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def send(config: Config) -> str:
    return sent(app, config, Heavy(n=1))[0]


def answered(address: str, path: str, token: str = "") -> httpx.Response | None:
    """Ask; None: nobody listens there yet."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        return httpx.get(f"http://{address}{path}", headers=headers, timeout=patient(10))
    except httpx.TransportError:
        return None


def is_ready(address: str) -> bool:
    answer = answered(address, "/ready")
    return answer is not None and answer.status_code == 200


def test_it_answers_of_its_numbers_and_loses_no_span_at_its_end(
    rolekit_database: str, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "ROLEKIT_CONTROL": address, "ROLEKIT_CONTROL_TOKEN": TOKEN, "ROLEKIT_TRACES": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    config = Config(app=APP, database=rolekit_database, home=tmp_path, traces=1.0)
    with host(APP, "Wide", tmp_path, rolekit_database, "") as process:
        eventually(lambda: is_ready(address), within_s=50)
        refused = answered(address, "/metrics")
        first = send(config)

        def numbers() -> list[str]:
            answer = answered(address, "/metrics", TOKEN)
            return [] if answer is None else answer.text.splitlines()

        eventually(lambda: {OUTCOMES, BALANCE} <= set(numbers()), within_s=50)
        names = {line.partition("{")[0] for line in numbers()}
        last = send(config)
        eventually(
            lambda: any(s.name == "process Wide.heavy" for s in spans_of(app, config, last)),
            within_s=50,
        )
        process.terminate()  # in the middle of its handler, which it finishes
        assert process.wait(patient(60)) == 0

    assert refused is not None
    assert refused.status_code == 401
    assert names >= {
        "rolekit_loop_lag_seconds", "rolekit_pool_connections", "rolekit_waiting",
        "rolekit_instances", "messaging_client_consumed_messages_total",
        "messaging_process_duration_seconds_bucket",
    }  # fmt: skip
    for id_ in (first, last):
        spans = {span.name: span for span in spans_of(app, config, id_)}
        assert set(spans) == {"send Wide.heavy", "process Wide.heavy"}
        assert all(span.ended_ns and not span.error for span in spans.values())


def test_an_address_that_is_taken_is_refused_in_a_sentence(
    rolekit_database: str, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "rolekit", "run", "--app", APP, "Wide",
             "--set", f"database={rolekit_database}", "--set", f"home={tmp_path}",
             "--set", f"control={where}", "--set", f"control_token={TOKEN}"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert done.returncode == 2
    assert where in done.stderr
    assert "Traceback" not in done.stderr
