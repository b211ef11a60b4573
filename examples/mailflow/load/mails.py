"""Mail to send: which, to whom, by which way; and sending it so that nothing is sent twice.

Each mail is sent again until somebody has surely taken it, whatever dies meanwhile. That is
safe: HTTP requests carry an Idempotency-Key, and over SMTP go only mails with a Message-ID
(`smtp.submission_key`).
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import aiosmtplib
import httpx
import msgspec

from examples.mailflow.checker import Expected
from examples.mailflow.smtp import submission_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from examples.mailflow.samples import Sample

DOMAIN = "mail.example"
BUSY = frozenset({409, 502, 503, 504})
LARGE_BYTES = 200_000
Way = Literal["http", "raw", "smtp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail to send.

    Attributes:
        key: Names it in every attempt to send it.
        bounces: Whether all its copies must (it has a virus).
        way: `http`: bytes first, then the envelope as JSON. `raw`: both in one request.
    """

    key: str
    raw: bytes
    sender: str
    recipients: tuple[str, ...]
    bounces: bool
    way: Way

    def expected(self, mail_id: str) -> Expected:
        """Say what the checker should find."""
        return Expected(
            sha256=hashlib.sha256(self.raw).hexdigest(),
            recipients=self.recipients,
            owners=tuple(self._owner(rcpt) for rcpt in self.recipients),
            mail_id=mail_id,
        )

    def _owner(self, rcpt: str) -> str | None:
        is_known = rcpt.endswith(f"@{DOMAIN}") and not rcpt.startswith("nobody@")
        return rcpt if is_known and not self.bounces else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where mailflow listens: base URL of the front, host and port of SMTP."""

    front: str
    smtp_host: str
    smtp_port: int


class NotAccepted(Exception):
    """A mail was refused for good, or was not accepted in time."""


def make_load(
    samples: Sequence[Sample], *, copies: int, people: int, run: str, seed: int = 1
) -> list[Mail]:
    """Make mails with about so many copies in all; each sample comes at least once.

    Args:
        samples: Taken in turn.
        copies: Copies in all, nearly: the last mail is not cut.
        people: Mailboxes that there are.
        run: Makes the bytes and the keys differ from those of other runs.
        seed: The same seed gives the same recipients.
    """
    chance = random.Random(seed)  # noqa: S311  a load, wanted again
    everybody = [f"person-{number:03}@{DOMAIN}" for number in range(people)]
    everybody[-2:] = [f"ζωή@{DOMAIN}", f"用户@{DOMAIN}"]
    mails: list[Mail] = []
    total = 0
    while total < copies or len(mails) < len(samples):
        number = len(mails)
        sample = samples[number % len(samples)]
        left = copies - total - (len(samples) - number if number < len(samples) else 0)
        mail = _mail(sample, f"{run}-{number}", _some(everybody, sample, left, chance), chance)
        mails.append(mail)
        total += len(mail.recipients)
    return mails


def _some(everybody: list[str], sample: Sample, left: int, chance: random.Random) -> list[str]:
    """Draw recipients: few for large mails, everybody for a plain one."""
    most = 3 if len(sample.raw) > LARGE_BYTES else chance.choice((5, 20, 40, 60))
    if sample.name == "plain":
        most = len(everybody)
    return chance.sample(everybody, max(1, min(most, left, len(everybody))))


def _mail(sample: Sample, key: str, recipients: list[str], chance: random.Random) -> Mail:
    raw = f"X-Mailflow-Load: {key}\r\n".encode() + sample.raw
    sender = f"sender-{chance.randrange(10)}@{DOMAIN}"
    fits_smtp = sample.fits_smtp and submission_key(sender, recipients, raw) is not None
    ways: tuple[Way, ...] = ("http", "raw", "smtp", "smtp") if fits_smtp else ("http", "raw")
    way = chance.choice(ways)
    if len(recipients) > 3:
        place = chance.randrange(len(recipients))
        recipients[place] = f"nobody@{DOMAIN}" if way == "smtp" else "stranger@far.example"
    return Mail(
        key=key,
        raw=raw,
        sender=sender,
        recipients=tuple(recipients),
        bounces=sample.fate == "infected",
        way=way,
    )


class Sender:
    """Sends mails, again and again until each is taken.

    Args:
        target: Where to.
        patience_s: How long one mail is tried.
        transport: For tests: answers HTTP instead of a server.

    Attributes:
        attempts: How often anything was tried.
    """

    def __init__(
        self,
        target: Target,
        *,
        patience_s: float = 60,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._target = target
        self._patience_s = patience_s
        self._http = httpx.AsyncClient(base_url=target.front, timeout=30, transport=transport)
        self.attempts = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def send(self, mail: Mail) -> str:
        """Send one mail; return its receipt.

        Raises:
            NotAccepted: It was refused, or nobody took it in time.
        """
        give_up = asyncio.get_running_loop().time() + self._patience_s
        pause_s = 0.05
        while True:
            self.attempts += 1
            try:
                return await (
                    self._by_smtp(mail) if mail.way == "smtp" else self._by_http(mail)
                )
            except _TryAgain as again:
                if asyncio.get_running_loop().time() > give_up:
                    raise NotAccepted(f"{mail.key} by {mail.way}: {again}") from again
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 1)

    async def send_all(
        self,
        mails: Sequence[Mail],
        *,
        at_once: int = 8,
        on_sent: Callable[[Mail, str], None] = lambda mail, mail_id: None,
    ) -> list[Expected]:
        """Send all, some at once; return what the checker should find, in their order."""
        room = asyncio.Semaphore(at_once)

        async def one(mail: Mail) -> Expected:
            async with room:
                mail_id = await self.send(mail)
            on_sent(mail, mail_id)
            return mail.expected(mail_id)

        async with asyncio.TaskGroup() as tasks:
            found = [tasks.create_task(one(mail)) for mail in mails]
        return [task.result() for task in found]

    async def _by_http(self, mail: Mail) -> str:
        if mail.way == "raw":
            query = {"sender": mail.sender, "to": ",".join(mail.recipients)}
            answer = await self._post("/mail/raw", mail, content=mail.raw, params=query)
        else:
            blob = await self._post("/letters", mail, content=mail.raw, params={})
            body = {
                "sender": mail.sender,
                "recipients": mail.recipients,
                "raw": msgspec.json.decode(blob.content),
            }
            content = msgspec.json.encode(body)
            answer = await self._post("/mail", mail, content=content, params={})
        return msgspec.json.decode(answer.content, type=dict[str, str])["id"]

    async def _post(
        self, path: str, mail: Mail, *, content: bytes, params: dict[str, str]
    ) -> httpx.Response:
        media_type = "application/json" if path == "/mail" else "message/rfc822"
        headers = {"Content-Type": media_type, "Idempotency-Key": f"{mail.key}{path}"}
        try:
            answer = await self._http.post(
                path, content=content, params=params, headers=headers
            )
        except httpx.TransportError as error:
            raise _TryAgain(str(error) or type(error).__name__) from error
        if answer.status_code in BUSY:
            raise _TryAgain(f"{answer.status_code} {answer.text[:200]}")
        if not answer.is_success:
            raise NotAccepted(f"{mail.key}: {path}: {answer.status_code} {answer.text[:500]}")
        return answer

    async def _by_smtp(self, mail: Mail) -> str:
        options = ["BODY=8BITMIME"]
        if not (mail.sender + "".join(mail.recipients)).isascii():
            options.append("SMTPUTF8")
        client = aiosmtplib.SMTP(
            hostname=self._target.smtp_host,
            port=self._target.smtp_port,
            local_hostname="load.mail.example",
            start_tls=False,
            timeout=30,
        )
        try:
            async with client:
                refused, reply = await client.sendmail(
                    mail.sender, list(mail.recipients), mail.raw, mail_options=options
                )
        except aiosmtplib.SMTPResponseException as error:
            if error.code >= 500:
                raise NotAccepted(f"{mail.key}: {error.code} {error.message}") from error
            raise _TryAgain(f"{error.code} {error.message}") from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise _TryAgain(str(error) or type(error).__name__) from error
        if refused:
            raise NotAccepted(f"{mail.key}: recipients refused: {refused}")
        return reply.rpartition(" ")[2]


class _TryAgain(Exception):
    """Nobody took the mail, or nobody said so; it may be sent again."""
