"""Reading raw mail without trusting it: headers, text and attachments, for people to see.

Whatever the bytes are, these functions return something and never raise: mail from outside
is often not what RFC 5322 says. Nothing here changes the raw bytes.
"""

from __future__ import annotations

import email
import re
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.policy import compat32
from html.parser import HTMLParser
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message as Parsed

MAX_PARTS = 200
MAX_DEPTH = 20
MAX_TEXT = 200_000
"""Characters of text taken from one part; the raw message has the rest."""

_SHOWN = ("From", "To", "Cc", "Date", "Subject", "Message-ID")


@dataclass(frozen=True, slots=True)
class Part:
    """An attachment: `name` is safe to show and to save under."""

    name: str
    media_type: str
    data: bytes


def printable(text: str) -> str:
    """Replace what is not to be printed by blanks, and lone surrogates by U+FFFD."""
    shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in shown).split())


_NOBODY = re.compile(r"\bundisclosed[- ]recipients\s*:\s*;", re.IGNORECASE)
"""How RFC 5322 writes that the recipients are not said: a group with nobody in it."""


def header(message: Parsed, name: str) -> str:
    """Return a header, its encoded words decoded, in one line; empty if there is none.

    Of several with one name, the first; bytes beyond ASCII are read as UTF-8.
    """
    wanted = name.lower()
    found = (value for key, value in message.raw_items() if key.lower() == wanted)
    return _decoded(next(found, ""))


def _decoded(value: object) -> str:
    text = str(value)
    if not text.isascii():
        return printable(text)  # decode_header would take its bytes for Latin-1
    try:
        return printable(str(make_header(decode_header(text))))
    except (HeaderParseError, LookupError, ValueError):
        return printable(text)


def _parse(raw: bytes) -> Parsed:
    return email.message_from_bytes(raw, policy=compat32)


def _leaves(message: Parsed, depth: int = 0) -> Iterator[Parsed]:
    payload = message.get_payload()
    if not isinstance(payload, list) or depth == MAX_DEPTH:
        yield message
        return
    for child in cast("list[Parsed]", payload):
        yield from _leaves(child, depth + 1)


def leaves(raw: bytes) -> list[Parsed]:
    """Return the parts that contain no parts, in the order of the message."""
    found = [leaf for leaf, _ in zip(_leaves(_parse(raw)), range(MAX_PARTS), strict=False)]
    for leaf in found:
        _read_as_utf8(leaf)
    return found


def _read_as_utf8(leaf: Parsed) -> None:
    """Decode bytes beyond ASCII in the headers of a part, before email gives up on them."""
    for name, value in leaf.raw_items():
        text = str(value)
        if name.lower().startswith("content-") and not text.isascii():
            leaf.replace_header(
                name, text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            )


def _bytes(leaf: Parsed) -> bytes:
    try:
        payload: object = leaf.get_payload(decode=True)
    except (ValueError, LookupError):
        return b""
    return payload if isinstance(payload, bytes) else b""


def _text(leaf: Parsed) -> str:
    data = _bytes(leaf)[: MAX_TEXT * 4]
    charset = leaf.get_content_charset("utf-8")
    try:
        text = data.decode(charset, "replace")
    except (LookupError, ValueError):
        text = data.decode("utf-8", "replace")
    return text[:MAX_TEXT].replace("\r\n", "\n").replace("\x00", "\ufffd")


def _is_text(leaf: Parsed) -> bool:
    is_text = leaf.get_content_type() in {"text/plain", "text/html"}
    return is_text and not _filename(leaf) and leaf.get_content_disposition() != "attachment"


def _filename(leaf: Parsed) -> str:
    try:
        return _decoded(leaf.get_filename(""))
    except (HeaderParseError, LookupError, ValueError, TypeError):
        return ""


def _safe_name(name: str, number: int) -> str:
    kept = "".join("_" if c in '/\\:*?"<>|;' else c for c in name).strip(". ")
    return kept[-120:] or f"attachment-{number}"


def attachments(raw: bytes) -> list[Part]:
    """Return all that is not the text of the message itself, decoded, in order."""
    found = [leaf for leaf in leaves(raw) if not _is_text(leaf)]
    return [
        Part(_safe_name(_filename(leaf), number), leaf.get_content_type(), _bytes(leaf))
        for number, leaf in enumerate(found, 1)
    ]


class _Stripper(HTMLParser):
    """Collects the text of an HTML document; tags, scripts and styles are dropped."""

    _BREAKS = frozenset({"br", "p", "div", "li", "tr", "h1", "h2", "h3", "blockquote"})
    _SILENT = frozenset({"script", "style", "head", "title"})

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in self._SILENT
        if tag in self._BREAKS:
            self.pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._silent = max(0, self._silent - (tag in self._SILENT))

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.pieces.append(data)


def text_of_html(html: str) -> str:
    """Return the text of an HTML document; it is never shown as HTML."""
    stripper = _Stripper()
    stripper.feed(html)
    stripper.close()
    lines = (" ".join(line.split()) for line in "".join(stripper.pieces).splitlines())
    return "\n".join(line for line in lines if line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message as a person reads it.

    Attributes:
        headers: Names and decoded values of the usual headers that are there.
        text: Plain text, or what is left of HTML without its tags.
        is_from_html: Whether `text` was HTML.
    """

    sender: str
    subject: str
    date: str
    headers: list[tuple[str, str]]
    text: str
    is_from_html: bool

    @classmethod
    def read(cls, raw: bytes) -> Letter:
        """Read the bytes of a message, whatever they are."""
        message = _parse(raw)
        texts = [leaf for leaf in leaves(raw) if _is_text(leaf)]
        plain = [leaf for leaf in texts if leaf.get_content_type() == "text/plain"]
        if plain or not texts:
            text = "\n\n".join(_text(leaf) for leaf in plain)
        else:
            text = "\n\n".join(text_of_html(_text(leaf)) for leaf in texts)
        return cls(
            sender=header(message, "From"),
            subject=header(message, "Subject"),
            date=header(message, "Date"),
            headers=[
                (name, _NOBODY.sub("undisclosed recipients", header(message, name)))
                for name in _SHOWN
                if message.get(name)
            ],
            text=text,
            is_from_html=bool(texts) and not plain,
        )
