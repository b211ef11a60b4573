"""The supervisor with real processes: what dies is replaced, what must end ends."""

from __future__ import annotations

import os
import signal
import socket
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.patience import patient
from tests.process.supervised import Descendant, Supervised, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def connect(address: str) -> int:
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        return int(connection.recv(100))


def test_a_killed_instance_has_a_successor_after_its_work_was_released(tmp_path: Path) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")
        before = fleet.pids("Steady")

        os.kill(before[0], signal.SIGKILL)
        eventually(lambda: fleet.role("Steady").ready == 2 and fleet.pids("Steady") != before)

        assert before[1] in fleet.pids("Steady")
        assert fleet.released() == [7 << 24 | 1]
        assert sum(place.restarts for place in fleet.role("Steady").places) == 1


def test_a_restart_drops_no_connection_and_keeps_the_address(tmp_path: Path) -> None:
    with Supervised("steady", tmp_path, first_s=0.4) as fleet:
        fleet.wait_for_line("steady is up")
        address = fleet.role("Front").address
        first = connect(address)

        os.kill(first, signal.SIGKILL)
        second = connect(address)  # waits in the backlog until somebody accepts

        assert second not in (0, first)


def test_a_crash_loop_is_bounded_and_named_and_others_go_on(tmp_path: Path) -> None:
    numbers = {"restarts": 3, "first_s": 0.01, "longest_s": 30}
    with Supervised("crashing", tmp_path, **numbers) as fleet:
        fleet.wait_for_line("crash-looping: died 4 times in 60 s; tried again every 30 s")
        looping = fleet.role("Crashing")

        assert looping.state == "crash-looping"
        assert looping.places[0].restarts == 4
        assert [(one.what, one.times) for one in looping.reasons] == [
            ("Crashing/0 ended: exit code 3", 4),
            ("Crashing/0 is crash-looping", 1),
        ]
        assert fleet.role("Steady").ready == 2


def test_a_build_that_cannot_live_is_one_crash_loop_of_its_role(tmp_path: Path) -> None:
    numbers = {"restarts": 3, "first_s": 0.01, "longest_s": 3, "early_s": 0.5}
    with Supervised("brief", tmp_path, **numbers) as fleet:
        fleet.wait_for_line("crash-looping: 24 deaths in a row at")
        said_s = time.monotonic()
        before = fleet.pids("Steady")
        looping = fleet.role("Brief")
        turns = 1 + (time.monotonic() - said_s) // 3
        assert looping.state == "crash-looping"
        # The others of the 20 were alive at the 24th death; then three have a turn every 3 s.
        assert sum(one.restarts for one in looping.places) <= 24 + 19 + 3 * turns
        assert fleet.get("/ready").status_code == 503
        assert any("crash-looping: 24 deaths" in one.what for one in looping.reasons)

        (tmp_path / "healed").touch()
        eventually(lambda: fleet.role("Brief").ready == 20, 12)

        assert fleet.role("Brief").state == "ready"
        assert any(one.what == "no longer crash-looping" for one in fleet.role("Brief").reasons)
        assert fleet.pids("Steady") == before


def test_a_killed_supervisor_leaves_no_orphan(tmp_path: Path) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")
        below = fleet.descendants()
        assert len(below) == 6  # warden, zygote, two Steady, Front, relay

        fleet.process.kill()
        eventually(lambda: not any(one.is_alive for one in below), within_s=2)


def are_replaced(fleet: Supervised, before: Sequence[int]) -> bool:
    """Say whether two others stand in for those that were there."""
    now = fleet.pids("Steady")
    return len(now) == len(before) and not set(before) & set(now)


def warden_of(fleet: Supervised) -> Descendant:
    return next(one for one in fleet.descendants() if one.parent == fleet.process.pid)


def zygote_of(fleet: Supervised) -> Descendant:
    warden = warden_of(fleet)
    return next(one for one in fleet.descendants() if one.parent == warden.pid)


def test_a_killed_zygote_is_replaced_with_all_its_instances(tmp_path: Path) -> None:
    with Supervised("steady", tmp_path, first_s=0.05) as fleet:
        fleet.wait_for_line("steady is up")
        before = fleet.pids("Steady")

        zygote_of(fleet).kill()
        eventually(lambda: fleet.status().state == "ready" and are_replaced(fleet, before))

        assert len(set(fleet.released())) == 4


def test_a_soft_stop_goes_from_the_way_in_to_the_relay(tmp_path: Path) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")

        fleet.process.send_signal(signal.SIGTERM)
        code = fleet.wait()

        stops = [line for line in fleet.lines if line.endswith(" stops")]
        assert code == 0
        assert stops == ["Front stops", "Steady stops", "Steady stops", "(relay) stops"]
        assert "Ctrl-C again stops hard" in fleet.output
        assert not (tmp_path / "steady.sock").exists()


