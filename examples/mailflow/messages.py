"""What travels between the roles of mailflow.

All but `Compose` carry the time they were made: a handler that runs twice makes another
body, and rolekit lets the first one count. `Compose` must not: a repeated request with the
same idempotency key has to have the same body.
"""

from __future__ import annotations

import datetime as dt
from typing import Literal

from rolekit import Blob, Message, Reply, State, field

Folder = Literal["inbox", "junk"]
Outcome = Literal["delivered", "junk", "bounced", "lost"]

JUNK_FROM = 5.0
"""A copy with this score, or more, is spam."""


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


class Compose(Message, name="mail.compose"):
    """A mail as it came in; `raw` is kept and delivered byte for byte.

    Attributes:
        sender: Envelope sender; empty for a bounce message (the null path of SMTP).
        recipients: Envelope recipients, in the order the report will have.
        raw: The message, RFC 5322.
    """

    sender: str
    recipients: list[str]
    raw: Blob


class Slip(Message):
    """What each message about one copy says of it.

    Attributes:
        mail_id: Id of the `Compose`; what its sender got as receipt.
        number: Place among the recipients, from 0.
        accepted_at: When the mail was accepted.
    """

    mail_id: str
    number: int
    sender: str
    rcpt: str
    raw: Blob
    accepted_at: dt.datetime


class Copy(Message):
    """One recipient's copy of a mail."""

    slip: Slip
    made_at: dt.datetime = field(default_factory=_now)


class Screened(Message):
    """A copy that went through the spam check.

    Attributes:
        score: From 0 up; `JUNK_FROM` and more is spam.
        rules: Names of the rules that hit.
    """

    slip: Slip
    score: float
    rules: list[str]
    made_at: dt.datetime = field(default_factory=_now)


class Attachment(Message):
    """One attachment of one copy."""

    name: str
    data: Blob
    made_at: dt.datetime = field(default_factory=_now)


class Verdict(Message):
    """What the scanner says about one attachment."""

    name: str
    is_infected: bool
    made_at: dt.datetime = field(default_factory=_now)


class Deliver(Message):
    """A copy that may be delivered, and into which folder."""

    slip: Slip
    folder: Folder
    score: float
    made_at: dt.datetime = field(default_factory=_now)


class Delivered(Message):
    """A copy that lies in its mailbox, or was taken by the relay."""

    number: int
    rcpt: str
    folder: Folder
    made_at: dt.datetime = field(default_factory=_now)


class Bounced(Message):
    """A copy that will not be delivered, and why."""

    number: int
    rcpt: str
    why: str
    made_at: dt.datetime = field(default_factory=_now)


class Line(Message):
    """One line of a report: what became of one copy."""

    number: int
    rcpt: str
    outcome: Outcome
    detail: str = ""


class Progress(Reply):
    """The next lines of a report, in recipient order.

    Attributes:
        done: Copies accounted for so far, these included.
        of: Copies in all.
        lines: Those that closed since the `Progress` before.
    """

    done: int
    of: int
    lines: list[Line]


class Report(Reply):
    """The end of a report: every copy is accounted for."""

    of: int
    delivered: int
    junk: int
    bounced: int
    lost: int


class Tally(State):
    """What a report has counted so far."""

    delivered: int = 0
    junk: int = 0
    bounced: int = 0
    lost: int = 0
