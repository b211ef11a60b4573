"""Several supervisors shown as one, and `up --dashboard` without an address."""

from __future__ import annotations

import pytest

from rolekit.cli.board_option import DEFAULT_BIND, filled_in
from rolekit.dashboard.joined import PIDS, join, join_usage
from rolekit.supervisor.status import FleetStatus, InstanceStatus, RoleStatus
from rolekit.supervisor.usage import FleetUsage, Usage


def fleet(*roles: RoleStatus, state: str = "ready") -> FleetStatus:
    return FleetStatus(
        app="shop", target="shop:app", pid=1, state=state, is_database_away=False, roles=roles
    )


def role(name: str, *, state: str = "ready", waiting: int | None = 7) -> RoleStatus:
    place = InstanceStatus(name=f"{name}/0", state=state, pid=8, restarts=1, in_hand=2, rate=3)
    return RoleStatus(
        role=name, state=state, running=1, instances=1, ready=int(state == "ready"), in_hand=2,
        waiting=waiting, oldest_s=None, rate=3, dead=4, notes=("slow",), places=(place,),
    )  # fmt: skip


def test_instances_are_added_up_and_what_waits_in_the_shared_queue_is_not() -> None:
    front = fleet(role("Front", waiting=None))
    first, second = fleet(role("Work")), fleet(role("Work", state="starting", waiting=9))

    joined = join(
        [
            ("10.0.0.1:7070", 0, front),
            ("10.0.0.2:7070", 1, first),
            ("10.0.0.3:7070", 2, second),
        ],
        ["smtp:7070"],
    )

    assert [one.role for one in joined.roles] == ["Front", "Work"]
    work = joined.roles[1]
    assert (work.instances, work.ready, work.in_hand, work.rate) == (2, 1, 4, 6)
    assert (work.waiting, work.oldest_s, work.dead) == (9, None, 4)
    assert (work.state, work.notes) == ("starting", ("slow",))
    assert [one.name for one in work.places] == [
        "Work/0 at 10.0.0.2:7070",
        "Work/0 at 10.0.0.3:7070",
    ]
    assert joined.missing == ("smtp:7070",)


def test_processes_of_one_number_in_two_containers_stay_apart() -> None:
    told = [
        (f"10.0.0.{n}:7070", n, FleetUsage(
            at_s=1e6 * n, status=fleet(role("Work")), supervisor=Usage(1, 0.5, 100),
            processes=(Usage(8, float(n), 10),),
        ))
        for n in (3, 5)
    ]  # fmt: skip

    usage = join_usage(told, [], at_s=12.5)

    assert usage.at_s == 12.5
    assert {one.pid: one.cpu_s for one in usage.processes} == {
        3 * PIDS + 8: 3.0,
        5 * PIDS + 8: 5.0,
    }
    assert [one.pid for one in usage.status.roles[0].places] == [3 * PIDS + 8, 5 * PIDS + 8]
    assert usage.supervisor == Usage(usage.status.pid, 1.0, 200)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["up", "--dashboard"], ["up", "--dashboard", DEFAULT_BIND]),
        (["up", "--dashboard", "shop:app"], ["up", "--dashboard", DEFAULT_BIND, "shop:app"]),
        (["up", "--dashboard", "--reload"], ["up", "--dashboard", DEFAULT_BIND, "--reload"]),
        (["up", "--dashboard", ":8000", "a:b"], ["up", "--dashboard", ":8000", "a:b"]),
        (["up", "--dashboard", "[::1]:80"], ["up", "--dashboard", "[::1]:80"]),
        (["up", "--dashboard=[::1]:80"], ["up", "--dashboard=[::1]:80"]),
    ],
)
def test_a_dashboard_without_an_address_is_at_the_usual_one(
    given: list[str], meant: list[str]
) -> None:
    assert filled_in(given) == meant
