"""Guests that listen, and speak a protocol of the user's own."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rolekit.errors import AppError, GuestFailed, Reject
from rolekit.guest import Guest, Limits, Process, Sandbox, Serves, Session
from rolekit.guest.crew import guests_running
from tests.process.guest_programs import Leftovers, first_of, leftovers_in, processes
from tests.process.guest_servers import COUNT, PORT, SOCKET

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

HOSTS = pytest.mark.parametrize(
    ("host", "at"), [(Process(), SOCKET), (Sandbox(), PORT)], ids=["process", "sandbox"]
)


class Counter(Session):
    """Counts words; the connection ends with the answer."""

    async def ready(self) -> None:
        assert await self.read_until(b"\n") == b"hello\n"

    async def tell(self, what: bytes, text: bytes = b"") -> int:
        if not text.isascii():
            raise Reject("it knows ASCII only")
        await self.write(what + b"\n" + text)
        self.end_writing()
        return int(await self.read_to_end() or -1)


class Greedy(Counter):
    """Is never content."""

    async def check(self) -> None:
        raise GuestFailed("it is not well at all.")


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Iterator[Leftovers]:
    with tempfile.TemporaryDirectory(prefix="rk-") as folder:
        leftovers = leftovers_in(Path(folder), monkeypatch)
        yield leftovers
        assert leftovers.all() == []


@HOSTS
async def test_each_call_has_a_connection_of_its_own(
    host: Process | Sandbox, at: str, left: Leftovers
) -> None:
    class Role:
        guest = Guest(
            Serves(Counter, "perl", "-e", COUNT, at, left.token, in_flight=4),
            host=host,
            limits=Limits(time_s=10),
        )

    role = Role()
    async with guests_running(role):
        asked = (role.guest.tell(b"count", b"word " * many) for many in range(10))
        assert await asyncio.gather(*asked) == list(range(10))


@HOSTS
async def test_a_guest_is_replaced_after_a_fault_and_not_after_a_refusal(
    host: Process | Sandbox, at: str, left: Leftovers
) -> None:
    class Role:
        guest = Guest(
            Serves(Counter, "perl", "-e", COUNT, at, left.token),
            host=host,
            limits=Limits(time_s=1),
        )

    role = Role()
    async with guests_running(role):
        first = first_of(left.token)
        with pytest.raises(Reject):
            await role.guest.tell(b"count", b"\xff")
        assert await role.guest.tell(b"count", b"a b") == 2
        assert first_of(left.token) == first

        with pytest.raises(GuestFailed, match="took longer than its time_s"):
            await role.guest.tell(b"hang")

        assert await role.guest.tell(b"count", b"a b") == 2
        assert not first & set(processes(left.token))


async def test_a_check_that_fails_keeps_the_instance_from_starting(left: Leftovers) -> None:
    class Role:
        guest = Guest(
            Serves(Greedy, "perl", "-e", COUNT, PORT, left.token),
            host=Process(),
            limits=Limits(start_s=0.5),
        )

    with pytest.raises(AppError, match=r"not ready within start_s.*it is not well at all"):
        async with guests_running(Role()):
            pass
