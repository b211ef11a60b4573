"""The supervisor's own standard error: nobody who does not read it holds it up."""

from __future__ import annotations

import os

import pytest

from rolekit.supervisor.printer import Printer


def test_lines_come_in_order_and_rendered() -> None:
    reading, writing = os.pipe()
    printer = Printer(writing, bytes.upper)

    with printer.running():
        for word in (b"one", b"two"):
            printer(word)

    os.close(writing)
    with os.fdopen(reading) as lines:
        assert lines.read() == "ONE\nTWO\n"


@pytest.mark.timeout(10)
def test_one_that_reads_nothing_holds_nobody_up_and_learns_what_it_missed() -> None:
    reading, writing = os.pipe()
    printer = Printer(writing)

    with printer.running():
        for _ in range(10_000):
            printer(b"x" * 1000)
        with os.fdopen(reading) as lines:
            # What waited comes first; half of it read, there is room for what is said then.
            told = [lines.readline() for _ in range(3000)]
            printer(b"again")
            while told[-1] != "again\n":
                told.append(lines.readline())

    os.close(writing)
    lost = [int(line.split()[0]) for line in told if "lines were lost here" in line]
    # How many were lost where depends on when the thread first ran; none goes uncounted.
    assert sum(lost) > 0
    assert sum(line[0] == "x" for line in told) + sum(lost) == 10_000
