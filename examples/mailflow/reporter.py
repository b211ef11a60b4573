"""The report: one line for each recipient, in their order, as the copies close."""

from __future__ import annotations

from collections.abc import AsyncIterator

from examples.mailflow.messages import (
    Bounced,
    Compose,
    Delivered,
    Line,
    Progress,
    Report,
    Tally,
)
from rolekit import Context, Hole, Run, WorkerRole, gather


def line_of(number: int, rcpt: str, part: Delivered | Bounced | Hole) -> Line:
    """Say what became of one copy."""
    match part:
        case Delivered(folder="junk"):
            return Line(number=number, rcpt=rcpt, outcome="junk")
        case Delivered():
            return Line(number=number, rcpt=rcpt, outcome="delivered")
        case Bounced():
            return Line(number=number, rcpt=rcpt, outcome="bounced", detail=part.why)
        case Hole():
            return Line(number=number, rcpt=rcpt, outcome="lost", detail=part.detail)


class Reporter(WorkerRole):
    """Gathers the copies of each mail."""

    @gather(deadline_s=3600)
    async def report(
        self, mail: Compose, run: Run[Delivered | Bounced | Hole], ctx: Context
    ) -> AsyncIterator[Progress | Report]:
        """Write and tell the next lines; with the last ones, the sums.

        The lines are numbered by their place in the run, not by what the parts say of
        themselves: the page and the checker compare the two.
        """
        tally = await ctx.state(Tally)
        lines: list[Line] = []
        for number, part in enumerate(run, run.offset):
            rcpt = mail.recipients[number] if isinstance(part, Hole) else part.rcpt
            line = line_of(number, rcpt, part)
            setattr(tally, line.outcome, getattr(tally, line.outcome) + 1)
            lines.append(line)
        _write(ctx, lines)
        of = len(mail.recipients)
        yield Progress(done=run.offset + len(lines), of=of, lines=lines)
        if run.is_last:
            yield Report(
                of=of,
                delivered=tally.delivered,
                junk=tally.junk,
                bounced=tally.bounced,
                lost=tally.lost,
            )


def _write(ctx: Context, lines: list[Line]) -> None:
    ctx.write(
        "insert into mail.report (mail_id, number, rcpt, outcome, detail)"
        " select $1, line.number, line.rcpt, line.outcome, line.detail"
        " from unnest($2::int[], $3::text[], $4::text[], $5::text[])"
        " with ordinality as line (number, rcpt, outcome, detail, place)"
        " order by line.place",
        ctx.root_id,
        [line.number for line in lines],
        [line.rcpt for line in lines],
        [line.outcome for line in lines],
        [line.detail for line in lines],
    )
