"""Standard output of an instance: whole lines, and never a wait for who reads them."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from rolekit.supervisor.output import Outlet

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE = "x" * 999 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def stream_to(fd: int) -> io.TextIOWrapper:
    outlet = Outlet(fd)
    outlet.never_wait()
    return io.TextIOWrapper(io.BufferedWriter(outlet), line_buffering=True)


def read_all(fd: int) -> str:
    os.set_blocking(fd, False)
    found = b""
    with suppress(BlockingIOError):
        while data := os.read(fd, 65_536):
            found += data
    return found.decode()


@pytest.mark.timeout(10)
def test_a_full_pipe_loses_lines_and_says_later_how_many(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    stream = stream_to(writing)

    for _ in range(200):
        stream.write(LINE)
    first = read_all(reading)
    stream.write("after\n")
    then = read_all(reading)

    kept = first.count(LINE)
    assert 0 < kept < 200
    assert then == f"\n{200 - kept} lines were lost here: nobody read them in time\nafter\n"


def test_a_line_longer_than_a_piece_comes_whole(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    line = "é" * 10_000 + "\n"

    stream_to(writing).write(line)

    assert read_all(reading) == line


def test_nobody_who_reads_any_more_is_no_error(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)

    stream_to(writing).write("last words\n")
