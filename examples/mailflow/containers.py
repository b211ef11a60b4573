"""The app in containers: `ROLEKIT_APP=examples.mailflow.containers:app`, in all of them.

Like `app.py`, but SpamAssassin checks for spam, and there is an archive: an old CGI behind
Apache. Their roles, `SpamCheck` and `Archive`, need an image with `spamd` and `apache2`.
"""

from __future__ import annotations

from starlette.responses import Response

from examples.mailflow import archived, front, pages
from examples.mailflow.archive import Archive, Look, Page
from examples.mailflow.deliverer import Deliverer
from examples.mailflow.inspector import Inspector
from examples.mailflow.reporter import Reporter
from examples.mailflow.smtp import Smtp
from examples.mailflow.spamassassin import SpamCheck
from examples.mailflow.splitter import Splitter
from rolekit import App, web

ANSWER_S = 30.0


class MailFront(front.MailFront):
    """The front, and the archive's pages."""

    @web.get("/archive/{owner:path}")
    async def archive(self, owner: str) -> Response:
        """Show a mailbox as the old program does: its page, which may do nothing."""
        if not owner.isprintable():
            return pages.not_found("an archive of that name")
        async with self.tx() as tx:
            mbox = await archived.mbox(tx, owner)
        look = Look(owner=owner, mbox=await self.client.save(mbox, "application/mbox"))
        page = await self.client.ask(look, Page, timeout_s=ANSWER_S)
        return pages.untrusted(page.html)


app = App(
    "mailflow",
    roles=[MailFront, Smtp, Splitter, SpamCheck, Inspector, Deliverer, Reporter, Archive],
)
