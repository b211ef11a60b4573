"""Handing a copy to another mail server, by SMTP."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiosmtplib

from examples.mailflow.addresses import BadAddress, check

if TYPE_CHECKING:
    from examples.mailflow.messages import Slip

TIMEOUT_S = 20
_PERMANENT = 500
_BARE = re.compile(rb"\r\n|\r|\n")


class TemporaryFailure(Exception):
    """The relay said 4xx, or nothing: it may take the copy later."""


class Refused(Exception):
    """The relay said 5xx: it will never take this copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    code: int
    text: str


def outgoing(raw: bytes, *, delivery_id: str, name: str) -> bytes:
    """Return the message as it goes out: a line of our own on top, each line end CRLF.

    The line names the delivery. It is the same on each attempt, so whoever receives a copy
    again can tell. Lone CR and LF become line ends: between servers that read them
    differently, they let one message hide in another.

    Source: RFC 5321, 2.3.8 and 4.4; smtpsmuggling.com.
    """
    return f"X-Mailflow-Delivery: <{delivery_id}@{name}>\r\n".encode() + _BARE.sub(b"\r\n", raw)


@dataclass(frozen=True, slots=True)
class Relay:
    """A mail server that takes copies for others.

    Attributes:
        address: "host:port".
        starttls: Refuse to speak to it without TLS.
        name: What we call ourselves.
    """

    address: str
    starttls: bool
    name: str

    async def send(self, slip: Slip, raw: bytes, *, delivery_id: str) -> None:
        """Send one copy to one recipient.

        The raw bytes are sent as they are, not parsed and written anew, so that signatures
        stay whole; the addresses, which do go into commands, are checked here once more.

        Raises:
            TemporaryFailure: Try again later.
            Refused: Never try again.
        """
        try:
            for address in filter(None, (slip.sender, slip.rcpt)):
                check(address)
        except BadAddress as error:
            raise Refused(f"553 5.1.3 {error}") from error
        host, _, port = self.address.rpartition(":")
        client = aiosmtplib.SMTP(
            hostname=host,
            port=int(port),
            local_hostname=self.name,
            start_tls=self.starttls,
            timeout=TIMEOUT_S,
        )
        body = outgoing(raw, delivery_id=delivery_id, name=self.name)
        try:
            async with client:
                await client.ehlo()  # what it offers decides how the copy is sent
                await client.sendmail(
                    slip.sender, [slip.rcpt], body, mail_options=_options(client, slip, body)
                )
        except (aiosmtplib.SMTPException, OSError) as error:
            answer = _read(error)
            if answer.code >= _PERMANENT:
                raise Refused(answer.text) from error
            raise TemporaryFailure(answer.text) from error


def _options(client: aiosmtplib.SMTP, slip: Slip, body: bytes) -> list[str]:
    options: list[str] = []
    if not body.isascii():
        if not client.supports_extension("8bitmime"):
            raise Refused("554 5.6.1 the next server takes no 8-bit mail")
        options.append("BODY=8BITMIME")
    if not (slip.sender + slip.rcpt).isascii():
        if not client.supports_extension("smtputf8"):
            raise Refused("550 5.6.7 the next server takes no address beyond ASCII")
        options.append("SMTPUTF8")
    return options


def _read(error: BaseException) -> _Answer:
    """Find code and text of the relay's reply; 0 where there was none."""
    match error:
        case aiosmtplib.SMTPRecipientsRefused(recipients=[first, *_]):
            return _read(first)
        case aiosmtplib.SMTPResponseException(code=int(code), message=str(text)):
            return _Answer(code=code, text=f"{code} {text}")
        case aiosmtplib.SMTPNotSupported():
            return _Answer(code=_PERMANENT + 54, text=f"554 {error}")
        case _:
            return _Answer(code=0, text=f"no answer: {str(error) or type(error).__name__}")
