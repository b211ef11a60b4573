"""What the store in memory notes to be sent, now or later: outbox and schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rolekit.store.memory_tables import LeavingRow
from rolekit.store.records import SCHEDULE, Commit, Due, Outgoing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.model.envelope import Packet
    from rolekit.store.memory_tables import MemoryTables


class MemorySending:
    """What every part of the store in memory sends with."""

    tables: MemoryTables
    owner: int

    def _send(self, packets: Sequence[Packet], commit: Commit) -> None:
        for packet in packets:
            self._send_row([packet], commit)

    def _send_row(self, packets: Sequence[Packet], commit: Commit) -> None:
        """Note packets in one row of the outbox."""
        now_ms = self.tables.clock.now_ms()
        born = [
            msgspec.structs.replace(packet, birth_ms=packet.birth_ms or now_ms)
            for packet in packets
        ]
        n = self.tables.next_number()
        self.tables.outbox[n] = LeavingRow(born, self.owner)
        commit.leaving += [Outgoing(n, packet) for packet in born]

    def _plan(self, later: Sequence[Due], commit: Commit) -> None:
        if later:
            commit.topics.add(SCHEDULE)
        for due in later:
            self.tables.schedule[self.tables.next_number()] = due
