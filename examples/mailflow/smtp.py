"""The SMTP way in: aiosmtpd's protocol on a socket that the supervisor keeps open."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from typing import TYPE_CHECKING

from aiosmtpd.smtp import SMTP as Protocol  # noqa: N811  SMTP is the role, here
from aiosmtpd.smtp import Envelope, Session

from examples.mailflow.addresses import BadAddress, check, domain_of
from examples.mailflow.messages import Compose
from rolekit import WorkerRole
from rolekit.errors import RolekitError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from rolekit import Client
    from rolekit.observe.taking import Taking

    Traced = Callable[..., AbstractContextManager[Taking]]

log = logging.getLogger(__name__)
# aiosmtpd tells each line of each session; addresses do not belong into the log.
logging.getLogger("mail.log").setLevel(logging.WARNING)

NULL_PATH = "<>"
CLOSE_S = 10
"""Seconds that mails on their way in get to be accepted, when the listener stops."""

_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
_MESSAGE_ID = re.compile(rb"^message-id:", re.IGNORECASE | re.MULTILINE)


def submission_key(sender: str, recipients: list[str], raw: bytes) -> str | None:
    """Name a submission, so that one which comes again is the same one.

    A client that lost the connection before our 250 must send again (RFC 5321, 4.5.4.1),
    and would send twice. A message with a Message-ID that comes from the same sender to the
    same recipients with the same bytes is taken for such a repeat.

    Returns:
        An idempotency key, or None for a message without Message-ID.
    """
    head = re.split(rb"\r?\n\r?\n", raw, maxsplit=1)[0]
    if not _MESSAGE_ID.search(head):
        return None
    digest = hashlib.sha256()
    for part in (sender.encode(), *(rcpt.encode() for rcpt in recipients), raw):
        digest.update(len(part).to_bytes(8, "big") + part)
    return f"smtp-{digest.hexdigest()}"


class Intake:
    """Decides about commands and mails, as aiosmtpd asks; one for all connections.

    Attributes:
        sessions: Open connections.
        under_way: One for each mail between its DATA and our answer; done when answered.
    """

    def __init__(
        self, client: Client, traced: Traced, *, domains: set[str], max_recipients: int
    ) -> None:
        self._client = client
        self.traced = traced
        self._domains = domains
        self._max_recipients = max_recipients
        self.sessions: set[Conversation] = set()
        self.under_way: set[asyncio.Future[None]] = set()

    async def handle_EHLO(  # noqa: N802  aiosmtpd's names and parameters
        self,
        server: Protocol,
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        session.host_name = hostname
        responses.insert(1, "250-PIPELINING")  # commands are read one by one from a buffer
        return responses

    async def handle_MAIL(  # noqa: N802
        self,
        server: Protocol,
        session: Session,
        envelope: Envelope,
        address: str,
        mail_options: list[str],
    ) -> str:
        if address != NULL_PATH:
            try:
                check(address, allows_utf8=bool(envelope.smtp_utf8))
            except BadAddress as error:
                return f"553 5.1.7 {error}"
        envelope.mail_from = address
        envelope.mail_options.extend(mail_options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self,
        server: Protocol,
        session: Session,
        envelope: Envelope,
        address: str,
        rcpt_options: list[str],
    ) -> str:
        if len(envelope.rcpt_tos) >= self._max_recipients:
            return f"452 4.5.3 at most {self._max_recipients} recipients a message"
        try:
            check(address, allows_utf8=bool(envelope.smtp_utf8))
        except BadAddress as error:
            return f"553 5.1.3 {error}"
        if domain_of(address) not in self._domains:
            return "550 5.7.1 no mail for this domain is taken here"
        if address not in envelope.rcpt_tos:
            envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802
        self, server: Conversation, session: Session, envelope: Envelope
    ) -> str:
        answer = await self._taken(envelope)
        if server.taking is not None and not answer.startswith("250"):
            server.taking.refused(answer[:3])
        return answer

    async def _taken(self, envelope: Envelope) -> str:
        raw = envelope.original_content or b""
        if _BARE.search(raw):
            return "554 5.6.0 a lone CR or LF in the message; lines end with CRLF"
        sender = "" if envelope.mail_from in {None, NULL_PATH} else str(envelope.mail_from)
        return await self._accept(sender, [str(rcpt) for rcpt in envelope.rcpt_tos], raw)

    async def _accept(self, sender: str, recipients: list[str], raw: bytes) -> str:
        """Say 250 only when the mail is durable: from then on it is ours to lose."""
        try:
            blob = await self._client.save(raw, "message/rfc822")
            receipt = await self._client.send(
                Compose(sender=sender, recipients=recipients, raw=blob),
                idempotency_key=submission_key(sender, recipients, raw),
            )
        except RolekitError as error:
            log.warning("a mail of %r was not stored, it may come again: %s", sender, error)
            return "451 4.3.0 not stored; try again later"
        return f"250 2.0.0 queued as {receipt.id}"

    async def handle_exception(self, error: Exception) -> str:
        log.error("an SMTP session failed", exc_info=error)
        return "451 4.3.0 local error; try again later"


class Conversation(Protocol):
    """One connection, known to the intake while it is open.

    Attributes:
        taking: The mail that is on its way in, for its trace.
    """

    taking: Taking | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        self.event_handler.sessions.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """End."""
        super().connection_lost(error)
        self.event_handler.sessions.discard(self)

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802  aiosmtpd's name
        """Take a mail, and let the intake know for how long."""
        answered = self.loop.create_future()
        self.event_handler.under_way.add(answered)
        try:
            # The trace of a mail begins here: all that is sent inside follows from it.
            with self.event_handler.traced("DATA", network__protocol__name="smtp") as taking:
                self.taking = taking
                await super().smtp_DATA(arg)
        finally:
            self.event_handler.under_way.discard(answered)
            answered.set_result(None)

    def dismiss(self) -> None:
        """Tell the client to come back later, and hang up."""
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.write(b"421 4.3.2 this server stops; try again\r\n")
            self.transport.close()


class Smtp(WorkerRole):
    """Listens for mail.

    Attributes:
        domain: Mail is taken for this domain,
        relay_domains: and for these, separated by blanks.
        max_bytes: Size of a message, at most; told to clients by SIZE.
        max_recipients: Recipients of a message, at most.
        idle_s: Seconds of silence after which a connection is closed.
    """

    bind = "127.0.0.1:2525"
    domain: str = "mail.example"
    relay_domains: str = ""
    max_bytes: int = 16 * 1024 * 1024
    max_recipients: int = 1000
    idle_s: float = 300

    async def run(self, client: Client) -> None:
        """Serve until stopped; then let mails that are being stored get their answer."""
        intake = Intake(
            client,
            self.traced,
            domains={self.domain, *self.relay_domains.split()},
            max_recipients=self.max_recipients,
        )
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Conversation(
                intake,
                data_size_limit=self.max_bytes,
                enable_SMTPUTF8=True,
                hostname=self.domain,
                ident="mailflow",
                timeout=self.idle_s,
                loop=loop,
            ),
            sock=self.listening,
        )
        try:
            await server.serve_forever()
        finally:
            server.close()
            if intake.under_way:
                await asyncio.wait(set(intake.under_way), timeout=CLOSE_S)
            for session in set(intake.sessions):
                session.dismiss()
