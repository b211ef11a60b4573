"""`rolekit top`: what was used until now becomes what is used now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec import structs
from rich.console import Console

from rolekit.cli.ps import NONE
from rolekit.cli.top import Display, size
from rolekit.supervisor.status import FleetStatus, InstanceStatus, RoleStatus
from rolekit.supervisor.usage import FleetUsage, Usage

if TYPE_CHECKING:
    from rich.console import RenderableType


def place(number: int, pid: int | None) -> InstanceStatus:
    return InstanceStatus(
        name=f"Deliverer/{number}",
        state="ready" if pid else "resting",
        pid=pid,
        restarts=number,
        in_hand=10,
        rate=7.5,
        lag_ms=3.4,
    )


def usage(at_s: float, *processes: Usage) -> FleetUsage:
    deliverer = RoleStatus(
        role="Deliverer",
        state="ready",
        running=2,
        instances=3,
        ready=2,
        in_hand=20,
        waiting=4201,
        oldest_s=3.14,
        rate=15,
        dead=3,
        places=(place(0, 10), place(1, 11), place(2, None)),
    )
    status = FleetStatus(
        app="mail\x1b[31m",
        target="mail:app",
        pid=1,
        state="ready",
        is_database_away=False,
        roles=(deliverer,),
    )
    return FleetUsage(
        at_s=at_s, status=status, supervisor=Usage(1, at_s / 100, 50 << 20), processes=processes
    )


def drawn(shown: RenderableType) -> list[list[str]]:
    console = Console(width=200, no_color=True)
    with console.capture() as captured:
        console.print(shown)
    return [line.split() for line in captured.get().splitlines()]


def test_cores_are_what_was_spent_between_two_looks() -> None:
    display = Display()
    display.show(usage(100, Usage(10, 5, 3 << 20), Usage(11, 7, 4 << 20)))

    lines = drawn(display.show(usage(102, Usage(10, 6, 3 << 20), Usage(11, 8.5, 4 << 20))))

    assert lines[-1] == [
        *("Deliverer", "2/3", "2", "20", "4,201", "3.1", "s", "15"),
        *("125", "%", "7.0", "MB", "3", "3"),
    ]
    head = " ".join(lines[0])
    assert "supervisor 1 % 50.0 MB" in head
    assert "\x1b" not in head


def test_the_first_look_and_a_new_process_have_no_cores_yet() -> None:
    display = Display("Deliverer")
    first = drawn(display.show(usage(100, Usage(10, 5, 3 << 20))))

    then = drawn(display.show(usage(101, Usage(10, 5.1, 3 << 20), Usage(11, 9, 1 << 20))))

    assert first[-3][-7:] == ["8", "3", "ms", NONE, "3.0", "MB", "0"]
    assert then[-3] == [
        *("Deliverer/0", "10", "ready", "10", "8", "3", "ms", "10", "%", "3.0", "MB", "0"),
    ]
    assert then[-2][-7:] == ["8", "3", "ms", NONE, "1.0", "MB", "1"]
    assert then[-1] == ["Deliverer/2", NONE, "resting", "10", "8", NONE, NONE, NONE, "2"]


@pytest.mark.parametrize(
    ("count", "text"), [(999, "1 kB"), (5 << 20, "5.0 MB"), (3 << 30, "3.0 GB")]
)
def test_sizes_are_for_people(count: int, text: str) -> None:
    assert size(count) == text


def test_in_a_narrow_terminal_roles_keep_their_names_and_what_is_long_goes_below(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a terminal has it
    monkeypatch.setenv("COLUMNS", "80")
    why = "crash-looping: its instances die within a second of their start, five in a row"
    now = usage(10, Usage(10, 1, 900 << 20), Usage(11, 1, 900 << 20))
    roles = tuple(structs.replace(one, why=why) for one in now.status.roles)
    status = structs.replace(now.status, roles=roles)
    console = Console(width=80, color_system=None)

    with console.capture() as captured:
        console.print(Display().show(structs.replace(now, status=status)))

    lines = [line.rstrip() for line in captured.get().splitlines()]
    headings = "ROLE INSTANCES IN HAND WAITING OLDEST RATE/S CPU MEMORY DEAD"
    assert " ".join(lines[2].split()) == headings
    assert lines[3].split()[0] == "Deliverer"
    assert " ".join(" ".join(lines[4:]).split()) == why
    assert "\N{HORIZONTAL ELLIPSIS}" not in captured.get()
