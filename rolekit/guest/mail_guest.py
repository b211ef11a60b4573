"""Guests that take mail: by SMTP, or by LMTP, which answers for each recipient."""

from __future__ import annotations

import smtplib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

from rolekit.errors import GuestFailed, Reject, Retry
from rolekit.guest.servers import Server
from rolekit.guest.serves import Calls
from rolekit.guest.talks import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolekit.guest.servers import Door

OK, GO_ON, TRY_LATER, REFUSED, BEYOND = 200, 300, 400, 500, 600
"""Where the kinds of replies begin: RFC 5321, 4.2.1."""
CODE_DIGITS = 3


@dataclass(frozen=True, slots=True)
class MailReply:
    """What a server said to a mail for one recipient.

    Attributes:
        recipient: As it was given.
        code: 2xx: taken; 4xx: to be tried again; 5xx: refused.
        text: Its lines, without codes.
    """

    recipient: str
    code: int
    text: str

    @property
    def is_taken(self) -> bool:
        """Whether the server has taken the mail for this recipient."""
        return self.code < GO_ON

    def check(self) -> None:
        """Raise what it means.

        Raises:
            Retry: The server wants it tried again.
            Reject: The server refuses it.
        """
        if not self.is_taken:
            error = Retry if self.code < REFUSED else Reject
            raise error(f"{self.recipient}: {self.code} {self.text}")


class MailGuest(Protocol):
    """A program that takes mail."""

    async def send(
        self, sender: str, recipients: Sequence[str], mail: bytes, /
    ) -> list[MailReply]:
        """Hand a mail over.

        Args:
            sender: Address; empty for a notice that nobody shall answer (<>).
            recipients: Addresses, at least one.
            mail: Head and body. Ends of lines become CRLF, whatever they are.

        Returns:
            What the server said, for each recipient, in order.

        Raises:
            Reject: An address has something in it that no address has, or the server does
                not take addresses beyond ASCII.
            GuestFailed: There was no reply, or none that is one, or too late.
        """
        ...


class _Mail(Server[MailGuest]):
    _is_lmtp = False

    def serve(self, door: Door) -> MailGuest:
        """Begin to talk."""
        session = _LmtpSession if self._is_lmtp else _SmtpSession
        return cast("MailGuest", Calls(session, door))


class Smtp(_Mail):
    """A program that stays, and takes mail by SMTP, without encryption.

    Each mail has a connection of its own.

    Args:
        command: Program and arguments, as for `Server`.
        port: Where the program listens, if it cannot be told.
        in_flight: Mails at once, to one guest.
    """


class Lmtp(_Mail):
    """A program that stays, and takes mail by LMTP: it answers for each recipient.

    Otherwise like `Smtp`. Source: RFC 2033.
    """

    _is_lmtp = True


class _SmtpSession(Session):
    _hello = "EHLO"

    async def ready(self) -> None:
        """Wait for the greeting."""
        code, text = await self._reply()
        if code >= GO_ON:
            raise GuestFailed(f"it greets with {code} {text}")

    async def send(
        self, sender: str, recipients: Sequence[str], mail: bytes, /
    ) -> list[MailReply]:
        """Hand a mail over; see `MailGuest`."""
        if not recipients:
            raise Reject("a mail without a recipient cannot be handed over.")
        for address in (sender, *recipients):
            _check_address(address)
        knows = await self._extensions()
        options = "".join(self._options(knows, (sender, *recipients), mail))
        answer = await self._said(f"MAIL FROM:<{sender}>{options}")
        if answer[0] >= GO_ON:
            return await self._over([MailReply(each, *answer) for each in recipients])
        replies = [
            MailReply(each, *await self._said(f"RCPT TO:<{each}>")) for each in recipients
        ]
        taken = [place for place, reply in enumerate(replies) if reply.is_taken]
        if taken:
            last = await self._handed(mail, len(taken))
            for place, (code, text) in zip(taken, last, strict=True):
                replies[place] = MailReply(recipients[place], code, text)
        return await self._over(replies)

    async def _extensions(self) -> set[str]:
        """Introduce ourselves; return what the server can do besides."""
        code, text = await self._said(f"{self._hello} localhost")
        if code >= REFUSED and self._hello == "EHLO":
            code, text = await self._said("HELO localhost")
        if code >= GO_ON:
            raise GuestFailed(f"it does not speak with us: {code} {text}")
        return {line.split(" ")[0].upper() for line in text.splitlines()[1:]}

    def _options(self, knows: set[str], addresses: Sequence[str], mail: bytes) -> Sequence[str]:
        if not all(address.isascii() for address in addresses):
            if "SMTPUTF8" not in knows:
                raise Reject("the server takes no addresses beyond ASCII (SMTPUTF8).")
            return [" SMTPUTF8", " BODY=8BITMIME"]
        # Who does not announce it takes eight bits all the same, as all do by now.
        is_plain = mail.isascii() or "8BITMIME" not in knows
        return [] if is_plain else [" BODY=8BITMIME"]

    async def _handed(self, mail: bytes, count: int) -> list[tuple[int, str]]:
        """Hand the mail itself over; return a reply for each who shall get it."""
        code, text = await self._said("DATA", may_go_on=True)
        if code >= TRY_LATER:
            return [(code, text)] * count
        # Each end of a line becomes CRLF: one that is left is read as the end of the mail by
        # some. Latin-1 is bytes as they are.
        whole = smtplib.quotedata(mail.decode("latin-1")).encode("latin-1")
        if not whole.endswith(b"\r\n"):
            whole += b"\r\n"
        await self.write(whole + b".\r\n")
        return await self._results(count)

    async def _results(self, count: int) -> list[tuple[int, str]]:
        return [await self._reply()] * count

    async def _over(self, replies: list[MailReply]) -> list[MailReply]:
        """Say that we go; nobody waits for the answer."""
        await self.write(b"QUIT\r\n")
        return replies

    async def _said(self, line: str, *, may_go_on: bool = False) -> tuple[int, str]:
        await self.write(line.encode() + b"\r\n")
        return await self._reply(may_go_on=may_go_on)

    async def _reply(self, *, may_go_on: bool = False) -> tuple[int, str]:
        """Return a reply: its code, and its lines."""
        lines: list[str] = []
        while True:
            line = (await self.read_until(b"\n")).rstrip(b"\r\n").decode(errors="replace")
            code, mark, text = line[:CODE_DIGITS], line[CODE_DIGITS:][:1], line[4:]
            if not (code.isascii() and code.isdecimal() and mark in {"", " ", "-"}):
                raise GuestFailed(f"it said {line[:100]!r}, which is no reply of SMTP.")
            lines.append(text)
            if mark != "-":
                break
        number = int(code)
        good = GO_ON if may_go_on else OK
        if not (good <= number < good + 100 or TRY_LATER <= number < BEYOND):
            raise GuestFailed(f"it said {line[:100]!r}; {good} or an error was expected.")
        return number, "\n".join(lines)


class _LmtpSession(_SmtpSession):
    _hello = "LHLO"

    async def _results(self, count: int) -> list[tuple[int, str]]:
        return [await self._reply() for _ in range(count)]


def _check_address(address: str) -> None:
    """Refuse what would end an address, and begin something else.

    Raises:
        Reject: It has a control character or an angle bracket in it.
    """
    if not address.isprintable() or "<" in address or ">" in address:
        raise Reject(f"{address!r} is no address of mail: it has {_odd(address)!r} in it.")


def _odd(address: str) -> str:
    return next(char for char in address if not char.isprintable() or char in "<>")
