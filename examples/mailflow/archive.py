"""The mail archive: an old CGI behind Apache, both as they are, as the guest of a role.

What it writes is not trusted: `MailFront` sends it on as a page that can do nothing.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote_plus

from rolekit import Blob, Context, Message, Reply, VMRole, handle
from rolekit.errors import GuestFailed
from rolekit.guest import Guest, Http, HttpGuest, Limits, Process

LEGACY = Path(__file__).parent / "legacy"
OK = 200
PAGE_BYTES = 1 << 20
"""Of a page, at most: what Apache may write for one request."""


class Look(Message, name="mail.look"):
    """Asks for the page of a mailbox.

    Attributes:
        owner: Whose it is.
        mbox: Its mails, the oldest first, as far as they are shown.
    """

    owner: str
    mbox: Blob


class Page(Reply, name="mail.page"):
    """A page of the archive, as the old program wrote it: not to be trusted."""

    html: str


def apache(legacy: Path = LEGACY) -> Guest[HttpGuest]:
    """Declare Apache with the CGI in a folder."""
    httpd = Http(
        "apache2",
        "-DFOREGROUND",
        "-C",
        f'Define LEGACY "{legacy}"',
        "-f",
        str(legacy / "archive.conf"),
        health="/archive",
        status=OK,
        in_flight=4,
    )
    return Guest(httpd, host=Process(), limits=Limits(time_s=30, memory_mb=256, output_mb=1))


class Archive(VMRole):
    """Shows mailboxes as they were shown twenty years ago."""

    concurrency = 4
    httpd = apache()

    @handle(timeout_s=60)
    async def show(self, look: Look, ctx: Context) -> Page:
        """Hand the mails to the CGI, and its page back."""
        answer = await self.httpd.request(
            "POST",
            f"/archive?{quote_plus(look.owner)}",
            headers={"Content-Type": "application/mbox"},
            body=await ctx.load(look.mbox),
        )
        if answer.status != OK:
            raise GuestFailed(f"archive.cgi answered {answer.status}, not {OK}.")
        return Page(html=answer.body[:PAGE_BYTES].decode(errors="replace"))
