"""From what somebody typed into a form to the bytes of a mail."""

from __future__ import annotations

import datetime as dt
import re
import secrets
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTPUTF8
from email.utils import format_datetime

from examples.mailflow.addresses import BadAddress, check, split_list
from examples.mailflow.mailtext import Part, printable

MAX_RECIPIENTS = 1000
_KEY = re.compile(r"(\d{9,11})-([0-9a-f]{16})")


def new_key(now: dt.datetime) -> str:
    """Name a form when it is shown: time and a random number."""
    return f"{int(now.timestamp())}-{secrets.token_hex(8)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Where a mail comes from and goes to; `errors` by field, when it cannot go there."""

    sender: str
    recipients: list[str]
    errors: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def read(cls, sender: str, recipients: str) -> Envelope:
        """Read and check the addresses in two form fields."""
        errors: dict[str, str] = {}
        sender = sender.strip()
        wanted = split_list(recipients)
        try:
            check(sender)
        except BadAddress as error:
            errors["sender"] = f"{printable(sender) or 'Nothing'} will not do: {error}."
        for rcpt in wanted:
            try:
                check(rcpt)
            except BadAddress as error:
                errors["recipients"] = f"{printable(rcpt)} will not do: {error}."
                break
        if not wanted:
            errors["recipients"] = "Write at least one address."
        if len(wanted) > MAX_RECIPIENTS:
            errors["recipients"] = f"At most {MAX_RECIPIENTS} addresses, not {len(wanted)}."
        return cls(sender=sender, recipients=wanted, errors=errors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A mail as it was typed.

    Attributes:
        key: Of the form (`new_key`). Date, Message-ID and boundary come from it, so that
            the same form sent twice is the same mail.
        shown_recipients: For the To header.
    """

    key: str
    sender: str
    shown_recipients: list[str]
    subject: str
    text: str
    files: list[Part]

    def to_bytes(self) -> bytes:
        """Write the mail, each line ended by CRLF.

        Raises:
            ValueError: The key is not one of `new_key`.
        """
        match = _KEY.fullmatch(self.key)
        if match is None:
            raise ValueError("This form is too old or was changed; load the page again.")
        message = EmailMessage(policy=SMTPUTF8)
        message["From"] = self.sender
        message["To"] = self._to()
        message["Subject"] = printable(self.subject)
        message["Date"] = format_datetime(dt.datetime.fromtimestamp(int(match[1]), tz=dt.UTC))
        message["Message-ID"] = f"<{self.key}@mailflow.example>"
        message.set_content(self.text.replace("\r\n", "\n").replace("\r", "\n"))
        for part in self.files:
            maintype, _, subtype = _media_type(part.media_type).partition("/")
            message.add_attachment(
                part.data, maintype=maintype, subtype=subtype, filename=printable(part.name)
            )
        if self.files:
            message.set_boundary(f"=_{self.key}")
        return message.as_bytes()

    def _to(self) -> str:
        few = 10
        if len(self.shown_recipients) <= few:
            return ", ".join(self.shown_recipients)
        return "undisclosed-recipients:;"


def _media_type(given: str) -> str:
    """Take the browser's word for a file's type, unless that would change its bytes."""
    known = re.fullmatch(r"(application|audio|image|video|font)/[a-z0-9.+-]+|text/csv", given)
    return given if known else "application/octet-stream"
