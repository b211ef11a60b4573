"""The state of the machine a run was made on: figures mean little without it."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from tempfile import NamedTemporaryFile

HERE = Path(__file__).parent
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
SYNCS, GAP_S = 200, 0.005
SPINS = 300_000
OURS = ("aio-pika", "aiormq", "asyncpg", "msgspec", "rolekit")


def state() -> dict[str, object]:
    """Describe the machine, now."""
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu_name(),
        "load": os.getloadavg(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "governor": GOVERNOR.read_text().strip() if GOVERNOR.exists() else "not told",
        "commit": _commit(),
        "ours": {name: metadata.version(name) for name in OURS},
        "peers": _locked(),
    }


def syncs_ms() -> list[float]:
    """Return what it cost, each time, to make 4 KiB durable where the servers keep their data.

    It takes a second: a disk that others use as well keeps one waiting now and then only, and
    a run in which it did has the p99 of that.
    """
    taken: list[float] = []
    with NamedTemporaryFile() as file:
        for _ in range(SYNCS):
            file.write(b"x" * 4096)
            file.flush()
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - begin) * 1e3)
            time.sleep(GAP_S)
    return taken


def spin_ms() -> float:
    """Return how long a fixed piece of Python takes: shows a host that drifts."""
    begin = time.perf_counter()
    total = 0
    for number in range(SPINS):
        total += number & 7
    assert total
    return (time.perf_counter() - begin) * 1e3


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty"],  # noqa: S607 - where it is, it is on the path
            cwd=HERE,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()


def _locked() -> dict[str, str]:
    wanted = {line.partition("==")[0].partition("[")[0] for line in _lines("in")}
    pairs = (line.partition("==") for line in _lines("lock"))
    return {name: version for name, _, version in pairs if name in wanted}


def _lines(kind: str) -> list[str]:
    text = (HERE / f"requirements-peers.{kind}").read_text()
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]