def test_the_second_interrupt_does_not_wait_for_what_is_in_hand(tmp_path: Path) -> None:
    with Supervised("busy", tmp_path, grace_s=600) as fleet:
        fleet.wait_for_line("busy is up")

        fleet.interrupt()
        fleet.wait_for_line("Busy stops")
        still_runs = fleet.process.poll() is None
        fleet.interrupt()
        code = fleet.wait()

        assert still_runs
        assert code == 0
        assert "Stopping hard" in fleet.output


def test_a_soft_stop_that_takes_too_long_becomes_a_hard_one(tmp_path: Path) -> None:
    with Supervised("busy", tmp_path, grace_s=0.3) as fleet:
        fleet.wait_for_line("busy is up")

        fleet.interrupt()

        assert fleet.wait() == 0
        assert '"how": "SIGTERM"' in fleet.output


def test_a_hung_instance_shows_its_stacks_and_is_replaced(tmp_path: Path) -> None:
    with Supervised("deaf", tmp_path, silence_s=0.4, term_s=0.2, first_s=0.05) as fleet:
        fleet.wait_for_line("it said nothing for 0.4 s")
        fleet.wait_for_line("SIGKILL", within_s=5)
        eventually(lambda: fleet.role("Deaf").places[0].restarts >= 1)
        why = fleet.role("Deaf").reasons[0].what

        assert why.startswith("Deaf/0 ended: it said nothing for 0.4 s: its loop was blocked")
        assert why.endswith("(SIGKILL)")
        assert 'fleet_app.py", line' in fleet.output  # faulthandler, of the blocked line


def test_a_stopped_process_is_killed_too(tmp_path: Path) -> None:
    with Supervised("steady", tmp_path, silence_s=0.5, term_s=0.2, first_s=0.05) as fleet:
        fleet.wait_for_line("steady is up")
        frozen = fleet.pids("Steady")[0]

        os.kill(frozen, signal.SIGSTOP)
        eventually(lambda: frozen not in fleet.pids("Steady"))
        eventually(lambda: fleet.role("Steady").ready == 2)


def test_scaling_up_and_down_keeps_to_the_bounds(tmp_path: Path) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")

        up = fleet.post("/scale", '{"role": "Steady", "count": "+3"}')
        eventually(lambda: fleet.role("Steady").ready == 5)
        too_many = fleet.post("/scale", '{"role": "Steady", "count": "6"}')
        fleet.post("/scale", '{"role": "Steady", "count": "1"}')
        eventually(lambda: len(fleet.pids("Steady")) == 1)

        assert up.json() == {"role": "Steady", "instances": 5}
        assert too_many.status_code == 400
        assert "0 to 5 instances, not 6" in too_many.json()["what"]


def test_a_misspelt_role_gets_the_nearest_one(tmp_path: Path) -> None:
    with Supervised("steady", tmp_path) as fleet:
        fleet.wait_for_line("steady is up")

        answer = fleet.post("/scale", '{"role": "Stedy", "count": "1"}')

        assert answer.json()["what"] == "There is no role Stedy. Did you mean Steady?"


def test_a_role_that_refuses_ends_the_start_with_its_reason(tmp_path: Path) -> None:
    with Supervised("refusing", tmp_path) as fleet:
        code = fleet.wait()

        assert code == 1
        assert "Refusing cannot start: no domain is set." in fleet.output


def test_a_role_that_was_ready_is_tried_again_when_it_refuses(tmp_path: Path) -> None:
    with Supervised("leaning", tmp_path, first_s=0.05, longest_s=0.2) as fleet:
        fleet.wait_for_line("leaning is up")
        away = tmp_path / "away"
        away.touch()

        os.kill(fleet.pids("Leaning")[0], signal.SIGKILL)
        fleet.wait_for_line("could not start; tried again")
        before = fleet.role("Leaning"), fleet.role("Steady").ready
        away.unlink()
        eventually(lambda: fleet.role("Leaning").ready == 1)

        assert before[0].state == "starting"
        assert before[1] == 2
        what = "Leaning/0 could not start: no engine answers."
        assert what in [one.what for one in before[0].reasons]


def _is_followed(fleet: Supervised, dead: int) -> bool:
    pids = fleet.pids("Steady")
    return dead not in pids and len(pids) == fleet.role("Steady").ready == 2


