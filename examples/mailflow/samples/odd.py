"""Samples that break a rule, or look as if they did, and spam."""

from __future__ import annotations

from examples.mailflow.samples.sample import Sample, crlf, head, multipart, part

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
"""The text that every spam filter must take for spam; in two halves, or this file is spam."""

_LOTTERY = """
    From: Prize Office <prize@far.example>
    To: you@mail.example
    Subject: FINAL NOTICE ABOUT YOUR LOTTERY PRIZE
    Message-ID: <prize@samples.mail.example>

    Act now to get five million euros by wire transfer.
    """


def _broken() -> list[Sample]:
    return [
        Sample(
            name="bare LF",
            raw=(head("Lines of Unix") + b"\r\none\r\ntwo\r\n").replace(b"\r\n", b"\n"),
            fits_smtp=False,
        ),
        Sample(
            name="bare CR",
            raw=head("Lines of old Macs") + b"\r\none\rtwo\rthree\r\n",
            fits_smtp=False,
        ),
        Sample(
            name="smuggled command",
            raw=head("Two in one")
            + b"\r\nfirst\n.\r\nMAIL FROM:<evil@mail.example>\r\nRCPT TO:<x@mail.example>\r\n",
            fits_smtp=False,
        ),
        Sample(
            name="line of 5,000 octets",
            raw=head("Long line") + b"\r\n" + b"long " * 1000 + b"\r\n",
            fits_smtp=False,
        ),
        Sample(
            name="NUL and control bytes",
            raw=head("Bytes") + b"\r\n\x00\x01\x02\x07\x1b[31mred\x7f\r\n",
        ),
        Sample(
            name="all bytes but CR and LF",
            raw=head("All bytes", "Content-Transfer-Encoding: 8bit")
            + b"\r\n"
            + bytes(set(range(256)) - {10, 13})
            + b"\r\n",
        ),
        Sample(
            name="unknown charset",
            raw=head("Klingon", "Content-Type: text/plain; charset=x-klingon")
            + b"\r\nnuqneH\r\n",
        ),
        Sample(
            name="multipart without its boundary",
            raw=head("No boundary", "Content-Type: multipart/mixed")
            + b"\r\n--x\r\n\r\ntext\r\n",
        ),
        Sample(
            name="multipart never closed",
            raw=head("Open end")
            + multipart("mixed", part("text/plain", b"then nothing\r\n")).replace(
                b"--=_one--", b""
            ),
        ),
        Sample(
            name="base64 that is not",
            raw=head("Not base64", "Content-Transfer-Encoding: base64") + b"\r\n%%%=&\r\n",
        ),
    ]


def _headers() -> list[Sample]:
    return [
        Sample(name="no headers at all", raw=b"\r\nJust text, from nobody.\r\n"),
        Sample(
            name="no Message-ID",
            raw=b"From: ada@mail.example\r\nDate: 02 Mar 2026 10:00:00 +0000\r\n\r\nHi.\r\n",
        ),
        Sample(
            name="two subjects",
            raw=head("The first") + b"Subject: The second\r\n\r\nWhich one?\r\n",
        ),
        Sample(
            name="header without colon",
            raw=head("Odd header") + b"this is no header\r\n\r\nBody.\r\n",
        ),
        Sample(
            name="mbox From line",
            raw=b"From ada Mon Mar  2 10:00:00 2026\r\n" + head("Mbox") + b"\r\nText.\r\n",
        ),
    ]


def _spam() -> list[Sample]:
    gtube = head("Test of a filter") + b"\r\n" + GTUBE.encode() + b"\r\n"
    links = head("Links") + b"\r\n" + b"http://far.example/buy\r\n" * 12
    return [
        Sample(name="gtube", raw=gtube, fate="junk"),
        Sample(name="lottery", raw=crlf(_LOTTERY), fate="junk"),
        Sample(name="many links, not yet spam", raw=links),
    ]


def samples() -> list[Sample]:
    """Return the odd ones."""
    return [*_broken(), *_headers(), *_spam()]
