"""A fleet of mailflow that is killed piece by piece, and what it had in hand each time.

Every process is signalled through a pidfd, and only after its start time was compared with
the one it had when the supervisor named it: a pid that the kernel gave to somebody else in
between is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx
import msgspec

from examples.mailflow import fleet
from examples.mailflow.load import Target
from rolekit.supervisor.status import FleetStatus
from tests.patience import patient
from tests.servers import free_port

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    import asyncpg

RELAY = "(relay)"
SUPERVISOR = "(supervisor)"
READY_S = patient(30.0)
MOST = 0.5
"""Of a fleet; while fewer are ready, a busy machine is left time to start them."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a fleet, named so that it can be no other.

    Attributes:
        role: Of the instance, or `SUPERVISOR`.
        pid: Its number,
        started: and when it began, in the kernel's ticks.
    """

    role: str
    pid: int
    started: str

    def kill(self) -> bool:
        """Kill it with SIGKILL, if it is still there; say whether it was."""
        try:
            held = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # From here on the pidfd is this process's, so what is read now is about it.
            if _stat(self.pid).get("started") != self.started:
                return False
            signal.pidfd_send_signal(held, signal.SIGKILL)
        except ProcessLookupError:
            return False
        finally:
            os.close(held)
        return True


class MailflowFleet:
    """`rolekit up` of mailflow, on ports that stay when its supervisor is started again.

    Args:
        home: Folder for its log and control socket.
        database: URL.
        settings: Environment variables besides the ports.
        broker: URL of another database for the queues; empty: the same.

    Attributes:
        ready_share: Of all places, those that were filled when `processes` looked last.
    """

    def __init__(
        self, home: Path, database: str, settings: Mapping[str, str], broker: str = ""
    ) -> None:
        ports = {name: free_port() for name in ("MAILFRONT", "SMTP")}
        binds = {f"ROLEKIT_{name}__BIND": f"127.0.0.1:{port}" for name, port in ports.items()}
        self.home = fleet.Home(folder=home, database=database, settings={**binds, **settings})
        self.target = Target(
            front=f"http://127.0.0.1:{ports['MAILFRONT']}",
            smtp_host="127.0.0.1",
            smtp_port=ports["SMTP"],
        )
        self._command = ("-m", "rolekit", "up")
        if broker:
            self._command = ("-m", "tests.process.two_databases", broker)
        self.ready_share = 1.0
        self._process: asyncio.subprocess.Process | None = None
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(home / fleet.CONTROL)),
            base_url="http://rolekit",
            timeout=patient(5),
        )

    async def __aenter__(self) -> Self:
        self.home.folder.mkdir(parents=True, exist_ok=True)
        await self.start()
        try:
            await self.ready()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()
        if self._process is not None:
            await fleet.stop(self._process)

    @property
    def log(self) -> str:
        """What `rolekit up` wrote, all its lives together."""
        return self.home.log.read_text(encoding="utf-8", errors="replace")

    @property
    def is_up(self) -> bool:
        """Whether its supervisor lives."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start a supervisor; it need not be ready when this returns."""
        with self.home.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *self._command,
                env=self.home.environment(), cwd=fleet.ROOT, stdin=asyncio.subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    async def restart(self) -> Process:
        """Kill the supervisor and start another at once; return the one that died."""
        assert self._process is not None
        old = self._process
        victim = Process(SUPERVISOR, old.pid, _stat(old.pid)["started"])
        old.kill()  # its own child, not reaped yet: the pid cannot be another's
        await old.wait()
        await self.start()
        return victim

    async def status(self) -> FleetStatus | None:
        """Ask the control socket what `rolekit ps --json` prints; None while it is silent."""
        with contextlib.suppress(httpx.TransportError, msgspec.MsgspecError):
            answer = await self._http.get("/ps")
            return msgspec.json.decode(answer.content, type=FleetStatus)
        return None

    async def ready(self, within_s: float = READY_S) -> None:
        """Wait until every place of every role is filled.

        Raises:
            AssertionError: They were not, in time; with the end of the log.
        """
        until = asyncio.get_running_loop().time() + within_s
        while asyncio.get_running_loop().time() < until:
            status = await self.status()
            if status is not None and status.state == "ready":
                return
            assert self.is_up, self.home.tail()
            await asyncio.sleep(0.1)
        raise AssertionError(f"not ready in {within_s} s:\n{self.home.tail()}")

    async def processes(self) -> list[Process]:
        """List the instances that have a process now, the relay's included.

        `ps` leaves the relay out while it is well; it is the only child of the zygote that
        `ps` does not name. Processes are listed before `ps` is asked, so that one which is
        born in between is in neither.
        """
        if self._process is None:
            return []
        children = _children()
        wardens = children.get(self._process.pid, {})
        zygotes = [pid for warden in wardens for pid in children.get(warden, {})]
        born = {pid: at for zygote in zygotes for pid, at in children.get(zygote, {}).items()}
        status = await self.status()
        if status is None:
            return []
        places = [place for role in status.roles for place in role.places]
        self.ready_share = sum(place.state == "ready" for place in places) / len(places)
        named = {
            place.pid: role.role
            for role in status.roles
            for place in role.places
            if place.pid is not None
        }
        unnamed = [pid for pid in born if pid not in named and _stat(pid)]
        relays = {unnamed[0]: RELAY} if len(unnamed) == 1 else {}
        return [
            Process(role, pid, born[pid])
            for pid, role in (named | relays).items()
            if pid in born
        ]


