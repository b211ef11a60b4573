"""The HTTP way in, and the pages."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import AsyncIterator

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from examples.mailflow import boxes, pages, schema
from examples.mailflow.addresses import BadAddress, check, split_list
from examples.mailflow.mailtext import Letter, Part, attachments
from examples.mailflow.messages import Compose, Progress, Report
from examples.mailflow.written import MAX_RECIPIENTS, Envelope, Written, new_key
from rolekit import Blob, Receipt, Reject, WebRole, web

RFC822 = "message/rfc822"


def _checked(mail: Compose) -> Compose:
    """Refuse a mail whose addresses are none.

    Raises:
        Reject: With the address and what is wrong with it; answered with 422.
    """
    if not 0 < len(mail.recipients) <= MAX_RECIPIENTS:
        raise Reject(
            f"A mail has 1 to {MAX_RECIPIENTS} recipients, not {len(mail.recipients)}."
        )
    for address in filter(None, (mail.sender, *mail.recipients)):
        try:
            check(address)
        except BadAddress as error:
            raise Reject(f"{address!r} is not an address: {error}.") from error
    return mail


class MailFront(WebRole):
    """Takes mail from programs and people, and shows what became of it."""

    bind = "127.0.0.1:8025"
    instances = 2
    max_body_bytes = 24 << 20

    async def on_start(self) -> None:
        """Make mailflow's tables, if this is the first start on this database."""
        async with self.tx() as tx:
            await schema.create(tx)

    # -- for programs

    @web.post("/letters", status=201)
    async def keep(self, raw: bytes) -> Blob:
        """Keep the bytes of a mail, to be sent with `POST /mail`."""
        return await self.client.save(raw, RFC822)

    @web.post("/mail", status=202)
    async def compose(self, mail: Compose) -> Receipt:
        """Send a mail whose bytes are kept already."""
        return await self.client.send(_checked(mail))

    @web.post("/mail/raw", status=202)
    async def upload(self, raw: bytes, sender: str, to: str) -> Response:
        """Send the body of the request, byte for byte, to the addresses in `to`."""
        blob = await self.client.save(raw, RFC822)
        mail = Compose(sender=sender, recipients=split_list(to), raw=blob)
        return pages.accepted(await self.client.send(_checked(mail)))

    @web.get("/mail/{mail_id}/live")
    def live(self, mail_id: str) -> AsyncIterator[Progress | Report]:
        """Stream the report as it closes, in the order of the recipients."""
        return self.client.follow(mail_id, Progress, until=Report)

    # -- for people

    @web.get("/")
    async def blank(self) -> Response:
        """Show the page to write on."""
        return self._form({}, {}, 200)

    @web.post("/")
    async def write(self, request: Request) -> Response:
        """Send what was written on the page, or show it again with what is wrong."""
        if _is_foreign(request):
            return pages.page("missing.html", 403, what="a way to send forms from other sites")
        async with request.form(max_files=20, max_part_size=16 * 1024 * 1024) as form:
            values = {name: value for name, value in form.items() if isinstance(value, str)}
            files = [await _part(item) for item in form.getlist("files")]
        files = [part for part in files if part.data or part.name]
        envelope = Envelope.read(values.get("sender", ""), values.get("recipients", ""))
        if envelope.errors:
            return self._form(values, envelope.errors, 422)
        try:
            raw = _raw(values, envelope, files)
        except ValueError as error:
            return self._form(values, {"files": str(error)}, 422)
        receipt = await self.client.send(
            Compose(
                sender=envelope.sender,
                recipients=envelope.recipients,
                raw=await self.client.save(raw, RFC822),
            ),
            idempotency_key=f"form-{values['key']}",
        )
        return pages.redirect(f"/mail/{receipt.id}")

    @web.get("/mail/{mail_id}")
    async def progress(self, mail_id: str) -> Response:
        """Show the report as far as it has closed; the page follows the rest."""
        if not mail_id.isalnum():
            return pages.not_found("a mail of that name")
        async with self.tx() as tx:
            mail = await boxes.sent_one(tx, mail_id)
            lines = await boxes.report(tx, mail_id)
        return pages.page("progress.html", mail_id=mail_id, mail=mail, lines=lines, nav="sent")

    @web.get("/sent")
    async def sent(self) -> Response:
        """List the mails that came in last."""
        async with self.tx() as tx:
            return pages.page("sent.html", mails=await boxes.sent(tx), nav="sent")

    @web.get("/mailboxes")
    async def mailboxes(self, after: str = "") -> Response:
        """List the mailboxes."""
        if not after.isprintable():
            return pages.not_found("a mailbox of that name")
        async with self.tx() as tx:
            found = await boxes.boxes(tx, after=after)
        rows, more = found[: boxes.PAGE], len(found) > boxes.PAGE
        return pages.page("mailboxes.html", boxes=rows, more=more, nav="mailboxes")

    @web.get("/mailboxes/{owner:path}")
    async def mailbox(self, owner: str, before: int = sys.maxsize) -> Response:
        """List one mailbox."""
        if not owner.isprintable():
            return pages.not_found("a mailbox of that name")
        async with self.tx() as tx:
            found = await boxes.items(tx, owner, before=before)
        rows, more = found[: boxes.PAGE], len(found) > boxes.PAGE
        return pages.page("mailbox.html", owner=owner, items=rows, more=more, nav="mailboxes")

    @web.get("/messages/{n}")
    async def message(self, n: int) -> Response:
        """Show one message: headers, text, attachments; nothing in it is run."""
        found = await self._received(n)
        if found is None:
            return pages.not_found(f"message {n}")
        return pages.page(
            "message.html",
            message=found,
            letter=Letter.read(found.raw),
            attachments=attachments(found.raw),
            nav="mailboxes",
        )

    @web.get("/messages/{n}/raw")
    async def raw(self, n: int) -> Response:
        """Hand out a message as it came."""
        found = await self._received(n)
        if found is None:
            return pages.not_found(f"message {n}")
        return pages.download(found.raw, f"message-{n}.eml", RFC822)

    @web.get("/messages/{n}/files/{number}")
    async def attachment(self, n: int, number: int) -> Response:
        """Hand out one attachment; `number` counts from 1."""
        found = await self._received(n)
        parts = attachments(found.raw) if found else []
        if not 0 < number <= len(parts):
            return pages.not_found(f"attachment {number} of message {n}")
        return pages.download(parts[number - 1].data, parts[number - 1].name)

    @web.get("/static/{name}")
    async def static(self, name: str) -> Response:
        """Serve style and script."""
        return pages.file(name)

    async def _received(self, n: int) -> boxes.Received | None:
        if not 0 < n < sys.maxsize:
            return None
        async with self.tx() as tx:
            return await boxes.received(tx, n)

    @staticmethod
    def _form(values: dict[str, str], errors: dict[str, str], status: int) -> Response:
        shown = {"sender": "", "recipients": "", "subject": "", "text": ""} | values
        shown["key"] = values.get("key") or new_key(dt.datetime.now(dt.UTC))
        return pages.page("compose.html", status, form=shown, errors=errors, nav="write")


def _is_foreign(request: Request) -> bool:
    """Tell whether a browser sends this form for another site."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    return site not in {"same-origin", "none"}


async def _part(item: object) -> Part:
    if not isinstance(item, UploadFile):
        return Part("", "", b"")
    return Part(item.filename or "", item.content_type or "", await item.read())


def _raw(values: dict[str, str], envelope: Envelope, files: list[Part]) -> bytes:
    """Take a single .eml file as the mail itself, if so asked; else write one.

    Raises:
        ValueError: It cannot be done; the text is for whoever filled in the form.
    """
    if values.get("as_is"):
        if len(files) != 1:
            raise ValueError("To send a file as it is, choose exactly one.")
        return files[0].data
    written = Written(
        key=values.get("key", ""),
        sender=envelope.sender,
        shown_recipients=envelope.recipients,
        subject=values.get("subject", ""),
        text=values.get("text", ""),
        files=files,
    )
    return written.to_bytes()
