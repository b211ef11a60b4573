"""Private servers for tests, started and killed at will; and the browser that tests drive.

    python -m tests.servers

looks for the programs that tests need, and installs them where it may; `make test` does so
first. Without them the tests fail; they are never skipped.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rolekit.errors import ConfigError
from rolekit.testing.erlang import find_rabbitmq
from rolekit.testing.folders import Folder
from tests.patience import patient

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

START_S = patient(15.0)
HOW_TO_GET_IT = (
    "Tests need PostgreSQL's own programs (initdb, postgres) on PATH or in "
    "/usr/lib/postgresql: run `apt-get install postgresql` as root."
)

HOW_TO_GET_A_BROWSER = (
    "Tests of pages need Chromium (chromium, chromium-browser or google-chrome) on PATH: run"
    " `apt-get install chromium` as root."
)


class NoServer(Exception):
    """The programs of a server are not on this machine."""


class NoBrowser(Exception):
    """No browser is on this machine that tests can drive."""


def find_postgres() -> Path:
    """Return the directory with `initdb` and `postgres`, on PATH or in Debian's place."""
    on_path = shutil.which("initdb")
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if on_path is not None:
        places.append(Path(on_path).resolve().parent)
    for place in places:
        if (place / "postgres").exists() and (place / "initdb").exists():
            return place
    raise NoServer(HOW_TO_GET_IT)


def find_chromium() -> Path:
    """Return Chromium, or a browser made of it, on PATH."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise NoBrowser(HOW_TO_GET_A_BROWSER)


def find_pgbouncer() -> Path:
    """Return PgBouncer, on PATH or in Debian's place."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        raise NoServer("Tests need pgbouncer on PATH: run `apt-get install pgbouncer` as root.")
    return Path(found)


def find_swaks() -> Path:
    """Return swaks, a mail client that shares no code with this project, on PATH."""
    found = shutil.which("swaks")
    if found is None:
        raise NoServer("Tests need swaks on PATH: run `apt-get install swaks` as root.")
    return Path(found)


def find_bubblewrap() -> Path:
    """Return bubblewrap, which guests of a Sandbox live in, on PATH."""
    found = shutil.which("bwrap")
    if found is None:
        raise NoServer("Tests need bwrap on PATH: run `apt-get install bubblewrap` as root.")
    return Path(found)


def find_perl() -> Path:
    """Return Perl, which the guests of tests are written in, on PATH."""
    found = shutil.which("perl")
    if found is None:
        raise NoServer("Tests need perl on PATH: run `apt-get install perl` as root.")
    return Path(found)


def find_spamd() -> Path:
    """Return SpamAssassin's daemon, on PATH."""
    found = shutil.which("spamd")
    if found is None:
        raise NoServer("Tests need spamd on PATH: run `apt-get install spamd` as root.")
    return Path(found)


def find_compose() -> Path:
    """Return docker-compose, which reads what `rolekit deploy compose` writes, on PATH."""
    found = shutil.which("docker-compose")
    if found is None:
        raise NoServer(
            "Tests need docker-compose: run `apt-get install docker-compose` as root."
        )
    return Path(found)


def find_apache() -> Path:
    """Return Apache httpd, by the name that Debian gives it, on PATH."""
    found = shutil.which("apache2")
    if found is None:
        raise NoServer("Tests need apache2 on PATH: run `apt-get install apache2` as root.")
    return Path(found)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class PrivatePostgres:
    """A PostgreSQL of one's own on 127.0.0.1; port and data stay through restarts."""

    def __init__(self) -> None:
        self._binaries = find_postgres()
        self._folder = Folder("rolekit-pg-", Path("/tmp"))  # noqa: S108 - all may enter it
        self._base = self._folder.path
        self._ids = account()
        self.port = free_port()
        self.url = f"postgresql://rolekit@127.0.0.1:{self.port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        os.chown(self._base, *self._ids)
        self._run("initdb", "-D", "data", "-U", "rolekit", "--auth=trust", "--no-sync")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.remove()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
        }
        settings = [part for item in options.items() for part in ("-c", "=".join(item))]
        with (self._base / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._base / "data", *settings],
                stdout=log,
                stderr=log,
                cwd=self._base,
                env={"LC_ALL": "C"},
                user=self._ids[0],
                group=self._ids[1],
                extra_groups=[],
            )
        deadline_s = time.monotonic() + START_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                log_text = (self._base / "server.log").read_text()
                raise NoServer(f"PostgreSQL did not start in {self._base}:\n{log_text}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it fast, as a careful administrator does."""
        self._end(signal.SIGINT)

    def kill9(self) -> None:
        """Kill it as an out-of-memory killer does; its data are as the crash left them."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def _end(self, sign: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(sign)
            self._process.wait(START_S)
            self._process = None

    def _is_ready(self) -> bool:
        lock_file = self._base / "data" / "postmaster.pid"
        if self._process is None or not lock_file.exists():
            return False
        lines = [line.strip() for line in lock_file.read_text().splitlines()]
        return lines[:1] == [str(self._process.pid)] and lines[7:] == ["ready"]

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._binaries / program, *arguments],
            check=True,
            capture_output=True,
            cwd=self._base,
            env={"LC_ALL": "C", "PATH": os.defpath},
            user=self._ids[0],
            group=self._ids[1],
            extra_groups=[],
        )


def account() -> tuple[int, int]:
    """Return whose rights the server gets: PostgreSQL refuses those of root."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def install(package: str) -> None:
    """Install what is missing, where that is ours to do."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    # The level of a single user: where SysV scripts start services, none is to be started.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    with nothing_starts():
        for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
            subprocess.run(["apt-get", "-q", *command], check=True, env=environment)


@contextlib.contextmanager
def nothing_starts(policy: Path = Path("/usr/sbin/policy-rc.d")) -> Generator[None]:
    """Keep packages from starting the servers that they bring: tests start their own.

    An administrator's own policy is left as it is.

    Source: /usr/share/doc/sysv-rc/README.policy-rc.d; 101 is "action forbidden by policy".
    """
    try:
        with policy.open("x") as script:
            script.write("#!/bin/sh\nexit 101\n")
            os.fchmod(script.fileno(), 0o755)
    except FileExistsError:
        yield
        return
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


def main() -> int:
    """Find the programs, or install them, or say how to."""
    wanted: tuple[tuple[str, Callable[[], Path], str], ...] = (
        ("PostgreSQL", find_postgres, "postgresql"),
        ("PgBouncer", find_pgbouncer, "pgbouncer"),
        ("RabbitMQ", find_rabbitmq, "rabbitmq-server"),
        ("Browser", find_chromium, "chromium"),
        ("Mail client", find_swaks, "swaks"),
        ("Sandbox", find_bubblewrap, "bubblewrap"),
        ("Perl", find_perl, "perl"),
        ("SpamAssassin", find_spamd, "spamd"),
        ("Apache", find_apache, "apache2"),
        ("Compose", find_compose, "docker-compose"),
    )
    try:
        for what, find, package in wanted:
            print(f"{what} for tests: {_found(find, package)}")  # noqa: T201 (a command)
    except (NoServer, NoBrowser, ConfigError) as error:
        print(error, file=sys.stderr)  # noqa: T201 (a command)
        return 1
    return 0


def _found(find: Callable[[], Path], package: str) -> Path:
    try:
        return find()
    except (NoServer, NoBrowser, ConfigError):
        install(package)
        return find()


if __name__ == "__main__":
    sys.exit(main())