@dataclass(slots=True)
class Killings:
    """Who was killed, by role; `idle` counts the times when there was nobody to kill."""

    by_role: Counter[str] = field(default_factory=Counter[str])
    idle: int = 0

    def count(self, killed: Process | None) -> None:
        """Note one kill, or that there was none."""
        if killed is None:
            self.idle += 1
        else:
            self.by_role[killed.role] += 1

    @property
    def workers(self) -> int:
        """Kills of instances that take messages from queues."""
        others = {"MailFront", "Smtp", RELAY, SUPERVISOR}
        return sum(count for role, count in self.by_role.items() if role not in others)


async def kill_for(
    seconds: float,
    every_s: float,
    victims: MailflowFleet,
    chance: random.Random,
    is_enough: Callable[[Killings], Awaitable[bool]],
) -> Killings:
    """Kill one process after another, all of them equally likely, now and then a chosen one.

    Chosen are the relay after one and three quarters of the time, and the supervisor at half
    of it. The time in which there is nobody to kill, since a supervisor is just starting or
    most of a fleet is, does not count, up to half as much again. A turn that comes late is
    not made up for; on a busy machine, where many do, it goes on until it is enough, up to
    the test's patience.
    """
    killings = Killings()
    loop = asyncio.get_running_loop()
    turn = begun = loop.time()
    chosen = [(0.25, RELAY), (0.5, SUPERVISOR), (0.75, RELAY)]
    async with _known(victims) as known:
        while (passed := loop.time() - begun) < seconds + min(
            killings.idle * every_s, seconds / 2
        ) or (passed < patient(2 * seconds) and not await is_enough(killings)):
            wanted = chosen.pop(0)[1] if chosen and passed > chosen[0][0] * seconds else ""
            if wanted == SUPERVISOR:
                killings.count(await victims.restart())
            elif victims.ready_share < MOST and not wanted:
                killings.count(None)
            else:
                order = chance.sample(known, len(known))
                order.sort(key=lambda process: process.role != wanted)
                killings.count(next((process for process in order if process.kill()), None))
            turn = max(turn + every_s, loop.time())
            await asyncio.sleep(turn - loop.time())
    return killings


@contextlib.asynccontextmanager
async def _known(fleet: MailflowFleet) -> AsyncGenerator[list[Process]]:
    """Keep a list of a fleet's instances up to date; some of them may have died since."""
    known: list[Process] = await fleet.processes()
    is_over = False

    async def look() -> None:
        # Never cancelled while it asks: a socket that becomes readable in that moment sets the
        # result of a future of anyio that is cancelled already, and the loop reports it.
        while not is_over:
            known[:] = await fleet.processes()
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(look())
        try:
            yield known
        finally:
            is_over = True


@dataclass(frozen=True, slots=True)
class Freed:
    """What dead instances had claimed, as the database saw it when it was handed back.

    Attributes:
        by_role: Instances that died with at least one claimed message.
        rows: Claimed messages that came again.
    """

    by_role: Counter[str]
    rows: int

    @property
    def owners(self) -> int:
        """How many instances that were."""
        return self.by_role.total()


async def watch_claims(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Have the database note each claim that ends because its owner died.

    An instance that lives never marks what it gives back as suspect; what is handed back
    for the dead is marked, in the very statement that takes the owner's number away. So
    what is noted under an owner is what it held in the moment it died.
    """
    await connection.execute("""
        create schema audit;
        create table audit.freed (owner bigint, n bigint, queue text, by xid8);
        create function audit.note() returns trigger language plpgsql as $$
            begin
                insert into audit.freed
                values (old.owner, old.n, old.queue, pg_current_xact_id());
                return null;
            end $$;
        create trigger freed after update on rolekit_mailflow.queue for each row
            when (old.owner is not null and new.owner is null and new.is_suspect)
            execute function audit.note();
    """)


async def freed_claims(connection: asyncpg.Connection[asyncpg.Record]) -> Freed:
    """Count what the dead had claimed, leaving out those that died with their supervisor.

    Those are handed back together in one transaction, the others one by one.
    """
    found = await connection.fetch("""
        with alone as (select by from audit.freed group by by having count(distinct owner) = 1)
        select owner, split_part(min(queue), '.', 1) as role, count(*) as rows
        from audit.freed join alone using (by) group by owner
    """)
    by_role = Counter(str(row["role"]) for row in found)
    return Freed(by_role=by_role, rows=sum(row["rows"] for row in found))


def _stat(pid: int) -> dict[str, str]:
    """Read a process's parent and start time; empty when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    after_name = fields.rpartition(")")[2].split()
    return {"parent": after_name[1], "started": after_name[19]}


def _children() -> dict[int, dict[int, str]]:
    """Map each process to its children, and those to their start times."""
    found: dict[int, dict[int, str]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (stat := _stat(int(folder.name))):
            found.setdefault(int(stat["parent"]), {})[int(folder.name)] = stat["started"]
    return found
