"""`rolekit guest record` and `verify`: a folder of inputs against a program, then and now."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from rolekit.cli.main import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)

APP = r"""
from rolekit import App, Message, VMRole, handle
from rolekit.guest import (
    Exec, Files, Frames, Guest, Http, Limits, Lines, Lmtp, Process, Session, Talks
)

PERL = 'open my $f, "<", "{place}/does"; my $does = <$f>; '
ONCE = PERL + 'local $/; $_ = <STDIN>; print eval $does; exit $x'
FILE = PERL + 'while (1) {{ select undef, undef, undef, .01; for (glob "in/*") {{ ' \
    'rename $_, "x"; open F, "x"; my $t = <F>; open O, ">out/.x"; print O eval $does for $t; ' \
    'close O; rename "out/.x", "out/y" }} }}'

FRAME = PERL + 'binmode STDIN; binmode STDOUT; $| = 1; while (read STDIN, my $h, 4) {{ ' \
    'read STDIN, $_, unpack "N", $h; my $a = eval $does; print pack("N", length $a), $a }}'
WEB = PERL + 'use Socket; socket L, PF_INET, SOCK_STREAM, 0; setsockopt L, SOL_SOCKET, ' \
    'SO_REUSEADDR, 1; bind L, sockaddr_in(shift, INADDR_LOOPBACK) or die; listen L, 9; ' \
    r'while (accept C, L) {{ select C; $| = 1; my ($what, $size) = (scalar <C>, 0); ' \
    r'while (defined($_ = <C>) && /\S/) {{ $size = $1 if /^content-length: (\d+)/i; ' \
    r'$what .= $_ if /^x-mine/i }} read C, $_, $size; my $a = eval $does; $a = "$what$a"; ' \
    r'print "HTTP/1.0 201 X\r\nContent-Type: text/odd\r\n\r\n$a"; close C }}'

class Page(Message):
    text: str

class Ocr(VMRole):
    once = Guest(Exec("perl", "-e", ONCE, "{{}}"), host=Process())
    plain = Guest(Exec("perl", "-e", ONCE), host=Process())
    lines = Guest(Lines("perl", "-e", PERL + '$| = 1; while (<STDIN>) {{ print eval $does }}'),
        host=Process(), limits=Limits(time_s=10))
    frames = Guest(Frames("perl", "-e", FRAME), host=Process())
    web = Guest(Http("perl", "-e", WEB, "{{port}}"), host=Process())
    files = Guest(Files("perl", "-e", FILE), host=Process())
    mail = Guest(Lmtp("true"), host=Process())
    own = Guest(Talks(Session, "true"), host=Process())

    @handle
    async def read(self, page: Page) -> None: ...

app = App("mine", roles=[Ocr])
"""


@pytest.fixture
def place(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an app, and inputs for its guests; `does` says what they do with $_."""
    monkeypatch.delitem(sys.modules, "legacy", raising=False)
    (place / "legacy.py").write_text(APP.format(place=place))
    (place / "does").write_text("uc")
    (place / "cases").mkdir()
    (place / "cases" / "a.txt").write_text("one\ntwo\n")
    (place / "cases" / "b").write_bytes(b"three\n")
    return place


def guest(*words: str) -> int:
    return run(["guest", *words])


def test_a_frame_is_an_input_whatever_is_in_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "cases" / "c").write_bytes(b"\0\xff\nx")

    assert guest("record", "legacy:app", "Ocr.frames", "cases") == 0
    assert (place / "cases" / "c.out").read_bytes() == b"\0\xff\nX"
    assert (place / "cases" / "c.status").read_text() == "answered\n"
    assert guest("verify", "legacy:app", "Ocr.frames", "cases") == 0
    (place / "does").write_text("lc")
    capsys.readouterr()

    assert guest("verify", "legacy:app", "Ocr.frames", "cases") == 1
    assert "differs  c: 4 bytes were recorded, and there are 4; from byte 3 on" in (
        capsys.readouterr().out
    )


