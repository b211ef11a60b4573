"""Records between supervisor and zygote: whole and in order, with their files."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from rolekit.supervisor.channel import Incoming, Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterator

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def read_through(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        return file.read()


def test_records_that_come_together_are_told_apart_each_with_its_files(ends: Ends) -> None:
    one, other = ends
    for n in range(3):
        told, telling = os.pipe()
        os.write(telling, b"%d" % n)
        os.close(telling)
        Outgoing(b"record %d" % n, (told,) * n).send(one)
        os.close(told)
    incoming = Incoming(other)

    for n in range(3):
        found = incoming.next()
        assert found is not None
        assert found[0] == b"record %d" % n
        assert len(found[1]) == n
        assert b"".join(read_through(fd) for fd in found[1]) == (b"%d" % n if n else b"")


def test_a_record_that_does_not_fit_is_sent_in_parts(ends: Ends) -> None:
    one, other = ends
    for end in ends:
        end.setblocking(False)  # noqa: FBT003 - the only way to say it
    long = os.urandom(1 << 20)
    outgoing, incoming = Outgoing(long, (one.fileno(),)), Incoming(other)
    parts, found = 0, None

    while found is None:
        try:
            outgoing.send(one)
        except BlockingIOError:
            parts += 1
        try:
            found = incoming.next()
        except BlockingIOError:
            continue

    assert parts > 1
    assert found[0] == long
    (fd,) = found[1]
    os.close(fd)


def test_the_end_of_the_other_is_seen_and_what_it_left_unsaid_is_not_a_record(
    ends: Ends,
) -> None:
    one, other = ends
    one.sendall(b"\0\0\0\x09\0half")
    one.close()

    assert Incoming(other).next() is None


def test_who_does_not_wait_is_told_that_nothing_is_there(ends: Ends) -> None:
    with pytest.raises(BlockingIOError):
        Incoming(ends[0]).next(waits=False)
