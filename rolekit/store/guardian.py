"""The guardian: a small process of its own that keeps a private PostgreSQL alive while used.

`embedded` starts this file as a script, by path, with nothing but the standard library:
the guardian outlives whoever started it, so it must be small (8 MB) and know nothing of apps.

Who holds which lock decides everything, and the kernel lets go of the locks of the dead:

    users.lock     shared by each process that uses the server, for as long as it does
    guardian.lock  exclusive: the one guardian

    starting --ready--> serving --server died--> starting
    serving  --users.lock taken exclusively: nobody is left--> stopping --> exit
    serving  --SIGTERM--> stopping --> exit (a user that is left starts another)

A user that comes while the guardian stops waits for `users.lock`, then starts another.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

USER = "rolekit"
DATABASE = "rolekit"
TURN_S = 0.1
STOP_S = 10.0
"""How long each way to stop may take before the next, rougher one."""

MAX_PAUSE_S = 2.0
MAX_LOG_BYTES = 10_000_000


class StartFailed(Exception):
    """The server cannot be started."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one embedded server lives.

    Attributes:
        base: Directory of data, locks and log.
        sockets: Directory of its socket; short, because the path of a socket may have
            about 100 bytes.
        binaries: Directory with `postgres` and `initdb`.
    """

    base: Path
    sockets: Path
    binaries: Path

    @property
    def data(self) -> Path:
        """Return the data directory."""
        return self.base / "data"

    @property
    def log(self) -> Path:
        """Return the file of the server's log."""
        return self.base / "server.log"

    @property
    def lock_file(self) -> Path:
        """Return the server's own lock file."""
        return self.data / "postmaster.pid"

    @property
    def users_lock(self) -> Path:
        """Return the file whose lock users share."""
        return self.base / "users.lock"

    @property
    def guardian_lock(self) -> Path:
        """Return the file whose lock the guardian holds."""
        return self.base / "guardian.lock"


class Account(NamedTuple):
    """Whose rights PostgreSQL runs with; it refuses those of root, who lends it others.

    Attributes:
        uid: User id.
        gid: Group id.
        borrowed: 1 if it is another account than ours.
        passes: 1 if it needs help to enter directories on its way.
    """

    uid: int
    gid: int
    borrowed: int = 0
    passes: int = 0


