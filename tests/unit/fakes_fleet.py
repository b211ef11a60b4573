"""A fleet that only says what it was told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolekit.errors import ConfigError
from rolekit.supervisor.journal import Journal
from rolekit.supervisor.status import FleetStatus
from rolekit.supervisor.upgrades import Outcome, Restart, Wish
from rolekit.supervisor.usage import FleetUsage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rolekit.supervisor.control_logs import LogLine, LogsOrder


class FakeFleet:
    """Obeys the control API."""

    def __init__(self) -> None:
        self.ready = True
        self.journal = Journal(lambda _: None)
        self.orders: list[tuple[object, ...]] = []

    async def status(self) -> FleetStatus:
        return FleetStatus(
            app="words",
            target="words:app",
            pid=7,
            state="ready",
            is_database_away=False,
            roles=(),
        )

    async def metrics(self) -> str:
        return "rolekit_in_hand 1\n"

    async def usage(self) -> FleetUsage:
        return FleetUsage(at_s=1, status=await self.status(), supervisor=None, processes=())

    def is_ready(self) -> bool:
        return self.ready

    def scale(self, role: str, change: str) -> int:
        if role != "Deliverer":
            raise ConfigError(f"There is no role {role}.", fix="The roles are Deliverer.")
        self.orders.append(("scale", role, change))
        return 5

    def drain(self, role: str, *, undo: bool) -> int:
        self.orders.append(("drain", role, undo))
        return 5

    def restart(self, wish: Wish) -> Restart:
        self.orders.append(("restart", wish.role, wish.to))
        restart = Restart()
        restart.say("Importing words:app.")
        restart.end(Outcome(is_done=True))
        return restart

    def logs(self, order: LogsOrder) -> AsyncIterator[LogLine]:
        if order.role == "X":
            raise ConfigError("There is no role X.", fix="The roles are Deliverer.")
        return self.journal.tell(order)

    async def reload(self) -> list[str]:
        return ["Nothing changed."]

    def ask_to_stop(self, *, hard: bool) -> None:
        self.orders.append(("stop", hard))
