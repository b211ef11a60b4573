"""Attachments: a split within the split, scanned in parallel, gathered for a judgement."""

from __future__ import annotations

from collections.abc import AsyncIterator

from examples.mailflow.mailtext import attachments
from examples.mailflow.messages import (
    JUNK_FROM,
    Attachment,
    Bounced,
    Deliver,
    Folder,
    Screened,
    Verdict,
)
from rolekit import Context, Hole, WorkerRole, gather, handle

EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}" + b"$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
"""What every scanner must take for a virus; in two halves, or this file is one."""


class Inspector(WorkerRole):
    """Looks into what came with a copy."""

    instances = 2
    concurrency = 50

    @handle
    async def open(self, copy: Screened, ctx: Context) -> AsyncIterator[Attachment]:
        """Take the attachments out; there may be none."""
        for attachment in attachments(await ctx.load(copy.slip.raw)):
            data = await ctx.save(attachment.data, attachment.media_type)
            yield Attachment(name=attachment.name, data=data)

    @handle(timeout_s=120)
    async def scan(self, attachment: Attachment, ctx: Context) -> Verdict:
        """Look for the test virus."""
        is_infected = EICAR in await ctx.load(attachment.data)
        return Verdict(name=attachment.name, is_infected=is_infected)

    @gather
    async def judge(self, copy: Screened, verdicts: list[Verdict | Hole]) -> Deliver | Bounced:
        """Decide about a copy when all its attachments were looked at.

        What could not be scanned is treated as if it were infected.
        """
        slip = copy.slip
        for verdict in verdicts:
            if isinstance(verdict, Hole):
                why = "an attachment could not be scanned"
                return Bounced(number=slip.number, rcpt=slip.rcpt, why=why)
            if verdict.is_infected:
                why = f"infected attachment: {verdict.name}"
                return Bounced(number=slip.number, rcpt=slip.rcpt, why=why)
        folder: Folder = "junk" if copy.score >= JUNK_FROM else "inbox"
        return Deliver(slip=slip, folder=folder, score=copy.score)
