"""What is wrong with a guest is said at start: by the app, or by the host of an instance."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, cast

import pytest

from rolekit import App, Message, VMRole, WorkerRole, handle
from rolekit.errors import AppError, ConfigError, RolekitError
from rolekit.guest import Container, Exec, Guest, Http, Limits, Lines, Process, Sandbox, seccomp
from rolekit.guest.crew import guests_running
from rolekit.guest.sandbox import find_bubblewrap

if TYPE_CHECKING:
    from pathlib import Path

    from rolekit.roles.base import Role

LIMITS = Limits()


class Page(Message):
    """What a guest reads."""

    text: str


def told(role: type[Role]) -> list[str]:
    return [str(problem) for problem in App("mine", roles=[role]).problems()]


def with_guest(guest: Guest[Any]) -> type[Role]:
    class Ocr(VMRole):
        program = guest

        @handle
        async def read(self, page: Page) -> None: ...

    return Ocr


def test_a_good_guest_is_no_problem() -> None:
    assert told(with_guest(Guest(Exec("true"), host=Process(), pool=4))) == []


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(time_s=0), "time_s=0); a number from 0.001 to 86400 is expected."),
        (Limits(memory_mb=1), "memory_mb=1); a whole number from 4 to "),
        (Limits(output_mb=cast("Any", 1.5)), "output_mb=1.5); a whole number from 1 to 4096"),
        (Limits(pids=0), "pids=0); a whole number from 1 to 100000 is expected."),
        (Limits(cpu_s=cast("Any", 0.5)), "cpu_s=0.5); a whole number from 0 to 86400"),
        (Limits(time_s=float("nan")), "time_s=nan); a number from 0.001"),
        (Limits(uses=cast("Any", "1")), "uses='1'); a whole number from 1"),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: Limits, said: str) -> None:
    (problem,) = told(with_guest(Guest(Exec("true"), host=Process(), limits=limits)))

    assert problem.startswith(f"Ocr.program: has Limits({said}")


@pytest.mark.parametrize(
    ("guest", "said"),
    [
        (Guest(Exec(), host=Process()), "has the command (); a program and its arguments"),
        (Guest(Exec("a\0b"), host=Process()), "has the command ('a\\x00b',); a program"),
        (
            Guest(cast("Any", "cat"), host=Process()),
            "speaks 'cat'; one of rolekit.guest is exp",
        ),
        (Guest(Http("a", port=0), host=Sandbox()), "has Http(port=0); a whole number from 1"),
        (
            Guest(Http("a", "{port}", port=80), host=Sandbox()),
            "has Http(port=80), and a place for it in its command.",
        ),
        (
            Guest(Http("a", port=80), host=Process(), pool=2),
            "has Http(port=80) and pool=2, but all guests of Process() share the ports",
        ),
        (Guest(Http("a", in_flight=0), host=Process()), "has Http(in_flight=0); a whole"),
        (Guest(Http("a", health="x"), host=Process()), "has Http(health='x'); a path that"),
        (Guest(Http("a", status=99), host=Process()), "has Http(status=99); a status from 200"),
        (
            Guest(Exec("a"), host=cast("Any", "box")),
            "has host='box'; Process(), Sandbox() or Container(...)",
        ),
        (Guest(Exec("a"), host=Process(), pool=0), "has pool=0; a whole number from 1"),
        (
            Guest(Exec("a"), host=Process(), limits=cast("Any", 3)),
            "has limits=3; Limits(...) is expected.",
        ),
    ],
)
def test_what_is_no_guest_is_refused(guest: Guest[Any], said: str) -> None:
    (problem,) = told(with_guest(guest))

    assert problem.startswith(f"Ocr.program: {said}")


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (Container(), "either image= or build= is expected"),
        (Container(image="a", build="b"), "either image= or build= is expected"),
        (Container(image="a b"), "has the image 'a b'; a name like"),
        (Container(build="no/such"), "there is no /.*no/such/Dockerfile; a folder with one"),
        (Container(image="a", network="host"), "has network='host'; 'none' or a network"),
        (Container(image="a", cpus=0), "has cpus=0; a number above 0"),
    ],
)
def test_a_container_that_makes_no_sense_is_refused(host: Container, said: str) -> None:
    assert re.search(said, told(with_guest(Guest(Exec("a"), host=host)))[0])


def test_a_server_in_a_container_has_the_ports_of_its_own_network() -> None:
    guest = Guest(Http("a", port=80), host=Container(image="a"), pool=3)
    twice = Guest(Http("a", "{port}", port=80), host=Container(image="a"))

    assert told(with_guest(guest)) == []
    assert "and a place for it in its command" in told(with_guest(twice))[0]


@pytest.mark.anyio
async def test_a_container_without_its_client_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Role:
        program = Guest(Exec("a"), host=Container(image="a"))

    monkeypatch.setattr("importlib.util.find_spec", dict[str, object]().get)

    with pytest.raises(AppError, match=r"Role.program .*pip install 'rolekit\[containers\]'"):
        async with guests_running(Role()):
            pass


def test_a_guest_belongs_to_a_vm_role() -> None:
    class Plain(WorkerRole):
        program = Guest(Exec("true"), host=Process())

        @handle
        async def read(self, page: Page) -> None: ...

    assert told(Plain)[0].startswith("Plain.program: is a Guest, but Plain is not a VMRole.")


def test_a_vm_role_has_a_guest() -> None:
    class Empty(VMRole):
        @handle
        async def read(self, page: Page) -> None: ...

    assert told(Empty)[0].startswith("Empty: is a VMRole without a Guest.")


@pytest.mark.anyio
async def test_a_start_is_refused_with_role_guest_and_what_was_tried() -> None:
    class Ocr:
        program = Guest(Exec("no-such-program", "-x"), host=Process())

    with pytest.raises(AppError) as caught:
        async with guests_running(Ocr()):
            pass

    said = str(caught.value)
    assert said.startswith("Ocr.program ('no-such-program -x' in Process()): the command")
    assert "was not found in PATH (" in said
    assert said.endswith("Install it, or name it with its path.")


@pytest.mark.anyio
async def test_a_guest_that_ends_at_once_is_told_with_what_it_said() -> None:
    class Greeting:
        program = Guest(
            Lines("sh", "-c", "echo no licence found >&2; exit 3"), host=Process(), pool=2
        )

    role = Greeting()
    async with guests_running(role):  # it is known to be gone when it is asked, not before
        with pytest.raises(RolekitError) as caught:
            await role.program.ask(b"x")

    assert "Greeting.program" in str(caught.value)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no-such-program", r"was not found in / \(/usr/local/sbin"),
        ("./filter.pl", "is a relative path, which leads nowhere in a Sandbox"),
        ("/etc/passwd", "was not found in /, or may not be executed"),
    ],
)
def test_a_command_that_a_sandbox_has_not_is_refused(command: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Sandbox().launch((command,), LIMITS)


def test_a_command_that_a_sandbox_hides_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "filter"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)

    with pytest.raises(ConfigError, match=r"which a Sandbox hides.*read_only="):
        Sandbox().launch((str(program),), LIMITS)

    shown = Sandbox(read_only=(str(tmp_path),)).launch((str(program),), LIMITS)
    assert shown.command == (str(program),)


def test_a_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no folder"):
        Sandbox(root=str(tmp_path / "none")).launch(("true",), LIMITS)


def test_a_sandbox_withoutfind_bubblewrap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(ConfigError, match=r"there is no `bwrap` in PATH. Install it"):
        find_bubblewrap()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo bubblewrap 0.6.1", "needs bubblewrap 0.8 or newer; .* is 'bubblewrap 0.6.1'"),
        (
            'test "$1" = --version && exec echo bubblewrap 0.9; echo No permission >&2; exit 1',
            "could make none: No permission User namespaces must",
        ),
    ],
)
def test_afind_bubblewrap_that_does_not_do_is_refused(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(0o755)
    program = tmp_path / "bwrap"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    with pytest.raises(ConfigError, match=said):
        find_bubblewrap()


def test_a_machine_without_a_filter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")

    with pytest.raises(ConfigError, match="no filter of system calls for riscv64"):
        find_bubblewrap()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_filter_is_whole_instructions_and_jumps_within_itself(machine: str) -> None:
    code = seccomp.filter_for(machine)

    steps = [code[at : at + 8] for at in range(0, len(code), 8)]
    assert len(code) % 8 == 0
    for number, step in enumerate(steps):
        assert number + 1 + max(step[2], step[3]) <= len(steps) or step[0] == 0x06
    assert steps[-1] == bytes.fromhex("060000000000ff7f")


@pytest.mark.anyio
async def test_secrets_of_the_instance_do_not_reach_a_guest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROLEKIT_DATABASE", "postgresql://u:secret@h/d")

    class Role:
        program = Guest(Exec("env"), host=Process())

    role = Role()
    async with guests_running(role):
        names = [line.split(b"=")[0] for line in (await role.program.run()).stdout.splitlines()]

    assert {b"PATH", b"HOME", b"TMPDIR", b"LANG"} <= set(names)
    assert not [name for name in names if b"ROLEKIT" in name]