def test_a_request_is_an_input_with_its_head(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.txt", "b"):
        (place / "cases" / name).unlink()
    (place / "cases" / "ask").write_bytes(b"POST /a?b=c\nX-Mine: 7\n\nbody\n\nof it")

    assert guest("record", "legacy:app", "Ocr.web", "cases") == 0
    recorded = (place / "cases" / "ask.out").read_bytes().replace(b"\r", b"")
    assert recorded == b"POST /a?b=c HTTP/1.1\nX-Mine: 7\nBODY\n\nOF IT"
    assert (place / "cases" / "ask.status").read_text() == "status 201 text/odd\n"
    assert guest("verify", "legacy:app", "Ocr.web", "cases") == 0
    (place / "does").write_text("lc")
    capsys.readouterr()

    assert guest("verify", "legacy:app", "Ocr.web", "cases") == 1
    assert "+body" in capsys.readouterr().out


def test_what_was_recorded_is_verified(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guest("record", "legacy:app", "Ocr.plain", "cases") == 0
    assert capsys.readouterr().out.splitlines() == [
        "recorded  a.txt  exit 0  8 bytes",
        "recorded  b  exit 0  6 bytes",
    ]
    assert (place / "cases" / "a.txt.out").read_bytes() == b"ONE\nTWO\n"
    assert (place / "cases" / "a.txt.status").read_text() == "exit 0\n"

    assert guest("verify", "legacy:app", "Ocr.plain", "cases") == 0
    assert capsys.readouterr().out == "2 inputs, 2 as recorded, 0 different\n"


def test_a_difference_is_shown_and_the_exit_code_is_1(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guest("record", "legacy:app", "Ocr.plain", "cases")
    (place / "does").write_text("s/two/2/r =~ s/three/\\0x/r =~ s/one/ONE/r")
    (place / "cases" / "new").write_text("x")
    capsys.readouterr()

    assert guest("verify", "legacy:app", "Ocr.plain", "cases") == 1

    assert capsys.readouterr().out.splitlines() == [
        "differs  new: it was never recorded",
        "differs  a.txt: 8 bytes were recorded, and there are 6",
        "  @@ -1,2 +1,2 @@",
        "   ONE",
        "  -TWO",
        "  +2",
        "differs  b: 6 bytes were recorded, and there are 3; from byte 0 on",
        "  - 54 48 52 45 45 0a",
        "  + 00 78 0a",
        "3 inputs, 0 as recorded, 3 different",
    ]


def test_how_a_program_ends_is_part_of_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "does").write_text("$x = /one/ ? 67 : 3; ''")
    guest("record", "legacy:app", "Ocr.plain", "cases")
    out = capsys.readouterr().out
    (place / "does").write_text("kill 9, $$ if /one/; $x = 3; ''")

    assert guest("verify", "legacy:app", "Ocr.plain", "cases") == 1

    assert "recorded  a.txt  Reject 67  0 bytes" in out
    assert "recorded  b  GuestFailed 3  0 bytes" in out
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(
        "differs  a.txt: Reject 67 was recorded, and it is GuestFailed -9 ("
    )
    assert last == "2 inputs, 1 as recorded, 1 different"


def test_what_is_recorded_is_kept_unless_it_is_said(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guest("record", "legacy:app", "Ocr.plain", "cases")
    (place / "does").write_text("lc")

    assert guest("record", "legacy:app", "Ocr.plain", "cases") == 0
    assert (
        "2 inputs recorded already; --overwrite records them again." in capsys.readouterr().err
    )
    assert (place / "cases" / "b.out").read_bytes() == b"THREE\n"

    assert guest("record", "legacy:app", "Ocr.plain", "cases", "--overwrite") == 0
    assert (place / "cases" / "b.out").read_bytes() == b"three\n"


@pytest.mark.parametrize(
    ("name", "status", "out"),
    [("lines", "answered", b"ONE\nTWO\n"), ("files", "file y", b"ONE\n")],
)
def test_guests_that_stay_are_recorded_too(
    name: str, status: str, out: bytes, place: Path
) -> None:
    assert guest("record", "legacy:app", f"Ocr.{name}", "cases") == 0

    assert (place / "cases" / "a.txt.status").read_text() == f"{status}\n"
    assert (place / "cases" / "a.txt.out").read_bytes() == out


def test_arguments_stand_beside_an_input(place: Path) -> None:
    (place / "does").write_text("join '-', @ARGV")
    for name in ("a.txt", "b"):
        (place / "cases" / f"{name}.args").write_text("first\nsecond and third\n")

    assert guest("record", "legacy:app", "Ocr.once", "cases") == 0

    assert (place / "cases" / "b.out").read_bytes() == b"first-second and third"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("Ocr.plane", "cases"), "mine has no guest 'Ocr.plane'. Did you mean Ocr.plain?"),
        (("plain", "cases"), "mine has no guest 'plain'."),
        (("Ocr.mail", "cases"), "Ocr.mail cannot be recorded: what it does with a mail is not"),
        (("Ocr.own", "cases"), "Ocr.own cannot be recorded: it speaks a protocol of yours."),
        (("Ocr.plain", "none"), "'none' is no folder."),
        (("Ocr.plain", "empty"), "There is no input in 'empty'."),
    ],
)
@pytest.mark.parametrize("verb", ["record", "verify"])
def test_a_mistake_is_a_sentence(
    verb: str,
    words: tuple[str, str],
    said: str,
    place: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (place / "empty").mkdir()

    assert guest(verb, "legacy:app", *words) == 2

    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"rolekit: {said}")
    assert "Traceback" not in told.err