def take_lock(path: Path, kind: int) -> int | None:
    """Take the lock at `path` without waiting; closing the descriptor lets it go.

    Args:
        path: File that carries the lock; made if missing.
        kind: `fcntl.LOCK_SH` or `fcntl.LOCK_EX`.

    Returns:
        The descriptor that holds the lock, or None when it is taken.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


def _prctl(option: int, *values: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    if libc.prctl(option, *padded) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def become(account: Account, guardian: int) -> None:
    """Run in the new process, before PostgreSQL: change rights, and die with the guardian."""
    linux = sys.platform == "linux"
    if account.borrowed:
        if account.passes and linux:
            _prctl(_PR_SET_KEEPCAPS, 1)
        os.setgroups([])
        os.setgid(account.gid)
        os.setuid(account.uid)
        if account.passes and linux:
            _keep_passing()
    if linux:  # after setuid, which forgets it
        _prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != guardian:
            os._exit(1)


def _keep_passing() -> None:
    """Keep of root's rights only the one to enter directories, through exec too.

    A project in /root, or in a private temporary directory, is not reachable for another
    account; opening those directories to everyone would be worse.

    Source: capabilities(7), "Ambient set".
    """
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    bit = 1 << _CAP_DAC_OVERRIDE
    data = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)  # effective, permitted, inheritable
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(header, data) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE)


class Server:
    """One PostgreSQL server: its data, its process.

    Args:
        place: Where it lives.
        account: Whose rights it gets.
        settings: "name=value" each; given on the command line, they win over every file.
    """

    def __init__(self, place: Place, account: Account, settings: list[str]) -> None:
        self._place = place
        self._account = account
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the process runs; it may still be starting."""
        return self._process is not None and self._process.poll() is None

    @property
    def is_ready(self) -> bool:
        """Whether it says, in its lock file, that it takes connections."""
        if self._process is None:
            return False
        lines = [line.strip() for line in self._lock_lines()]
        return lines[:1] == [str(self._process.pid)] and lines[7:] == ["ready"]

    def create_data(self) -> None:
        """Make the data directory and the database, unless they are there.

        They are made under another name and renamed, so a half-made one never counts.
        """
        if self._place.data.exists():
            return
        new = self._place.base / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self._own(new)
        self._run(
            [
                *("initdb", "-D", str(new), "-U", USER, "--auth=trust", "--encoding=UTF8"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
            ]
        )
        single = ["postgres", "--single", "-D", str(new), "postgres"]
        self._run(single, typed=f"create database {DATABASE}\n")
        new.rename(self._place.data)

    def start(self) -> None:
        """Start the process; `is_ready` says when it can be used."""
        self._place.sockets.mkdir(mode=0o700, exist_ok=True)
        self._own(self._place.sockets)
        self._clear_lock_file()
        options = [part for setting in self._settings for part in ("-c", setting)]
        with self._open_log() as log:
            command = ["postgres", "-D", str(self._place.data), *options]
            self._process = self._spawn(command, log=log)

    def stop(self) -> None:
        """Stop it fast, and if that takes too long at once; its data survive both."""
        signs = [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL]
        while self.is_alive and self._process is not None:
            self._process.send_signal(signs.pop(0) if signs else signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        with contextlib.suppress(OSError):
            self._place.sockets.rmdir()

    def _clear_lock_file(self) -> None:
        """Deal with the lock file of a server before this one.

        An orphan of a killed guardian is waited for. A number that now belongs to some
        other process (after a reboot, or in a container) would keep PostgreSQL from
        starting for ever; shared memory, which it checks too, still guards the data.
        """
        deadline_s = time.monotonic() + STOP_S
        while (orphan := self._orphan()) is not None and time.monotonic() < deadline_s:
            os.kill(orphan, signal.SIGINT)
            time.sleep(TURN_S)
        if orphan is None:
            self._place.lock_file.unlink(missing_ok=True)

    def _orphan(self) -> int | None:
        """Return the process id of another server on these data, if one runs."""
        lines = self._lock_lines()
        if not lines or not lines[0].isdigit():
            return None
        pid = int(lines[0])
        try:
            runs_here = Path(f"/proc/{pid}/cwd").readlink() == self._place.data
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            return None
        return pid if runs_here and name == "postgres" else None

    def _lock_lines(self) -> list[str]:
        try:
            return self._place.lock_file.read_text().splitlines()
        except OSError:
            return []

    def _own(self, path: Path) -> None:
        if self._account.borrowed:
            os.chown(path, self._account.uid, self._account.gid, follow_symlinks=False)

    def _open_log(self) -> IO[bytes]:
        log = self._place.log
        if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
            log.rename(log.with_suffix(".log.1"))
        return log.open("ab")

    def _run(self, command: list[str], *, typed: str = "") -> None:
        with self._open_log() as log:
            process = self._spawn(command, log=log, stdin=subprocess.PIPE)
            process.communicate(typed.encode())
        if process.returncode != 0:
            raise StartFailed(f"{command[0]} ended with status {process.returncode}.")

    def _spawn(
        self, command: list[str], *, log: IO[bytes], stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        guardian = os.getpid()
        try:
            return subprocess.Popen(  # noqa: S603 (our own wheel's program)
                [str(self._place.binaries / command[0]), *command[1:]],
                stdin=stdin,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},  # nothing of PG* leaks in
                preexec_fn=lambda: become(self._account, guardian),  # noqa: PLW1509 (one thread)
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise StartFailed(
                f"{command[0]} could not be run by user {self._account.uid}: {error}."
            ) from error


class Guardian:
    """Keeps one server alive until nobody uses it."""

    def __init__(self, place: Place, server: Server) -> None:
        self._place = place
        self._server = server
        self._is_told_to_stop = False

    def run(self, answer: IO[str]) -> int:
        """Serve until the last user has gone.

        Args:
            answer: Gets one line of JSON when the server is ready, cannot start, or has a
                guardian already; then it is closed.

        Returns:
            The exit status.
        """
        lock = take_lock(self._place.guardian_lock, fcntl.LOCK_EX)
        if lock is None:
            return _say(answer, state="busy")
        signal.signal(signal.SIGTERM, self._tell_to_stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            self._server.create_data()
            self._start()
        except (StartFailed, OSError) as error:
            self._server.stop()
            return _say(answer, state="failed", what=str(error))
        _say(answer, state="ready")
        self._serve()
        return 0

    def _tell_to_stop(self, _signal: int, _frame: object) -> None:
        self._is_told_to_stop = True

    def _start(self) -> None:
        """Start and wait until ready; recovery after a crash takes the time it takes."""
        self._server.start()
        while not self._server.is_ready:
            if not self._server.is_alive:
                raise StartFailed("The embedded PostgreSQL ended while it was starting.")
            if self._is_told_to_stop or self._nobody_is_left() is not None:
                self._server.stop()
                raise StartFailed("The embedded PostgreSQL was told to stop.")
            time.sleep(TURN_S / 5)

    def _serve(self) -> None:
        pause_s = TURN_S
        while not self._is_told_to_stop and self._nobody_is_left() is None:
            if self._server.is_alive:
                pause_s = TURN_S if self._server.is_ready else pause_s
            else:
                pause_s = min(pause_s * 2, MAX_PAUSE_S)
                self._server.start()
            time.sleep(pause_s)
        self._server.stop()

    def _nobody_is_left(self) -> int | None:
        """Return the lock that keeps new users waiting, until exit, if there is no user now."""
        return take_lock(self._place.users_lock, fcntl.LOCK_EX)


def _say(answer: IO[str], **words: str) -> int:
    json.dump(words, answer)
    answer.close()
    return 0


def main(arguments: list[str]) -> int:
    """Leave whoever started us, then guard: base, sockets, binaries, the account, settings.

    The first process ends at once, so nobody has a child to bury.
    """
    place = Place(*(Path(argument) for argument in arguments[:3]))
    account = Account(*(int(argument) for argument in arguments[3:7]))
    if os.fork() != 0:
        return 0
    os.setsid()
    os.chdir("/")
    answer = os.fdopen(os.dup(1), "w")  # dup: not for the children, or the line never ends
    empty = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(empty, standard)
    return Guardian(place, Server(place, account, arguments[7:])).run(answer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