def test_who_keeps_dying_is_not_ready_until_it_has_lived_for_a_while(tmp_path: Path) -> None:
    numbers = {"restarts": 1, "first_s": 0.01, "longest_s": 0.1, "healthy_s": 6}
    with Supervised("steady", tmp_path, **numbers) as fleet:
        fleet.wait_for_line("steady is up")

        for _ in range(2):
            first = fleet.pids("Steady")[0]
            os.kill(first, signal.SIGKILL)
            eventually(partial(_is_followed, fleet, first))
        looping = fleet.get("/ready").status_code, fleet.role("Steady").ready
        eventually(lambda: fleet.get("/ready").is_success)

        assert looping == (503, 2)
        assert fleet.role("Steady").state == "ready"


def test_a_second_supervisor_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    with Supervised("steady", tmp_path) as first:
        first.wait_for_line("steady is up")

        with Supervised("steady", tmp_path) as second:
            code = second.wait()

        assert code == 2
        assert f"by the supervisor with process id {first.process.pid}" in second.output
        assert first.role("Steady").ready == 2


def test_a_port_in_use_is_one_sentence_with_port_role_and_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with Supervised("steady", tmp_path, port=port) as fleet:
            code = fleet.wait()

    assert code == 2
    assert f"Port {port} is in use, so Front cannot listen" in fleet.output
    assert "ROLEKIT_FRONT__BIND" in fleet.output
    assert "Traceback" not in fleet.output


def family_of_parent(fleet: Supervised) -> list[Descendant]:
    """Wait for all that `Parent` started: a child, and daemons in sessions of their own."""
    (parent,) = fleet.pids("Parent")

    def below() -> list[Descendant]:
        found = fleet.descendants()
        family = {parent}
        for _ in found:
            family |= {one.pid for one in found if one.parent in family}
        return [one for one in found if one.pid in family and one.pid != parent]

    eventually(lambda: len(below()) >= 5)  # three sleeps below a shell, one alone, and it
    return below()


def test_what_an_instance_started_goes_with_it(tmp_path: Path) -> None:
    with Supervised("parent", tmp_path, first_s=5) as fleet:
        fleet.wait_for_line("parent is up")
        family = family_of_parent(fleet)

        os.kill(fleet.pids("Parent")[0], signal.SIGKILL)

        eventually(lambda: not any(one.is_alive for one in family), within_s=2)


def test_a_killed_supervisor_takes_daemons_of_its_instances_along(tmp_path: Path) -> None:
    with Supervised("parent", tmp_path) as fleet:
        fleet.wait_for_line("parent is up")
        family_of_parent(fleet)
        below = fleet.descendants()

        fleet.process.kill()

        eventually(lambda: not any(one.is_alive for one in below), within_s=2)


@pytest.mark.parametrize("victim", [zygote_of, warden_of])
def test_a_killed_zygote_or_warden_takes_daemons_of_its_instances_along(
    victim: Callable[[Supervised], Descendant], tmp_path: Path
) -> None:
    with Supervised("parent", tmp_path, first_s=0.05) as fleet:
        fleet.wait_for_line("parent is up")
        family_of_parent(fleet)
        below = fleet.descendants()

        victim(fleet).kill()

        eventually(lambda: not any(one.is_alive for one in below), within_s=2)
        eventually(lambda: fleet.status().state == "ready")


def test_a_killed_supervisor_takes_along_what_was_stopped(tmp_path: Path) -> None:
    with Supervised("parent", tmp_path) as fleet:
        fleet.wait_for_line("parent is up")
        family_of_parent(fleet)
        below = fleet.descendants()

        for one in below:
            os.kill(one.pid, signal.SIGSTOP)
        fleet.process.kill()

        eventually(lambda: not any(one.is_alive for one in below), within_s=2)


def test_a_supervisor_that_was_stopped_blames_nobody_for_its_silence(tmp_path: Path) -> None:
    with Supervised("steady", tmp_path, silence_s=0.5, term_s=0.2) as fleet:
        fleet.wait_for_line("steady is up")
        before = fleet.pids("Steady")

        fleet.process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)  # nothing tells that enough silence has passed
        fleet.process.send_signal(signal.SIGCONT)
        time.sleep(1)  # nor that it has drawn its conclusions

        assert fleet.pids("Steady") == before
        assert "said nothing" not in fleet.output


def test_a_stop_during_the_start_ends_it(tmp_path: Path) -> None:
    with Supervised("slow", tmp_path) as fleet:
        fleet.wait_for_line("importing slowly")
        began = time.monotonic()

        fleet.interrupt()

        assert fleet.wait() == 0
        assert time.monotonic() - began < patient(3)
