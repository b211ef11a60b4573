"""A container engine of one's own: a Docker that tests start, fill with images, and end.

    with PrivateEngine() as engine:
        engine.make_base("python:3.12-slim")
        engine.docker("run", "--rm", "python:3.12-slim", "true")

    python -m tests.engine

gets what it takes, where it may; `make test` does so first. An engine stands beside whatever
other the machine has, on a socket and in a folder of its own, and ends with who started it.
Images come from Debian's archive by `debootstrap`, so no registry is needed. Where no engine
can run, `NoEngine` says why, in the engine's own words.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.patience import patient
from tests.servers import install

if TYPE_CHECKING:
    from collections.abc import Generator

START_S = patient(60.0)
END_S = patient(20.0)
SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
PROGRAMS = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "setpriv": "util-linux",
}
"""What an engine takes, and Debian's package of each."""
PLACES = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
KEPT_S = 7 * 86_400
"""A base image that is older is made anew: its packages would be behind Debian's."""
SAID_BYTES = 2000


class NoEngine(Exception):
    """No container engine can be had on this machine; says why."""


def find(program: str) -> str:
    """Return a program of an engine, installed where that is ours to do.

    Raises:
        NoEngine: It is missing; says how to get it.
    """
    if found := shutil.which(program, path=PLACES):
        return found
    package = PROGRAMS.get(program, program)
    with _one_at_a_time("install"), contextlib.suppress(subprocess.CalledProcessError):
        if shutil.which(program, path=PLACES) is None:
            install(package)
    if found := shutil.which(program, path=PLACES):
        return found
    raise NoEngine(
        f"An engine for tests needs {program}, which is not in {PLACES}: run "
        f"`apt-get install {package}` as root."
    )


class PrivateEngine:
    """A Docker engine on a socket of its own; it has no images at first.

    Containers have no network unless they name one: the engine has no default bridge. Build
    with `--network host`.

    Args:
        networks: Whether it may make networks, which needs iptables.

    Attributes:
        socket: Where its API is.
        url: The same, as DOCKER_HOST.
    """

    def __init__(self, *, networks: bool = False) -> None:
        self._networks = networks
        self._folder = Path(tempfile.mkdtemp(prefix="rolekit-docker-", dir="/tmp"))
        self.socket = self._folder / "docker.sock"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._remove()

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            NoEngine: It does not come up, or may not be started; says why.
        """
        if os.geteuid() != 0:
            raise NoEngine("A private engine must be started by root.")
        for program in PROGRAMS:
            find(program)
        with (self._folder / "engine.log").open("ab") as log:
            self._process = subprocess.Popen(
                # It ends with the test run, whatever that died of.
                [find("setpriv"), "--pdeathsig", "TERM", find("dockerd"), *self._options()],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
                env=os.environ | {"PATH": PLACES},
            )
        until_s = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until_s:
                self.stop()
                raise NoEngine(f"dockerd does not run here: {self._said()}")
            time.sleep(0.05)

    def _said(self) -> str:
        """Return the end of what it said, without what it says of its being busy."""
        lines = (self._folder / "engine.log").read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if "level=info" not in line)[-SAID_BYTES:]

    def _options(self) -> list[str]:
        folder = self._folder
        options = ["--host", self.url, "--data-root", f"{folder}/data", "--bridge", "none"]
        options += ["--exec-root", f"{folder}/run", "--pidfile", f"{folder}/docker.pid"]
        options += ["--log-level", "warn", "--shutdown-timeout", "2"]
        if not self._networks:
            options += ["--iptables=false", "--ip-masq=false", "--ip-forward=false"]
        return options

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
            client.settimeout(START_S)
            client.connect(str(self.socket))
            client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in client.recv(64)
        return False

    def stop(self) -> None:
        """End it, and with it its containers. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            if self._networks and process.poll() is None:
                self._remove_networks()
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _remove_networks(self) -> None:
        """Take down the bridges, which an engine that ends leaves on the machine."""
        with contextlib.suppress(AssertionError):
            for container in self.docker("ps", "--all", "--quiet").split():
                self.docker("rm", "--force", container)
            self.docker("network", "prune", "--force")

    def docker(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Run a command of Docker's client on this engine; return what it prints.

        Raises:
            AssertionError: It failed; with what it said.
        """
        done = subprocess.run(
            [find("docker"), *arguments],
            input=stdin,
            capture_output=True,
            check=False,
            env=os.environ | {"DOCKER_HOST": self.url, "DOCKER_BUILDKIT": "0"},
        )
        said = (done.stdout + done.stderr).decode(errors="replace")
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {said}"
        return done.stdout.decode().strip()

    def make_base(self, *tags: str) -> None:
        """Have a plain Debian as an image, under these names: it has Perl, and no more.

        Raises:
            NoEngine: Debian's archive cannot be reached.
        """
        image = self.docker("import", str(base_tarball()))
        for tag in tags:
            self.docker("tag", image, tag)

    def _remove(self) -> None:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        for place in reversed([line.split()[1] for line in mounts]):
            if Path(place).is_relative_to(self._folder):  # left by one that was killed
                subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def base_tarball() -> Path:
    """Return a Debian as a tar file, made once in a week for all test runs of this user.

    Raises:
        NoEngine: Debian's archive cannot be reached.
    """
    kept = _cache() / f"{SUITE}.tar"
    with _one_at_a_time("debootstrap"):
        if kept.exists() and time.time() - kept.stat().st_mtime < KEPT_S:
            return kept
        with tempfile.TemporaryDirectory(prefix="rolekit-debian-", dir="/var/tmp") as folder:
            root, new = Path(folder) / "root", kept.with_suffix(".new")
            command = [find("debootstrap"), "--variant=minbase", SUITE, str(root), MIRROR]
            done = subprocess.run(
                command, capture_output=True, check=False, env=os.environ | {"PATH": PLACES}
            )
            if done.returncode:
                said = (done.stdout + done.stderr)[-SAID_BYTES:].decode(errors="replace")
                raise NoEngine(f"{' '.join(command)} failed: {said}")
            left_out = ["var/cache/apt", "usr/share/doc", "usr/share/man", "usr/share/locale"]
            excluded = [f"--exclude=./{place}/*" for place in left_out]
            subprocess.run(["tar", "-C", root, *excluded, "-cf", new, "."], check=True)
            new.rename(kept)
        return kept


def _cache() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "rolekit-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _one_at_a_time(what: str) -> Generator[None]:
    """Keep several test processes from doing the same work side by side."""
    with (_cache() / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Get the programs and the base image, or say what will be skipped, and why."""
    try:
        for program in PROGRAMS:
            find(program)
        print(f"Container engine for tests: {find('dockerd')}, {base_tarball()}")  # noqa: T201
        with PrivateEngine():
            return 0
    except NoEngine as error:
        print(f"Tests of containers will be skipped: {error}", file=sys.stderr)  # noqa: T201
        return 0


if __name__ == "__main__":
    sys.exit(main())
