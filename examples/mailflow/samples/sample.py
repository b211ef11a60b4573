"""What a sample is, and how its bytes are written down."""

from __future__ import annotations

import textwrap
from binascii import b2a_base64
from dataclasses import dataclass
from typing import Literal

Fate = Literal["inbox", "junk", "infected"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One mail.

    Attributes:
        name: Says what is special about it.
        raw: Its bytes.
        fate: Where a copy to a good address ends up.
        fits_smtp: Whether SMTP may carry it: no lone CR or LF, no line over 998 octets.
    """

    name: str
    raw: bytes
    fate: Fate = "inbox"
    fits_smtp: bool = True


def crlf(text: str, charset: str = "utf-8") -> bytes:
    """Write an indented text block as bytes, each line ended by CRLF."""
    return textwrap.dedent(text).lstrip("\n").replace("\n", "\r\n").encode(charset)


def head(subject: str, *more: str) -> bytes:
    """Write the usual headers, `more`, and no blank line."""
    lines = (
        "From: Ada Lovelace <ada@mail.example>",
        "To: friends@mail.example",
        f"Subject: {subject}",
        "Date: Mon, 02 Mar 2026 10:00:00 +0000",
        f"Message-ID: <{abs(hash_of(subject)):x}@samples.mail.example>",
        "MIME-Version: 1.0",
        *more,
    )
    return "".join(f"{line}\r\n" for line in lines).encode()


def hash_of(text: str) -> int:
    """Number a text, the same in each process."""
    number = 0
    for byte in text.encode():
        number = (number * 257 + byte) % (1 << 61)
    return number


def multipart(subtype: str, *parts: bytes, boundary: str = "=_one", extra: str = "") -> bytes:
    """Write a multipart entity: its Content-Type line, a blank line and the parts."""
    mark = boundary.encode()
    line = f'Content-Type: multipart/{subtype}; boundary="{boundary}"{extra}\r\n\r\n'.encode()
    body = b"".join(b"--" + mark + b"\r\n" + part + b"\r\n" for part in parts)
    return line + body + b"--" + mark + b"--\r\n"


def part(content_type: str, body: bytes, *headers: str) -> bytes:
    """Write one part of a multipart."""
    lines = (f"Content-Type: {content_type}", *headers)
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


def attached(name: str, body: bytes, content_type: str = "application/octet-stream") -> bytes:
    """Write an attachment in base64."""
    return part(
        f'{content_type}; name="{name}"',
        wrapped_base64(body),
        "Content-Transfer-Encoding: base64",
        f'Content-Disposition: attachment; filename="{name}"',
    )


def wrapped_base64(body: bytes) -> bytes:
    """Encode in lines of 76 characters, CRLF between them."""
    rows = (body[at : at + 57] for at in range(0, len(body), 57))
    return b"".join(b2a_base64(row, newline=False) + b"\r\n" for row in rows)
