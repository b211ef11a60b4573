"""A dashboard on an app that is made up: 50 roles, 1,000 instances, some of it in trouble."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import uvicorn

from rolekit.dashboard.drawing import Arrow, Box, Drawing, Handling
from rolekit.dashboard.pages import Options, application
from rolekit.errors import ConfigError, RolekitError, Unavailable
from rolekit.flow.holes import Line
from rolekit.model.envelope import Packet
from rolekit.model.span import Span
from rolekit.store.postgres.traces import Kept
from rolekit.store.records import DeadLetterRow
from rolekit.supervisor.sockets import listen
from rolekit.supervisor.status import FleetStatus, InstanceStatus, RoleStatus
from rolekit.supervisor.usage import FleetUsage, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from rolekit.store.letters import Letters
    from rolekit.store.postgres.audit import Act

ROLES, INSTANCES = 50, 1000
ATTACK = "<img src=x onerror=alert(1)>"
LONG = "0" * 64
"""A word that is wider than a narrow window, as ids of blobs are."""
TRACE = "0af7651916cd43dd8448eb211c80319c"


class MadeUpFleet:
    """Says that all is well, but for one role."""

    def __init__(self) -> None:
        self.asked = 0
        self.told: list[tuple[str, str]] = []

    def status(self) -> FleetStatus:
        self.asked += 1
        return FleetStatus(
            app="shop", target="shop:app", pid=1, state="ready",
            is_database_away=False,
            roles=tuple(self._role(number) for number in range(ROLES)),
        )  # fmt: skip

    def _role(self, number: int) -> RoleStatus:
        each = INSTANCES // ROLES
        places = tuple(
            InstanceStatus(
                name=f"Role{number}/{place}", state="ready", pid=1000 + number * each + place,
                restarts=0, in_hand=(place + self.asked) % 3, rate=place / 3, lag_ms=234,
            )
            for place in range(each)
        )  # fmt: skip
        return RoleStatus(
            role=f"Role{number}",
            state="crash-looping" if number == 7 else "ready",
            running=each, instances=each,
            ready=each + (number == 3), in_hand=self.asked % 50,
            waiting=number * 100, oldest_s=number / 10, rate=100 + number,
            dead=int(number == 7), why=f"{ATTACK} {LONG}" if number == 7 else "", places=places,
        )  # fmt: skip

    def usage(self) -> FleetUsage:
        pids = range(1000, 1000 + INSTANCES)
        used = tuple(Usage(pid, self.asked * 0.01, 9 << 20) for pid in pids)
        at_s = time.monotonic()
        return FleetUsage(
            at_s=at_s, status=self.status(), supervisor=Usage(1, at_s / 100, 80 << 20),
            processes=used,
        )  # fmt: skip

    def scale(self, role: str, count: str) -> int:
        if not count:
            raise ConfigError("'' is not a number of instances.", fix="Say 5, +2 or -2.")
        self.told.append((role, count))
        return int(count)

    def restart(self, role: str) -> str:
        self.told.append((role, "restart"))
        return f"{role} was restarted."


LETTER = DeadLetterRow(
    id="d" * 32 + "-0", packet=Packet(id="d" * 32, queue="", head=b"", body=b""),
    handler="Role7.take", type="Order", reason=f"{ATTACK} {LONG}",
    traceback="Traceback: …", attempts=8, at_ms=1_790_000_000_000,
)  # fmt: skip


class MadeUpConsole:
    """One sequence, one dead letter, one trace."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Sequence[str]]] = []
        self.acts: list[Act] = []
        self.is_away = False

    async def note(self, act: Act) -> None:
        if self.is_away:
            raise Unavailable("The database is away.")
        self.acts.append(act)

    async def holes(self, limit: int) -> list[Line]:
        return [
            Line(
                sequence="s" * 32, of="Order", source_id="o" * 32, gather="Role9.join",
                blocked_at="112", total=240, released=111, since_s=41,
                why=f"Role9.join waits for {LONG}: {ATTACK}",
            )
        ]  # fmt: skip

    async def letters(self, which: Letters, limit: int) -> list[DeadLetterRow]:
        return [LETTER] if which.reason.lower() in LETTER.reason else []

    async def letter(self, id_: str) -> tuple[DeadLetterRow, str]:
        if id_ != LETTER.id:
            raise RolekitError(f"There is no dead letter {id_}.")
        return LETTER, f'{{"note": "{ATTACK}"}}'

    async def replay(self, ids: Sequence[str]) -> int:
        self.told.append(("replay", ids))
        return len(ids)

    async def drop(self, ids: Sequence[str]) -> int:
        self.told.append(("drop", ids))
        return len(ids)

    async def traces(self, limit: int) -> list[Kept]:
        return [
            Kept(
                id=TRACE,
                at=1_790_000_000,
                grade=2,
                spans=2,
                name=f"POST {ATTACK}",
                seconds=0.004,
            )
        ]

    async def trace(self, id_: str) -> list[Span]:
        if id_ != TRACE:
            return []
        begun = 1_790_000_000_000_000_000
        first = Span(
            trace=TRACE, id="a" * 16, name="send Order", begun_ns=begun, ended_ns=begun + 10**6
        )
        second = Span(
            trace=TRACE, id="b" * 16, parent="a" * 16, name=f"process {ATTACK}",
            begun_ns=begun + 10**6, ended_ns=begun + 5 * 10**6,
            message="o" * 32, error="ValueError",
        )  # fmt: skip
        return [first, second]


def made_up_drawing(columns: int) -> Drawing:
    rows = -(-ROLES // columns)
    boxes = tuple(
        Box(
            role=f"Role{number}", column=number // rows, row=number % rows,
            handlers=(Handling(name="take", kind="handle", takes=("Order",)),),
        )
        for number in range(ROLES)
    )  # fmt: skip
    arrows = tuple(
        Arrow(sender=f"Role{number}", taker=f"Role{number + rows}", names=("Order",))
        for number in range(ROLES - rows)
    )
    return Drawing(boxes=boxes, arrows=arrows)


@contextlib.asynccontextmanager
async def board(
    options: Options,
    fleet: MadeUpFleet,
    console: MadeUpConsole,
    *,
    columns: int = 10,
    drawing: Drawing | None = None,
) -> AsyncGenerator[str]:
    """Serve it, with a drawing of so many columns or the one given; give its address."""

    @contextlib.asynccontextmanager
    async def opened() -> AsyncGenerator[MadeUpConsole]:
        yield console

    def drawn() -> Drawing:
        return made_up_drawing(columns) if drawing is None else drawing

    app = application(fleet, opened, drawn, options)
    with listen("The dashboard", "127.0.0.1:0", "--bind") as listening:
        config = uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
