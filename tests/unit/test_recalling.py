"""Hosts ask one another for what they remember: once each, bounded, and what lacks counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolekit.errors import Unavailable
from rolekit.model.span import Recall, Span
from rolekit.observe import recalling
from rolekit.observe.recalling import Recalling

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.anyio]


class Board:
    """What hosts ask for, where all of them see it."""

    def __init__(self) -> None:
        self.is_away = False
        self.asked: list[tuple[Recall, str]] = []

    async def recall(self, some: Sequence[tuple[Recall, str]]) -> None:
        if self.is_away:
            raise Unavailable("The database is away.")
        self.asked += some

    async def recalled(self) -> Sequence[Recall]:
        return list({recall.root: recall for recall, _ in self.asked}.values())

    async def drop_recalls(self) -> int:
        return 0


def late(root: str, *, parent: str = "b" * 16, **attributes: str) -> Span:
    """Make the first span of a trace that is kept from there on."""
    return Span(
        trace=root, id="a" * 16, parent=parent, name="process X", begun_ns=1, is_late=True,
        attributes={"messaging.message.conversation_id": root, **attributes},
    )  # fmt: skip


async def test_every_host_is_told_once_of_what_any_of_them_wants() -> None:
    board = Board()
    told: list[list[Recall]] = [[], []]
    hosts = [Recalling(board, one.extend) for one in told]
    hosts[0].take(late("1" * 32))

    for host in (*hosts, *hosts):
        await host.run_once()
    hosts[1].take(late("1" * 32))
    await hosts[1].run_once()

    assert told == [[Recall("1" * 32, "1" * 32)]] * 2
    assert board.asked == [(Recall("1" * 32, "1" * 32), "b" * 16)]


async def test_what_is_wanted_while_nobody_can_be_asked_is_asked_for_later() -> None:
    board, told = Board(), list[Recall]()
    host = Recalling(board, told.extend)
    host.take(late("1" * 32))
    board.is_away = True
    with pytest.raises(Unavailable):
        await host.run_once()
    board.is_away = False

    await host.run_once()

    assert [one.root for one in told] == ["1" * 32]


async def test_what_nobody_can_remember_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recalling, "WAITING", 3)
    host = Recalling(Board(), lambda _: None)

    host.take(late("1" * 32, parent=""))  # it was sent too long ago
    host.take(late("2" * 32, parent="", **{"rolekit.kind": "release"}))  # nobody sent it
    host.take(late("3" * 32))
    host.take(late("4" * 32))  # too many at once

    assert host.cut == 2
