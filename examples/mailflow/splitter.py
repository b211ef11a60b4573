"""One mail becomes one copy for each recipient."""

from __future__ import annotations

from collections.abc import AsyncIterator

from examples.mailflow.messages import Compose, Copy, Slip
from rolekit import Context, WorkerRole, handle


class Splitter(WorkerRole):
    """Keeps the letter once, however many copies of it there will be."""

    @handle
    async def split(self, mail: Compose, ctx: Context) -> AsyncIterator[Copy]:
        """Keep the bytes, then yield the copies in the order of the recipients.

        Blobs live as long as messages refer to them; a letter outlives its delivery, so it
        gets a row of its own. Both inserts may meet an earlier one: two mails of the same
        bytes share the letter.
        """
        ctx.write(
            "insert into mail.letter (id, raw) values ($1, $2) on conflict (id) do nothing",
            mail.raw.id,
            await ctx.load(mail.raw),
        )
        ctx.write(
            "insert into mail.sent (id, sender, letter, copies, accepted_at)"
            " values ($1, $2, $3, $4, $5) on conflict (id) do nothing",
            ctx.root_id,
            mail.sender,
            mail.raw.id,
            len(mail.recipients),
            ctx.sent_at,
        )
        for number, rcpt in enumerate(mail.recipients):
            yield Copy(
                slip=Slip(
                    mail_id=ctx.root_id,
                    number=number,
                    sender=mail.sender,
                    rcpt=rcpt,
                    raw=mail.raw,
                    accepted_at=ctx.sent_at,
                )
            )
