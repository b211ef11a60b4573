"""A PgBouncer of one's own, in transaction mode, in front of one database."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from tests.servers import START_S, NoServer, account, find_pgbouncer, free_port

SETTINGS = """
[databases]
{name} = host={host} port={port} dbname={name} user={role}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 4000
"""


ROLE = "pooled"
"""Whom the server takes it for, so that its connections can be told from others."""


class PrivatePgBouncer:
    """A started pooler; its role must be on the server.

    Args:
        url: Of the database behind it, by TCP.
        pool: Connections that it may open there.
    """

    def __init__(self, url: str, pool: int) -> None:
        there = urlsplit(url)
        port = free_port()
        self.url = urlunsplit(there._replace(netloc=f"{there.username}@127.0.0.1:{port}"))
        self._settings = SETTINGS.format(
            name=there.path.strip("/"),
            host=there.hostname,
            port=there.port,
            role=ROLE,
            own_port=port,
            pool=pool,
        )
        self._base = Path(tempfile.mkdtemp(prefix="rolekit-pgbouncer-", dir="/tmp"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it wrote."""
        return (self._base / "log").read_text(errors="replace")

    def __enter__(self) -> Self:
        ids = account()
        os.chown(self._base, *ids)
        (self._base / "pgbouncer.ini").write_text(self._settings)
        with (self._base / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [find_pgbouncer(), "pgbouncer.ini"],
                stdout=log,
                stderr=log,
                cwd=self._base,
                user=ids[0],
                group=ids[1],
                extra_groups=[],
            )
        until_s = time.monotonic() + START_S
        while "process up" not in self.log:
            if self._process.poll() is not None or time.monotonic() > until_s:
                log_text = self.log
                self.__exit__()
                raise NoServer(f"PgBouncer did not start:\n{log_text}")
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_S)
        shutil.rmtree(self._base, ignore_errors=True)
