"""`rolekit dashboard`, and `rolekit up --dashboard`, as processes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from rolekit.testing.certificates import make_certificates
from tests.patience import patient
from tests.process.supervised import eventually

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(90)

ECHO = '''
from rolekit import App, Message, WorkerRole, handle

class Ask(Message):
    number: int

class Echo(WorkerRole):
    @handle
    async def take(self, ask: Ask) -> None:
        """Do nothing."""

app = App("echo", roles=[Echo])
'''
ROLEKIT = [sys.executable, "-m", "rolekit"]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "ROLEKIT_APP": "echo_app:app", "ROLEKIT_HOME": str(home)}


def test_it_stands_beside_an_app_and_is_gone_when_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "echo_app.py").write_text(ECHO, encoding="utf-8")
    log = tmp_path / "up.log"
    with log.open("wb") as output:
        up = subprocess.Popen(
            [*ROLEKIT, "up", "--dashboard", "127.0.0.1:0"],
            cwd=tmp_path, env=environment(tmp_path), stdout=output, stderr=output,
        )  # fmt: skip
    try:
        eventually(lambda: b"http://127.0.0.1:" in log.read_bytes(), within_s=50)
        found = re.search(r"http://127\.0\.0\.1:\d+/", log.read_text(encoding="utf-8"))
        assert found is not None
        with httpx.Client(base_url=found[0], timeout=patient(20)) as browser:
            about = browser.get("/api/about").json()
            assert [box["role"] for box in about["drawing"]["boxes"]] == ["Echo"]
            assert about["may_change"] is False
            assert browser.get("/api/dead").json() == []
            assert browser.get("/api/holes").json() == []
            assert browser.post("/api/scale", json={}).status_code == 403
            with browser.stream("GET", "/api/live") as live:
                first = next(line for line in live.iter_lines() if line)
            assert '"app":"echo"' in first
        up.kill()
        up.wait()

        def is_gone() -> bool:
            try:
                httpx.get(f"{found[0]}api/about", timeout=5)
            except httpx.TransportError:
                return True
            return False

        eventually(is_gone, within_s=10)
    finally:
        up.kill()
        up.wait()


def test_with_a_certificate_it_speaks_tls_and_what_is_changed_is_kept(tmp_path: Path) -> None:
    (tmp_path / "echo_app.py").write_text(ECHO, encoding="utf-8")
    made = make_certificates(tmp_path)
    secured = {
        **environment(tmp_path),
        "ROLEKIT_DASHBOARD_CERTIFICATE": str(made.server),
        "ROLEKIT_DASHBOARD_KEY": str(made.server_key),
    }
    log = tmp_path / "log"
    with log.open("wb") as output, contextlib.ExitStack() as held:
        dashboard = "dashboard --allow-changes --bind 127.0.0.1:0 --wait 60"
        for command in (["up"], dashboard.split()):
            process = subprocess.Popen(
                [*ROLEKIT, *command], cwd=tmp_path, env=secured, stdout=output, stderr=output
            )
            held.callback(process.wait)
            held.callback(process.terminate)
        eventually(lambda: b"https://127.0.0.1:" in log.read_bytes(), within_s=50)
        found = re.search(r"https://127\.0\.0\.1:\d+", log.read_text(encoding="utf-8"))
        assert found is not None
        trusted = ssl.create_default_context(cafile=made.authority)
        with httpx.Client(base_url=found[0], verify=trusted, timeout=patient(20)) as browser:
            csrf = browser.get("/api/about").json()["csrf"]
            order = {"role": "Echo", "count": "2"}
            answer = browser.post("/api/scale", json=order, headers={"x-rolekit-csrf": csrf})
            assert answer.json() == {"said": "Echo: 2 instances."}
        told = subprocess.run(
            [*ROLEKIT, "audit", "--json"], cwd=tmp_path, env=environment(tmp_path),
            capture_output=True, text=True, check=True,
        )  # fmt: skip

    (act,) = json.loads(told.stdout)
    assert (act["who"], act["act"], act["what"]) == ("127.0.0.1", "scale", "Echo=2")


def test_without_an_app_or_a_token_it_says_what_to_do(tmp_path: Path) -> None:
    def said(*command: str) -> tuple[int, str]:
        done = subprocess.run(
            [*ROLEKIT, *command], cwd=tmp_path, env=environment(tmp_path),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stderr

    code, alone = said("dashboard")
    assert code == 2
    assert "is not running here" in alone
    code, open_to_all = said("dashboard", "--bind", "0.0.0.0:8710")
    assert code == 2
    assert "needs a token of 32 bytes" in open_to_all
    code, no_app = said("up", "--dashboard", "nothing_like_it:app")
    assert code == 2
    assert "nothing_like_it" in no_app
