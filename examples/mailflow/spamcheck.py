"""The spam check: an old filter in Perl that nobody rewrites, put to work as a guest.

It stays as it is, `legacy/junkfilter.pl`. A few lines of its own language beside it keep it
loaded, so that a mail costs no start of Perl.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import structlog

from examples.mailflow.messages import Copy, Screened
from rolekit import Context, VMRole, WorkerRole, handle
from rolekit.errors import GuestFailed
from rolekit.guest import Frames, Guest, Limits, Process

FILTER = Path(__file__).parent / "legacy" / "junkfilter-frames.pl"
SEEN_BYTES = 256 * 1024
"""The filter looks at no more of a mail."""
UNCHECKED = "unchecked"
NO_PERL = (
    "There is no perl in PATH, which the spam check needs: all mail passes unchecked. "
    "Install it (Debian: apt-get install perl), and start mailflow again."
)

_LINE = re.compile(rb"X-Junk: (\d+\.\d)((?: [a-z0-9-]+)*)\n")

log = structlog.get_logger(__name__)


class SpamCheck(VMRole):
    """Scores each copy; what the score means is decided later."""

    filter = Guest(
        Frames("perl", str(FILTER)), host=Process(), limits=Limits(time_s=20, memory_mb=128)
    )

    @handle
    async def check(self, copy: Copy, ctx: Context) -> Screened:
        """Score one copy."""
        raw = await ctx.load(copy.slip.raw)
        score, rules = understood(await self.filter.ask(raw[:SEEN_BYTES]))
        return Screened(slip=copy.slip, score=score, rules=rules)


class Unchecked(WorkerRole):
    """Stands where the spam check does, on a machine without Perl."""

    async def on_start(self) -> None:
        """Say that it is not one."""
        log.warning(NO_PERL)

    @handle
    async def check(self, copy: Copy) -> Screened:
        """Pass a copy on, with a note."""
        return Screened(slip=copy.slip, score=0, rules=[UNCHECKED])


def understood(answer: bytes) -> tuple[float, list[str]]:
    """Read what the filter wrote: a score, and the names of the rules that hit.

    Raises:
        GuestFailed: It is not what the filter writes.
    """
    found = _LINE.fullmatch(answer)
    if found is None:
        raise GuestFailed(f"junkfilter wrote {answer[:80]!r}; an X-Junk line was expected.")
    return float(found[1]), found[2].decode("ascii").split()


def spam_check() -> type[WorkerRole]:
    """Return the role that this machine can run."""
    return SpamCheck if shutil.which("perl") else Unchecked
